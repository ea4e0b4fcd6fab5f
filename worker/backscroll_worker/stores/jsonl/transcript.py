"""Reads a messages file, whichever program wrote it and however damaged it is.

Most lines are one message, or a record of operations. In any other line `decoding` finds the
complete objects; one that is cut off may continue in the next lines. The rest is damage, and so are
the lines of an operation whose last lines are missing: it was never applied. Damage is not shown,
but a rewrite of the file keeps it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import orjson

from backscroll.contract.message_checks import MAX_ROLE_CHARS
from backscroll.contract.messages import LATEST_MICROS, ChatMessage, from_micros
from backscroll_worker.stores.jsonl.decoding import (
    NOT_UNICODE,
    Value,
    as_utf8,
    decode_line,
    decode_whole,
    is_cut_off,
    is_deep,
    is_storable,
)
from backscroll_worker.stores.jsonl.fields import OURS, ParsedFields, is_message, read_fields
from backscroll_worker.stores.jsonl.lines import (
    WHOLE,
    Line,
    Part,
    Records,
    earlier_versions,
    note_platform_ids,
    records_from_json,
)

_OFFSET: Final = re.compile(r"[0-9a-f]{10}")
_OUR_FIELDS: Final = frozenset((*ChatMessage.__slots__, "part"))
_MAX_LINES_PER_RECORD: Final = 100
_SPACED_NAME: Final = re.compile(rb'"[ \t\r]+:')
_BEYOND_64_BITS: Final = re.compile(rb"[0-9]{19}|[0-9][eE][+]?[0-9]{3}")
_NEVER_APPLIED: Final = "part of an incomplete append, which was never applied"


class Damage(NamedTuple):
    """Unreadable bytes of a line, with its number, counted from 1, and the reason."""

    number: int
    raw: bytes
    problem: str


@dataclass(slots=True)
class Transcript:
    """The content of a messages file."""

    lines: list[Line] = field(default_factory=list)
    records: Records = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)

    def known(self) -> dict[str, int]:
        """The op ids that the file records, with the number of messages each affected."""
        known = {line.op_id: line.part.total for line in self.lines}
        known.update((op_id, record.affected) for op_id, record in self.records.items())
        return known


def parse(content: bytes, key: str, default_time: int) -> Transcript:
    """Read a file's content; `default_time` is for messages without a time."""
    return _parsed(as_utf8(content), 0, key, default_time)


def parse_part(content: bytes, offset: int, key: str, default_time: int) -> list[Line]:
    """The lines that `parse` finds in a part of a UTF-8 file that begins at `offset`.

    Its first line has to be one that `is_self_contained`.
    """
    return _parsed(content, offset, key, default_time).lines


def offset_in_id(message_id: str, key: str) -> int | None:
    """The offset of a line without an id, from the id made for it; None for another id."""
    offset = message_id.removeprefix(_id_prefix(key))
    return int(offset, 16) if _OFFSET.fullmatch(offset) else None


def is_self_contained(raw: bytes) -> bool:
    """Whether the line is read independently of its neighbours, and they of it."""
    return _Reader("", 0).is_intact(raw)


def tally(
    raws: Iterable[bytes], key: str, default_time: int
) -> tuple[dict[str, int], int, dict[str, str]]:
    """The `Transcript.known` of a UTF-8 file's lines, the number of messages, the platform ids."""
    reader = _Reader(key, default_time)
    known, platform_ids, count, offset = dict[str, int](), dict[str, str](), 0, 0
    for number, raw in enumerate(raws, start=1):
        if (op_id := reader.quick_id(raw)) is not None:
            known[op_id] = 1
            count += 1
        elif not raw.isspace():
            reader.take(number, offset, raw.rstrip(b"\n"))
            count += reader.drain_lines(known, platform_ids)
        offset += len(raw)
    reader.finish()
    count += reader.drain_lines(known, platform_ids)
    known.update(reader.transcript.known())  # records take precedence
    return known, count, platform_ids


def stream(raws: Iterable[bytes], key: str, default_time: int) -> Iterator[Line]:
    """Yield the lines that `parse` finds; `raws` are the lines of a file in UTF-8."""
    reader = _Reader(key, default_time)
    offset = 0
    for number, raw in enumerate(raws, start=1):
        if not raw.isspace():
            reader.take(number, offset, raw.rstrip(b"\n"))
        offset += len(raw)
        reader.transcript.damage.clear()
        yield from reader.transcript.lines
        reader.transcript.lines.clear()
    yield from reader.finish().lines


def _parsed(content: bytes, offset: int, key: str, default_time: int) -> Transcript:
    reader = _Reader(key, default_time)
    for number, raw in enumerate(content.split(b"\n"), start=1):
        if raw and not raw.isspace():
            reader.take(number, offset, raw)
        offset += len(raw) + 1
    return reader.finish()


class _Raw(NamedTuple):
    """A line of the file: its number, its offset, and its bytes."""

    number: int
    offset: int
    raw: bytes


class _Reader:
    """Reads a file line by line."""

    def __init__(self, key: str, default_time: int) -> None:
        self.transcript = Transcript()
        # A line without an id gets one from its offset, which changes only in a rewrite, and that
        # writes the id into the line. The ids of a session are adjacent in an index.
        self._id_prefix = _id_prefix(key)
        self._default_time = from_micros(default_time)
        self._run: list[tuple[int, Line]] = []
        self._cut_off: list[_Raw] = []

    def take(self, number: int, offset: int, raw: bytes) -> None:
        if self._take_intact(number, offset, raw):
            return
        here = _Raw(number, offset, raw)
        if self._cut_off:
            self._continue(here)
        elif not self._take_damaged(here, may_continue=True):
            self._cut_off.append(here)

    def is_intact(self, raw: bytes) -> bool:
        """Whether a line is complete without its neighbours."""
        return self._take_intact(1, 0, raw) and not self.transcript.damage

    def quick_id(self, raw: bytes) -> str | None:
        """The op id of a message that this store wrote without `extra`; None for another line."""
        if self._cut_off or self._run:
            return None
        try:
            fields = orjson.loads(raw)
        except ValueError:
            return None
        if not isinstance(fields, dict) or len(fields) != 4 or not _is_ours(fields):
            return None
        role, content = fields.get("role"), fields.get("content")
        is_plain = type(role) is str and type(content) is str and _is_role(role)
        return fields["message_id"] if is_plain else None

    def drain_lines(self, known: dict[str, int], platform_ids: dict[str, str]) -> int:
        """Add the ids of the messages found, and drop them; returns their number."""
        lines = self.transcript.lines
        known.update((line.op_id, line.part.total) for line in lines)
        note_platform_ids(lines, platform_ids)
        count = len(lines)
        lines.clear()
        self.transcript.damage.clear()
        return count

    def finish(self) -> Transcript:
        """The content of the file, after its last line."""
        self._give_up()
        self._drop_run()
        self.transcript.damage.sort()
        return self.transcript

    def _take_intact(self, number: int, offset: int, raw: bytes) -> bool:
        """Take a valid line; returns whether it is one."""
        try:
            fields = orjson.loads(raw)
        except ValueError:
            return False
        if not isinstance(fields, dict):
            return False
        line = self._message(fields, offset, raw)
        if line is not None:
            if self._cut_off:
                self._give_up()
            self._add(number, line)
            return True
        records = None if is_message(fields) or not _has_names(raw, 1) else _records(fields)
        if records is None:
            return False
        self._give_up()
        self._add_records(records)
        return True

    def _take_damaged(self, line: _Raw, *, may_continue: bool) -> bool:
        """Take the parts of a line; False, and nothing is taken, if the next may complete it."""
        found = decode_line(line.raw, _is_record)
        if may_continue and not found.values and is_cut_off(line.raw):
            return False
        for place, value in enumerate(found.values):
            self._add_value(line.number, line.offset + place, value)
        if found.remains:
            self._drop_run()
            self.transcript.damage.append(Damage(line.number, found.remains, found.problem))
        return True

    def _continue(self, line: _Raw) -> None:
        """Take a line after one that is cut off, which may continue that."""
        lines = [*self._cut_off, line]
        if line.raw.rstrip(b" \t\r\0").endswith(b"}"):
            joined = b"\n".join([each.raw for each in lines])
            value = decode_whole(joined)
            if value is not None and _is_record(value.fields):
                self._cut_off = []
                self._add_value(lines[0].number, lines[0].offset, value)
                if value.is_altered:
                    self.transcript.damage.append(Damage(lines[0].number, joined, NOT_UNICODE))
                return
            if not is_cut_off(joined):
                self._give_up()
                self.take(*line)
                return
        self._cut_off.append(line)
        if len(self._cut_off) > _MAX_LINES_PER_RECORD:
            self._give_up()

    def _give_up(self) -> None:
        """The lines that were cut off are damage: they do not continue."""
        lines, self._cut_off = self._cut_off, []
        for line in lines:
            self._take_damaged(line, may_continue=False)

    def _add_value(self, number: int, offset: int, value: Value) -> None:
        parsed = read_fields(value.fields, _written_fields(value.fields))
        if parsed is not None:
            line = self._line(parsed, value.fields, offset, b"")
            whole = replace(line.message, edits=earlier_versions(value.fields.get("edits")))
            self._add(number, Line.of(whole, line.op_id, line.part))
        else:
            self._add_records(_records(value.fields) or {})

    def _add(self, number: int, line: Line) -> None:
        if line.part is WHOLE:
            if self._run:
                self._drop_run()
            self.transcript.lines.append(line)
        else:
            self._take_part(number, line)

    def _add_records(self, records: Records) -> None:
        self._drop_run()
        self.transcript.records.update(records)

    def _drop_run(self) -> None:
        """The lines of an incomplete operation are damage: it was never applied."""
        self.transcript.damage += [
            Damage(number, line.raw, _NEVER_APPLIED) for number, line in self._run
        ]
        self._run = []

    def _take_part(self, number: int, line: Line) -> None:
        is_next = line.part.number == len(self._run) and all(
            (other.op_id, other.part.total) == (line.op_id, line.part.total)
            for _, other in self._run[-1:]
        )
        if not is_next:
            self._drop_run()
        self._run.append((number, line))
        if line.part.number != len(self._run) - 1:  # its beginning is missing
            self._drop_run()
        elif len(self._run) == line.part.total:
            self.transcript.lines += [line for _, line in self._run]
            self._run = []

    def _message(self, fields: dict[str, Any], offset: int, raw: bytes) -> Line | None:
        """The message of a valid line; None if it has none, or `decoding` has to read it."""
        role, content = fields.get("role"), fields.get("content")
        if type(role) is str and type(content) is str and _is_role(role):
            if len(fields) == 2 and _has_names(raw, 2):  # the original's
                own_id = f"{self._id_prefix}{offset:010x}"
                message = ChatMessage(role, content, None, own_id, self._default_time)
                return Line(message, raw, own_id, WHOLE, False)
            if len(fields) == 4 and _is_ours(fields):  # nearly all of ours
                own = ParsedFields(role, content, None, fields["message_id"], fields["created_at"])
                return self._line(own, fields, offset, raw)
        if not is_message(fields) or not _is_exact(fields, raw):
            return None
        parsed = read_fields(fields, _written_fields(fields))
        return None if parsed is None else self._line(parsed, fields, offset, raw)

    def _line(self, parsed: ParsedFields, fields: dict[str, Any], offset: int, raw: bytes) -> Line:
        message_id, created_at = parsed.message_id, parsed.created_at
        is_settled = message_id is not None and created_at is not None
        if message_id is None:
            message_id = f"{self._id_prefix}{offset:010x}"
        time = self._default_time if created_at is None else from_micros(created_at)
        content = parsed.role, parsed.content, parsed.extra
        others = *parsed.circumstances, parsed.attachments
        message = ChatMessage(*content, message_id, time, (), *others)
        part = _part(fields) if "part" in fields else WHOLE
        op_id = message_id.removesuffix(f"-{part.number}") if part.number else message_id
        return Line(message, raw, op_id, part, is_settled)


def _id_prefix(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=11).hexdigest()


def _is_record(fields: dict[str, Any]) -> bool:
    return is_message(fields) or _records(fields) is not None


def _records(fields: dict[str, Any]) -> Records | None:
    """The operations that a line of records has; None for another line."""
    return records_from_json(fields.get("applied")) if len(fields) == 1 else None


def _is_role(role: str) -> bool:
    return 0 < len(role) <= MAX_ROLE_CHARS and role.isprintable()


def _is_ours(fields: dict[str, Any]) -> bool:
    """Whether this store wrote the line; then its fields are exact."""
    message_id, created_at = fields.get("message_id"), fields.get("created_at")
    return (
        type(message_id) is str
        and type(created_at) is int
        and 0 <= created_at < LATEST_MICROS
        and OURS.fullmatch(message_id) is not None
    )


def _is_exact(fields: dict[str, Any], raw: bytes) -> bool:
    """Whether the strict parser lost nothing of the line, and it can be stored."""
    if fields.keys() <= _OUR_FIELDS and _is_ours(fields):
        return True
    if not _has_names(raw, len(fields)) or _BEYOND_64_BITS.search(raw):
        value = decode_whole(raw)
        if value is None or value.fields != fields:
            return False
    return not is_deep(raw) or is_storable(fields)


def _has_names(raw: bytes, count: int) -> bool:
    """Whether a line seems to have `count` names; a parser drops duplicates."""
    return raw.count(b'":') == count and not _SPACED_NAME.search(raw)


def _written_fields(fields: dict[str, Any]) -> tuple[str, ...]:
    """The fields that only this store writes, if they have its form."""
    own = []
    if "part" in fields and _part(fields) is not WHOLE:
        own.append("part")
    if "edits" in fields and fields["edits"] == [
        edit.to_dict() for edit in earlier_versions(fields["edits"])
    ]:
        own.append("edits")
    return tuple(own)


def _part(fields: dict[str, Any]) -> Part:
    """The message's place in its append; `WHOLE` if the field is another program's."""
    match fields["part"], fields.get("message_id"):
        case [int(number), int(total)], str(message_id) if 0 <= number < total and (
            number == 0 or message_id.endswith(f"-{number}")
        ):
            return Part(number, total)
        case _:
            return WHOLE
