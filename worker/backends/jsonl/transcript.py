"""What can be read back from a messages file, whoever wrote it and however it broke off.

A line that is no message is corrupt, and so are the lines of an operation whose last ones are
missing: it was never applied. Both are left out and remembered by their numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import orjson

from producer.messages import ChatMessage, from_micros
from worker.backends.jsonl.lines import WHOLE, Line, Part, Records, records_from_json

_LATEST: Final = 253_402_300_800_000_000  # the year 10000, where datetime ends


@dataclass(slots=True)
class Transcript:
    """What a session's file holds. Numbers of corrupt lines count from 1."""

    lines: list[Line] = field(default_factory=list)
    records: Records = field(default_factory=dict)
    corrupt: list[int] = field(default_factory=list)

    def known(self) -> dict[str, int]:
        """Every op id the file tells of, and how much it touched."""
        known = {line.op_id: line.part.total for line in self.lines}
        known.update((op_id, record.affected) for op_id, record in self.records.items())
        return known


def parse(content: bytes, key: str, default_time: int) -> Transcript:
    """Read a file's content; `default_time` is for messages that do not tell their own."""
    reader = _Reader(key, default_time)
    offset = 0
    for number, raw in enumerate(content.split(b"\n"), start=1):
        if raw and not raw.isspace():
            reader.take(number, offset, raw)
        offset += len(raw) + 1
    reader.drop_run()
    reader.transcript.corrupt.sort()
    return reader.transcript


def stream(raws: Iterable[bytes], key: str, default_time: int) -> Iterator[Line]:
    """The lines that `parse` finds, one after the other; `raws` are those of the open file."""
    reader = _Reader(key, default_time)
    offset = 0
    for number, raw in enumerate(raws, start=1):
        if not raw.isspace():
            reader.take(number, offset, raw.rstrip(b"\n"))
        offset += len(raw)
        yield from reader.transcript.lines
        reader.transcript.lines.clear()


class _Reader:
    """Takes a file line by line."""

    def __init__(self, key: str, default_time: int) -> None:
        self.transcript = Transcript()
        # A line without an id gets one of its place. It never moves, except in a rewrite, which
        # writes the id into it. Those of a session are alike: an index has them side by side.
        self._own = hashlib.blake2b(key.encode(), digest_size=11).hexdigest()
        self._default_time = from_micros(default_time)
        self._run: list[tuple[int, Line]] = []

    def take(self, number: int, offset: int, raw: bytes) -> None:
        try:
            fields = orjson.loads(raw)
        except ValueError:
            fields = None
        line = self._message(fields, offset, raw)
        if line is None:
            self.drop_run()
            self._take_control(number, fields)
        elif line.part is WHOLE:
            if self._run:
                self.drop_run()
            self.transcript.lines.append(line)
        else:
            self._take_part(number, line)

    def drop_run(self) -> None:
        """An operation whose lines break off was never applied."""
        self.transcript.corrupt += [number for number, _ in self._run]
        self._run = []

    def _take_part(self, number: int, line: Line) -> None:
        is_next = line.part.number == len(self._run) and all(
            (other.op_id, other.part.total) == (line.op_id, line.part.total)
            for _, other in self._run[-1:]
        )
        if not is_next:
            self.drop_run()
        self._run.append((number, line))
        if line.part.number != len(self._run) - 1:  # its beginning is missing
            self.drop_run()
        elif len(self._run) == line.part.total:
            self.transcript.lines += [line for _, line in self._run]
            self._run = []

    def _take_control(self, number: int, fields: object) -> None:
        records = records_from_json(fields.get("applied")) if isinstance(fields, dict) else None
        if records is None:
            self.transcript.corrupt.append(number)
        else:
            self.transcript.records.update(records)

    def _message(self, fields: object, offset: int, raw: bytes) -> Line | None:
        """The message in a line; None when it has no role and content."""
        if not isinstance(fields, dict):
            return None
        role, content = fields.get("role"), fields.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            return None
        if len(fields) == 2:  # the original's
            own_id = f"{self._own}{offset:010x}"
            message = ChatMessage(role, content, None, own_id, self._default_time)
            return Line(message, raw, own_id, WHOLE, False)
        message_id, created_at = _id(fields.get("message_id")), _time(fields.get("created_at"))
        is_settled = message_id is not None and created_at is not None
        if message_id is None:
            message_id = f"{self._own}{offset:010x}"
        extra = fields.get("extra")
        message = ChatMessage(
            role,
            content,
            extra if isinstance(extra, dict) else None,
            message_id,
            self._default_time if created_at is None else from_micros(created_at),
        )
        part = _part(fields["part"]) if "part" in fields else WHOLE
        op_id = message_id.removesuffix(f"-{part.number}") if part.number else message_id
        return Line(message, raw, op_id, part, is_settled)


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _time(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LATEST:
        return value
    return None


def _part(value: object) -> Part:
    match value:
        case [int(number), int(total)] if 0 <= number < total:
            return Part(number, total)
        case _:
            return WHOLE
