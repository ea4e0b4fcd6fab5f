"""The format of the lines in a messages file; `transcript` reads them.

A message is `{"role":…,"content":…,"extra":…,"message_id":…,"created_at":micros,"author":…,…}`;
only `role` and `content` are required, as in the original's files. If its operation has several
messages, its place among them is in `"part":[0,3]`, so that a torn append is recognized. The
message id contains the op id, which is the record of an append. A replaced message may have its
earlier versions in `"edits":[{"role":…,"content":…,"extra":…,"replaced_at":micros},…]`. What is
attached is in `"attachments":[{"kind":…,"name":…,"size":…,"sha256":…},…]`, its bytes in `.blobs`.

A line without a role, `{"applied":[[op_id,at,affected],…]}`, records the operations that no
message records: those that removed or changed messages, and appends whose messages were removed.
Readers of messages skip it. `.gone.json` and `.renames.json` contain such records, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final, NamedTuple

import orjson

from backscroll.contract.messages import (
    LATEST_MICROS,
    ChatMessage,
    EarlierVersion,
    from_micros,
    known_circumstances,
    to_micros,
)
from backscroll.contract.operations import Append
from backscroll_worker.contract.clock import Cutoff
from backscroll_worker.stores.blobs import Blobs
from backscroll_worker.stores.jsonl.decoding import as_utf8


class Record(NamedTuple):
    """When an operation was applied, in microseconds, and how many messages it affected."""

    at: int
    affected: int


Records = dict[str, Record]


class Part(NamedTuple):
    """A message's place among those of its operation."""

    number: int
    total: int


WHOLE: Final = Part(0, 1)
_IDENTITY: Final = frozenset(("message_id", "created_at", "part"))


@dataclass(slots=True)
class Line:
    """One message of the file, and the operation that added it.

    Never changed; creating a frozen instance would take three times as long.
    """

    message: ChatMessage
    raw: bytes
    op_id: str
    part: Part = WHOLE
    is_settled: bool = True
    """Whether `raw` contains all of `message`; the original's lines have neither id nor time."""

    @classmethod
    def of(cls, message: ChatMessage, op_id: str, part: Part = WHOLE) -> Line:
        fields = message.to_dict()
        if part != WHOLE:
            fields["part"] = list(part)
        shown = replace(message, edits=()) if message.edits else message
        return cls(shown, orjson.dumps(fields), op_id, part)

    def alone(self) -> Line:
        """This line without the other lines of its operation."""
        message_id = self.message.message_id or ""
        if self.is_settled and self.part == WHOLE:
            return self
        fields = orjson.loads(self.raw)
        if not _IDENTITY.isdisjoint(fields):  # another program's values for these are in `extra`
            return Line.of(self.with_edits(), message_id)
        raw = orjson.dumps({**fields, **_identity(self.message)})
        return Line(self.message, raw, message_id)

    def with_message(self, message: ChatMessage, kept_at: int | None = None) -> Line:
        """The line with its message replaced; id, time and earlier versions are kept.

        With `kept_at`, in microseconds, the replaced version is added to them, unless it is equal.
        """
        old, edits = self.message, self.edits()
        said = old.role, old.content, old.extra
        says = message.role, message.content, message.extra
        if kept_at is not None and said != says:
            edits = (*edits, EarlierVersion(*said, from_micros(kept_at)))
        new = replace(
            old, role=message.role, content=message.content, extra=message.extra, edits=edits,
            tokens=old.tokens if message.tokens is None else message.tokens,
            attachments=message.attachments or old.attachments,
        )  # fmt: skip
        return Line.of(new, self.op_id, self.part)

    def edits(self) -> tuple[EarlierVersion, ...]:
        """The readable earlier versions; `message` is without them, as they are rarely needed."""
        if b'"edits"' not in self.raw:
            return ()
        return earlier_versions(orjson.loads(self.raw).get("edits"))

    def with_edits(self) -> ChatMessage:
        """The message with its earlier versions."""
        edits = self.edits()
        return replace(self.message, edits=edits) if edits else self.message


def lines_of(operation: Append, blobs: Blobs, only: Sequence[int] | None = None) -> list[bytes]:
    """The lines of an append, each with its line feed, made without message objects.

    The bytes of attachments go into `blobs`.

    `only` are the indexes of some of its messages: then only theirs, each self-contained.
    """
    messages = operation.messages
    if only is None and operation.places is not None:
        only = range(len(messages))
    if only is not None:
        ids = operation.message_ids
        return [_encoded(messages[each], ids[each], operation.at, WHOLE, blobs) for each in only]
    if len(messages) == 1:
        return [_encoded(messages[0], operation.op_id, operation.at, WHOLE, blobs)]
    return [
        _encoded(message, message_id, operation.at, Part(number, len(messages)), blobs)
        for number, (message, message_id) in enumerate(
            zip(messages, operation.message_ids, strict=True)
        )
    ]


def note_platform_ids(lines: Iterable[Line], ids: dict[str, str]) -> dict[str, str]:
    """Note in `ids`, by the platform's id, the id of the first message that has it."""
    for line in lines:
        if line.message.platform_id is not None and line.message.message_id is not None:
            ids.setdefault(line.message.platform_id, line.message.message_id)
    return ids


def joined(lines: Iterable[bytes]) -> bytes:
    """The lines, each with a line feed."""
    return b"".join([part for line in lines for part in (line, b"\n")])


def control_line(records: Mapping[str, Record]) -> bytes:
    """The line that records operations."""
    return orjson.dumps({"applied": records_to_json(records)})


def records_to_json(records: Mapping[str, Record]) -> list[list[Any]]:
    return [[op_id, *record] for op_id, record in records.items()]


def records_from_json(value: object) -> Records | None:
    """The inverse of `records_to_json`; None if `value` is not its result."""
    if not isinstance(value, list):
        return None
    records: Records = {}
    for item in value:
        match item:
            case [str(op_id), int(at), int(affected)]:
                records[op_id] = Record(at, affected)
            case _:
                return None
    return records


def dump_records(records: Mapping[str, Record]) -> bytes:
    """The content of a file of records."""
    return orjson.dumps({"version": 1, "applied": records_to_json(records)}) + b"\n"


def load_records(content: bytes | None) -> Records:
    """The inverse of `dump_records`; empty if there is no file, or it is damaged."""
    try:
        fields = orjson.loads(content or b"{}")
    except ValueError:
        return {}
    return records_from_json(fields.get("applied")) or {} if isinstance(fields, dict) else {}


def drop_old(records: Records, old: Cutoff) -> int:
    """Remove the records of expired op ids; returns their number."""
    expired = [op_id for op_id, record in records.items() if old.is_past(record.at)]
    for op_id in expired:
        del records[op_id]
    return len(expired)


def rewritten(lines: Sequence[Line]) -> list[Line]:
    """The lines for a new file.

    If an operation has lost some of its lines, the others become lines of their own, or they would
    be taken for a torn append.
    """
    result: list[Line] = []
    for _, run in groupby(lines, key=lambda line: line.op_id):
        together = list(run)
        is_complete = len(together) == together[0].part.total
        if is_complete and all(line.is_settled for line in together):
            result += together
        else:
            result += [line.alone() for line in together]
    return result


def may_quote(content: bytes | None, author: str) -> bool:
    """Whether lines may have a message of the author, whose id may be written with escapes."""
    if content is None:
        return False
    content = as_utf8(content)
    return b'"author"' in content and (orjson.dumps(author) in content or b"\\u" in content)


def earlier_versions(edits: object) -> tuple[EarlierVersion, ...]:
    """The readable earlier versions in a line's `edits`."""
    found = [_earlier(fields) for fields in edits] if isinstance(edits, list) else []
    return tuple([edit for edit in found if edit is not None])


def _encoded(message: ChatMessage, message_id: str, at: int, part: Part, blobs: Blobs) -> bytes:
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.extra is not None:
        fields["extra"] = message.extra
    fields["message_id"] = message_id
    fields["created_at"] = at if message.created_at is None else to_micros(message.created_at)
    if part is not WHOLE:
        fields["part"] = list(part)
    if message.attachments:
        stored = blobs.stored(message.attachments)
        fields["attachments"] = [each.to_dict() for each in stored]
    fields |= known_circumstances(message)
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def _earlier(fields: object) -> EarlierVersion | None:
    """An earlier version; None if it is invalid."""
    if not isinstance(fields, dict):
        return None
    role, content, extra = fields.get("role"), fields.get("content"), fields.get("extra")
    at = fields.get("replaced_at")
    if not (isinstance(role, str) and isinstance(content, str) and type(at) is int):
        return None
    if not 0 <= at < LATEST_MICROS:
        return None
    extra = extra if isinstance(extra, dict) else None
    return EarlierVersion(role, content, extra, from_micros(at))


def _identity(message: ChatMessage) -> dict[str, Any]:
    fields = message.to_dict()
    return {name: fields[name] for name in ("message_id", "created_at")}
