"""`backscroll import`: takes files of any known format into the store."""

from __future__ import annotations

import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

from zstandard import ZstdError

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import ChatMessage
from backscroll_worker.contract.history import History
from backscroll_worker.contract.interchange import is_packed, unpacked
from backscroll_worker.contract.pacing import now_micros
from backscroll_worker.contract.takeover import has_another_history
from backscroll_worker.stores import Store
from backscroll_worker.stores.local import keeping
from backscroll_worker.stores.sqlite.schema import MAGIC
from backscroll_worker.transfer.chats import databases
from backscroll_worker.transfer.chats.conversation import Options, object_in
from backscroll_worker.transfer.chats.reading import (
    ZIP_MAGIC,
    is_document,
    log_form,
    opened_zip,
    read_chat,
    read_document,
    read_folder,
    read_log,
    with_line,
)
from backscroll_worker.transfer.chats.whatsapp import is_whatsapp
from backscroll_worker.transfer.joining import Joined, into_store, join, platform_ids
from backscroll_worker.transfer.jsonl import read_jsonl
from backscroll_worker.transfer.openai import read_openai
from backscroll_worker.transfer.source import Advance, Damage, Found, Incoming, NotKept, Total
from backscroll_worker.transfer.store import Groups, Taken, take_in, writing

STANDARD_INPUT: Final = Path("-")
_PEEKED_BYTES: Final = 4_096

Keep = Callable[[ChatMessage], ChatMessage]
Observe = Callable[[Total | Advance], None]


@dataclass(slots=True)
class ImportReport:
    """What an import did, or would do.

    Of the sessions that were there, `extended` ones got messages, and `known` ones had them all.
    `refused` are the sessions and files that were not taken over, `left_out` what was skipped of
    others: lines of `where: why`. `not_kept` counts what messages of another program have and ours
    do not, by its name.
    """

    sessions: int = 0
    messages: int = 0
    extended: int = 0
    known: int = 0
    refused: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    not_kept: dict[str, int] = field(default_factory=dict)

    def count(self, where: str, joined: Joined) -> None:
        """Count what became of a session."""
        self.messages += joined.messages
        if joined.refusal is not None:
            self.refused.append(f"{where}: {joined.refusal}")
        elif not joined.was_there:
            self.sessions += 1
        elif joined.messages:
            self.extended += 1
        else:
            self.known += 1


def import_files(
    paths: Iterable[Path], url: str, options: Options, observe: Observe
) -> ImportReport:
    """Take over every session in these files, as the store's one writer.

    A conversation of another program adds what is new to the session that the store has. Others
    with the same messages stay as they are. Files that cannot be read are reported as refused.
    Raises `StoreUnavailableError` when a worker holds the store.
    """
    report = ImportReport()
    with writing(url, "import, or give --through-queue") as store:
        options = replace(options, held=partial(platform_ids, History(store)))
        for path in paths:
            groups = Groups(incoming_of(path, options, report, observe, keeping(store)), store)
            try:
                for group in groups:
                    _take(group, store, report, groups.prepare)
            except InvalidInputError as error:
                report.refused.append(str(error))
    return report


def look_through(paths: Iterable[Path], options: Options, observe: Observe) -> ImportReport:
    """What an import of these files into an empty store would do; needs no store."""
    report, seen = ImportReport(), dict[str, int]()
    there = dict[str, set[str | None]]()
    for path in paths:
        try:
            for incoming in incoming_of(path, options, report, observe):
                key, messages = incoming.operation.key, incoming.operation.messages
                if incoming.joins:
                    known = there.get(key, set())
                    there[key] = known | {each.platform_id for each in messages}
                    report.count(incoming.where, Joined(len(there[key]) - len(known), bool(known)))
                    continue
                said = hash(tuple((each.message_id, each.content) for each in messages))
                if key not in seen:
                    report.sessions += 1
                    report.messages += len(messages)
                    seen[key] = said
                elif seen[key] == said:
                    report.known += 1
                else:
                    report.refused.append(f"{incoming.where}: {has_another_history(key)}")
        except InvalidInputError as error:
            report.refused.append(str(error))
    return report


def _take(
    group: list[Incoming],
    store: Store,
    report: ImportReport,
    meanwhile: Callable[[], None],
) -> None:
    """Take over whole sessions together, and add to those that are there one by one."""
    history = History(store)
    are_there = [each.joins and history.exists(each.operation.key) for each in group]
    new = [each for each, is_there in zip(group, are_there, strict=True) if not is_there]
    reads_store = any(each.joins for each in group)  # and nobody may while it writes
    operations = [each.operation for each in new]
    results = iter(take_in(store, operations, None if reads_store else meanwhile))
    for incoming, is_there in zip(group, are_there, strict=True):
        taken = Taken() if is_there else next(results)
        there = is_there or (taken.refusal is not None and incoming.joins)
        if there and history.exists(incoming.operation.key):
            joined = join(incoming.operation, history, into_store(history))
        else:
            stored = 0 if taken.was_there else taken.messages
            joined = Joined(stored, taken.was_there, taken.refusal)
        report.count(incoming.where, joined)


def incoming_of(
    path: Path,
    options: Options,
    report: ImportReport,
    observe: Observe,
    keep: Keep = lambda message: message,
) -> Iterator[Incoming]:
    """The sessions in a file; what else is found in it goes into the report.

    `keep` puts the bytes of attachments into the store; see `stores.local.keeping`. Raises
    `InvalidInputError` where the file cannot be read.
    """
    for each in _read(path, options, keep):
        if isinstance(each, Incoming):
            yield each
        elif isinstance(each, Damage):
            lines = report.refused if each.is_session else report.left_out
            lines.append(f"{each.where}: {each.problem}")
        elif isinstance(each, NotKept):
            if each.count:
                report.not_kept[each.what] = report.not_kept.get(each.what, 0) + each.count
        else:
            observe(each)


def _read(path: Path, options: Options, keep: Keep) -> Iterator[Found]:
    try:
        if path == STANDARD_INPUT:
            given: Any = sys.stdin.buffer
            lines = given if isinstance(given, BufferedReader) else BufferedReader(given)
            options = replace(options, modified=now_micros())
            yield from _read_file("standard input", lines, options, keep)
            return
        status = path.stat()
        options = replace(options, modified=status.st_mtime_ns // 1000)
        if path.is_dir():
            yield from read_folder(str(path), path, options)
            return
        with path.open("rb") as file:
            start = file.peek(len(MAGIC))
            if start.startswith(MAGIC):
                yield from databases.read(str(path), path, options)
            elif start.startswith(ZIP_MAGIC):
                yield from read_folder(str(path), opened_zip(file), options)
            else:
                if not is_packed(file):  # or it is not known how much there is to read
                    yield Total(status.st_size)
                yield from _read_file(str(path), file, options, keep)
    except OSError as error:
        raise InvalidInputError("file", f"{path}: {error.strerror or error}") from None
    except ZstdError as error:
        raise InvalidInputError("file", f"{path} is damaged: {error}") from None


def _read_file(
    name: str, packed: BufferedReader[Any], options: Options, keep: Keep
) -> Iterator[Found]:
    file = unpacked(packed)
    if file.peek(len(BOM_UTF8)).startswith(BOM_UTF8):
        file.read(len(BOM_UTF8))
    start = file.peek(_PEEKED_BYTES).lstrip()
    if start.startswith((b'{"backscroll_export"', b'{"session"')):
        yield from read_jsonl(name, file, keep)
    elif start.startswith(b"{"):
        yield from _read_objects(name, file, options)
    elif is_whatsapp(start.decode("utf-8", "replace").partition("\n")[0]):
        yield from read_chat(name, file, options)
    elif start.startswith(b"["):
        yield from read_document(name, file.read(), options)
    else:
        raise InvalidInputError("file", f"{name} is neither an export nor a known database")


def _read_objects(name: str, file: BufferedReader[Any], options: Options) -> Iterator[Found]:
    """A JSON object: the whole file, or the first line of several."""
    line = file.readline()
    if (form := log_form(line)) is not None:
        yield from read_log(form, name, with_line(line, file), options)
    elif not _is_training(line):
        yield from read_document(name, line + file.read(), options)
    elif options.key_prefix is not None:
        at = options.modified
        yield from read_openai(name, with_line(line, file), options.key_prefix, at)
    else:
        raise InvalidInputError(
            "file", f"{name} has conversations without keys: give a --key-prefix for them"
        )


def _is_training(line: bytes) -> bool:
    """Whether a line is a conversation for training; it may be one with a fault."""
    fields = object_in(line)
    if fields is None:
        return b'"messages"' in line and line.rstrip().endswith(b"}")
    return "messages" in fields and not is_document(fields)
