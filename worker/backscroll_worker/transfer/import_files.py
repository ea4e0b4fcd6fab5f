"""`backscroll import`: takes files of any known format into the store."""

from __future__ import annotations

import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

from zstandard import ZstdError

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import ChatMessage
from backscroll_worker.contract.interchange import is_packed, unpacked
from backscroll_worker.contract.pacing import now_micros
from backscroll_worker.stores import Store
from backscroll_worker.stores.local import keeping
from backscroll_worker.stores.sqlite.schema import MAGIC
from backscroll_worker.transfer.jsonl import read_jsonl
from backscroll_worker.transfer.openai import read_openai
from backscroll_worker.transfer.original_database import read_database
from backscroll_worker.transfer.source import Advance, Damage, Found, Incoming, Total
from backscroll_worker.transfer.store import Groups, take_in, writing

STANDARD_INPUT: Final = Path("-")
_PEEKED_BYTES: Final = 4_096

Keep = Callable[[ChatMessage], ChatMessage]
Observe = Callable[[Total | Advance], None]


@dataclass(slots=True)
class ImportReport:
    """What an import did.

    `known` sessions were in the store already. `refused` are the sessions and files that were not
    taken over, `left_out` what was skipped of others: lines of `where: why`.
    """

    sessions: int = 0
    messages: int = 0
    known: int = 0
    refused: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def import_files(
    paths: Iterable[Path], url: str, key_prefix: str | None, observe: Observe
) -> ImportReport:
    """Take over every session in these files, as the store's one writer.

    `key_prefix` names the sessions of a format that has no keys. Sessions that the store has, with
    the same messages, stay as they are. Files that cannot be read are reported as refused. Raises
    `StoreUnavailableError` when a worker holds the store.
    """
    report = ImportReport()
    with writing(url, "import") as store:
        for path in paths:
            found = _watched(_read(path, key_prefix, keeping(store)), report, observe)
            groups = Groups(found, store)
            try:
                for group in groups:
                    _take(group, store, report, groups.prepare)
            except InvalidInputError as error:
                report.refused.append(str(error))
    return report


def _take(
    group: list[Incoming],
    store: Store,
    report: ImportReport,
    meanwhile: Callable[[], None],
) -> None:
    results = take_in(store, [each.operation for each in group], meanwhile)
    for incoming, taken in zip(group, results, strict=True):
        if taken.refusal is not None:
            report.refused.append(f"{incoming.where}: {taken.refusal}")
        elif taken.was_there:
            report.known += 1
        else:
            report.sessions += 1
            report.messages += taken.messages


def _watched(found: Iterator[Found], report: ImportReport, observe: Observe) -> Iterator[Incoming]:
    for each in found:
        if isinstance(each, Incoming):
            yield each
        elif isinstance(each, Damage):
            lines = report.refused if each.is_session else report.left_out
            lines.append(f"{each.where}: {each.problem}")
        else:
            observe(each)


def _read(path: Path, key_prefix: str | None, keep: Keep) -> Iterator[Found]:
    try:
        if path == STANDARD_INPUT:
            given: Any = sys.stdin.buffer
            lines = given if isinstance(given, BufferedReader) else BufferedReader(given)
            yield from _read_lines("standard input", lines, key_prefix, now_micros(), keep)
            return
        with path.open("rb") as file:
            if file.peek(len(MAGIC)).startswith(MAGIC):
                yield from read_database(str(path), path)
                return
            status = path.stat()
            if not is_packed(file):  # or it is not known how much there is to read
                yield Total(status.st_size)
            at = status.st_mtime_ns // 1000
            yield from _read_lines(str(path), file, key_prefix, at, keep)
    except OSError as error:
        raise InvalidInputError("file", f"{path}: {error.strerror or error}") from None
    except ZstdError as error:
        raise InvalidInputError("file", f"{path} is damaged: {error}") from None


def _read_lines(
    name: str, packed: BufferedReader[Any], key_prefix: str | None, at: int, keep: Keep
) -> Iterator[Found]:
    file = unpacked(packed)
    if file.peek(len(BOM_UTF8)).startswith(BOM_UTF8):
        file.read(len(BOM_UTF8))
    start = file.peek(_PEEKED_BYTES).lstrip()
    if start.startswith((b'{"backscroll_export"', b'{"session"')):
        yield from read_jsonl(name, file, keep)
    elif not start.startswith(b"{"):
        raise InvalidInputError("file", f"{name} is neither an export nor a known database")
    elif key_prefix is not None:
        yield from read_openai(name, file, key_prefix, at)
    elif b'"messages"' in start:
        raise InvalidInputError(
            "file", f"{name} has conversations without keys: give a --key-prefix for them"
        )
    else:
        raise InvalidInputError(
            "file", f"{name} is not an export; 'backscroll migrate' takes over a folder of sessions"
        )
