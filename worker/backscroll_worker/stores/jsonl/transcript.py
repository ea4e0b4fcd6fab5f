"""What can be read back from a messages file, whoever wrote it and however it broke off.

Most lines are one message, or a record of operations. Of a line that is neither, `decoding` finds
what is whole; one that is cut off may go on in the next ones. What is left over is damage, and so
are the lines of an operation whose last ones are missing: it was never applied. Damage is left out
and kept as it is, so that nobody who writes the file anew loses it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import orjson

from backscroll.contract.message_checks import MAX_ROLE_CHARS
from backscroll.contract.messages import CIRCUMSTANCES, LATEST_MICROS, ChatMessage, from_micros
from backscroll_worker.stores.jsonl.decoding import (
    Value,
    as_utf8,
    decode_line,
    decode_whole,
    is_cut_off,
    is_deep,
    is_storable,
)
from backscroll_worker.stores.jsonl.fields import OURS, Told, is_message, read_fields
from backscroll_worker.stores.jsonl.lines import (
    WHOLE,
    Line,
    Part,
    Records,
    earlier_versions,
    note_platform_ids,
    records_from_json,
)

_OWN_PLACE: Final = re.compile(r"[0-9a-f]{10}")
_OUR_FIELDS: Final = frozenset(
    (*CIRCUMSTANCES, "role", "content", "extra", "message_id", "created_at", "part", "edits")
)
_LINES_OF_A_RECORD: Final = 100
_SPACED_NAME: Final = re.compile(rb'"[ \t\r]+:')
_BEYOND_64_BITS: Final = re.compile(rb"[0-9]{19}|[0-9][eE][+]?[0-9]{3}")
_NEVER_APPLIED: Final = "part of an append that broke off, and so was never applied"


class Damage(NamedTuple):
    """Bytes of a line, whose number counts from 1, that are no message, and why."""

    number: int
    raw: bytes
    problem: str


@dataclass(slots=True)
class Transcript:
    """What a session's file holds."""

    lines: list[Line] = field(default_factory=list)
    records: Records = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)

    def known(self) -> dict[str, int]:
        """Every op id the file tells of, and how much it touched."""
        known = {line.op_id: line.part.total for line in self.lines}
        known.update((op_id, record.affected) for op_id, record in self.records.items())
        return known


def parse(content: bytes, key: str, default_time: int) -> Transcript:
    """Read a file's content; `default_time` is for messages that do not tell their own."""
    return _parsed(as_utf8(content), 0, key, default_time)


def parse_part(content: bytes, offset: int, key: str, default_time: int) -> list[Line]:
    """The lines that `parse` finds in a part of a file, which is in UTF-8 and begins there.

    Its first line has to be one that `starts_anew`.
    """
    return _parsed(content, offset, key, default_time).lines


def own_place(message_id: str, key: str) -> int | None:
    """Where a line begins that has no id of its own, by the one it gets; None for another id."""
    place = message_id.removeprefix(_own_prefix(key))
    return int(place, 16) if _OWN_PLACE.fullmatch(place) else None


def starts_anew(raw: bytes) -> bool:
    """Whether what a line is does not depend on those before it, nor what the next ones are."""
    reader = _Reader("", 0)
    return reader.is_sound(raw)


def tally(
    raws: Iterable[bytes], key: str, default_time: int
) -> tuple[dict[str, int], int, dict[str, str]]:
    """What `Transcript.known` tells of a file's lines, their number, and their platform ids."""
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
    return known | reader.transcript.known(), count, platform_ids  # what a record says counts


def stream(raws: Iterable[bytes], key: str, default_time: int) -> Iterator[Line]:
    """The lines that `parse` finds, one after the other; `raws` are those of a file in UTF-8."""
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
    """A line of the file: its number, where it begins, and what it says."""

    number: int
    offset: int
    raw: bytes


class _Reader:
    """Takes a file line by line."""

    def __init__(self, key: str, default_time: int) -> None:
        self.transcript = Transcript()
        # A line without an id gets one of its place. It never moves, except in a rewrite, which
        # writes the id into it. Those of a session are alike: an index has them side by side.
        self._own = _own_prefix(key)
        self._default_time = from_micros(default_time)
        self._run: list[tuple[int, Line]] = []
        self._cut_off: list[_Raw] = []

    def take(self, number: int, offset: int, raw: bytes) -> None:
        if self._take_sound(number, offset, raw):
            return
        here = _Raw(number, offset, raw)
        if self._cut_off:
            self._go_on(here)
        elif not self._take_damaged(here, may_go_on=True):
            self._cut_off.append(here)

    def is_sound(self, raw: bytes) -> bool:
        """Whether a line stands for itself."""
        return self._take_sound(1, 0, raw) and not self._run

    def quick_id(self, raw: bytes) -> str | None:
        """The op id in a plain line of ours, of which nothing else matters; None for any other."""
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
        """Note the ids of the messages found, and forget them; how many there were."""
        lines = self.transcript.lines
        known.update((line.op_id, line.part.total) for line in lines)
        note_platform_ids(lines, platform_ids)
        count = len(lines)
        lines.clear()
        self.transcript.damage.clear()
        return count

    def finish(self) -> Transcript:
        """All that the file holds."""
        self._give_up()
        self._drop_run()
        self.transcript.damage.sort()
        return self.transcript

    def _take_sound(self, number: int, offset: int, raw: bytes) -> bool:
        """Take a line that is what a line should be; whether it is."""
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

    def _take_damaged(self, line: _Raw, *, may_go_on: bool) -> bool:
        """Take what a line holds; False, and nothing is, if the next ones may complete it."""
        found = decode_line(line.raw, _is_record)
        if may_go_on and not found.values and is_cut_off(line.raw):
            return False
        for place, value in enumerate(found.values):
            self._add_value(line.number, line.offset + place, value)
        if found.remains:
            self._drop_run()
            self.transcript.damage.append(Damage(line.number, found.remains, found.problem))
        return True

    def _go_on(self, line: _Raw) -> None:
        """Take a line that follows one that is cut off, and may be more of it."""
        lines = [*self._cut_off, line]
        if line.raw.rstrip(b" \t\r\0").endswith(b"}"):
            joined = b"\n".join([each.raw for each in lines])
            value = decode_whole(joined)
            if value is not None and _is_record(value.fields):
                self._cut_off = []
                self._add_value(lines[0].number, lines[0].offset, value)
                if value.is_altered:
                    problem = "some of it is not Unicode; U+FFFD stands in its place"
                    self.transcript.damage.append(Damage(lines[0].number, joined, problem))
                return
            if not is_cut_off(joined):
                self._give_up()
                self.take(*line)
                return
        self._cut_off.append(line)
        if len(self._cut_off) > _LINES_OF_A_RECORD:
            self._give_up()

    def _give_up(self) -> None:
        """What was cut off does not go on."""
        lines, self._cut_off = self._cut_off, []
        for line in lines:
            self._take_damaged(line, may_go_on=False)

    def _add_value(self, number: int, offset: int, value: Value) -> None:
        told = read_fields(value.fields, _own_fields(value.fields))
        if told is not None:
            line = self._line(told, value.fields, offset, b"")
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
        """An operation whose lines break off was never applied."""
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
        """The message of a sound line; None when there is none, or a closer look is needed."""
        role, content = fields.get("role"), fields.get("content")
        if type(role) is str and type(content) is str and _is_role(role):
            if len(fields) == 2 and _has_names(raw, 2):  # the original's
                own_id = f"{self._own}{offset:010x}"
                message = ChatMessage(role, content, None, own_id, self._default_time)
                return Line(message, raw, own_id, WHOLE, False)
            if len(fields) == 4 and _is_ours(fields):  # nearly all of ours
                told = Told(role, content, None, fields["message_id"], fields["created_at"])
                return self._line(told, fields, offset, raw)
        if not is_message(fields) or not _is_exact(fields, raw):
            return None
        told_or_none = read_fields(fields, _own_fields(fields))
        return None if told_or_none is None else self._line(told_or_none, fields, offset, raw)

    def _line(self, told: Told, fields: dict[str, Any], offset: int, raw: bytes) -> Line:
        message_id, created_at = told.message_id, told.created_at
        is_settled = message_id is not None and created_at is not None
        if message_id is None:
            message_id = f"{self._own}{offset:010x}"
        time = self._default_time if created_at is None else from_micros(created_at)
        said = told.role, told.content, told.extra
        message = ChatMessage(*said, message_id, time, (), *told.circumstances)
        part = _part(fields) if "part" in fields else WHOLE
        op_id = message_id.removesuffix(f"-{part.number}") if part.number else message_id
        return Line(message, raw, op_id, part, is_settled)


def _own_prefix(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=11).hexdigest()


def _is_record(fields: dict[str, Any]) -> bool:
    return is_message(fields) or _records(fields) is not None


def _records(fields: dict[str, Any]) -> Records | None:
    """The operations that a line of ours records, which says nothing else."""
    return records_from_json(fields.get("applied")) if len(fields) == 1 else None


def _is_role(role: str) -> bool:
    return 0 < len(role) <= MAX_ROLE_CHARS and role.isprintable()


def _is_ours(fields: dict[str, Any]) -> bool:
    """Whether this store wrote the line, whose fields are then known to be exact."""
    message_id, created_at = fields.get("message_id"), fields.get("created_at")
    return (
        type(message_id) is str
        and type(created_at) is int
        and 0 <= created_at < LATEST_MICROS
        and OURS.fullmatch(message_id) is not None
    )


def _is_exact(fields: dict[str, Any], raw: bytes) -> bool:
    """Whether the strict parser took all that the line says, and it can be stored."""
    if fields.keys() <= _OUR_FIELDS and _is_ours(fields):
        return True
    if not _has_names(raw, len(fields)) or _BEYOND_64_BITS.search(raw):
        value = decode_whole(raw)
        if value is None or value.fields != fields:
            return False
    return not is_deep(raw) or is_storable(fields)


def _has_names(raw: bytes, count: int) -> bool:
    """Whether a line has so many names, as it seems: of one that comes twice a parser takes one."""
    return raw.count(b'":') == count and not _SPACED_NAME.search(raw)


def _own_fields(fields: dict[str, Any]) -> tuple[str, ...]:
    """Those of the fields that only this store writes, as far as they are what it writes."""
    own = []
    if "part" in fields and _part(fields) is not WHOLE:
        own.append("part")
    if "edits" in fields and fields["edits"] == [
        edit.to_dict() for edit in earlier_versions(fields["edits"])
    ]:
        own.append("edits")
    return tuple(own)


def _part(fields: dict[str, Any]) -> Part:
    """Which of an append's messages one is; others have a field of that name for something else."""
    match fields["part"], fields.get("message_id"):
        case [int(number), int(total)], str(message_id) if 0 <= number < total and (
            number == 0 or message_id.endswith(f"-{number}")
        ):
            return Part(number, total)
        case _:
            return WHOLE
