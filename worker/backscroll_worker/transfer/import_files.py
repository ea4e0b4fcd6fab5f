"""`backscroll import`: takes files of any known format into the store."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
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
from backscroll_worker.transfer.chats.conversation import ASSISTANT, Options, object_in
from backscroll_worker.transfer.chats.documents import (
    begins_document,
    is_document,
    read_document,
)
from backscroll_worker.transfer.chats.reading import log_form, read_chat, read_folder, read_log
from backscroll_worker.transfer.chats.whatsapp import is_nearly_whatsapp, is_whatsapp
from backscroll_worker.transfer.folders import ZIP_MAGICS, DiskFolder, ZipFolder
from backscroll_worker.transfer.joining import Joined, Rehearsal, into_store, join, platform_ids
from backscroll_worker.transfer.jsonl import MAX_LINE_BYTES, read_jsonl
from backscroll_worker.transfer.openai import read_openai
from backscroll_worker.transfer.opening import as_utf8, opened, with_start
from backscroll_worker.transfer.source import (
    STANDARD_INPUT_NAME,
    Advance,
    Damage,
    Found,
    Incoming,
    NotKept,
    Total,
)
from backscroll_worker.transfer.store import Groups, Taken, take_in, writing

STANDARD_INPUT: Final = Path("-")
_PADDING: Final = b" \t\r\n\0"

_MOST_LINES: Final = 1_000

Keep = Callable[[ChatMessage], ChatMessage]
Observe = Callable[[Total | Advance], None]


@dataclass(slots=True)
class ImportReport:
    """What an import did, or would do.

    Of the sessions that were there, `extended` ones got messages, and `known` ones had them all.
    `refused` are the sessions and files that were not taken over, `left_out` what was skipped of
    others: lines of `where: why`, the first thousand of each; `unlisted` says how many more of both
    there are. `not_kept` counts what messages of another program have and ours do not, by its name.
    `assistants` are the messages in the files that are the assistant's.
    """

    sessions: int = 0
    messages: int = 0
    extended: int = 0
    known: int = 0
    refused: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    not_kept: dict[str, int] = field(default_factory=dict)
    unlisted: dict[str, int] = field(default_factory=dict)
    assistants: int = field(default=0, compare=False)

    def refuse(self, line: str) -> None:
        """Note a session or file that is not taken over, and why."""
        self._note("refused", line)

    def leave_out(self, line: str) -> None:
        """Note something of a session that is skipped, and why."""
        self._note("left_out", line)

    def _note(self, name: str, line: str) -> None:
        lines: list[str] = getattr(self, name)
        if len(lines) < _MOST_LINES:
            lines.append(line)
        else:
            self.unlisted[name] = self.unlisted.get(name, 0) + 1

    def total(self, name: str) -> int:
        """How many are `refused` or `left_out`, listed or not."""
        return len(getattr(self, name)) + self.unlisted.get(name, 0)

    def count(self, where: str, joined: Joined) -> None:
        """Count what became of a session."""
        self.messages += joined.messages
        if joined.refusal is not None:
            self.refuse(f"{where}: {joined.refusal}")
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
        read, history = Rehearsal(), History(store)
        options = replace(
            options, held=lambda key: _Either(platform_ids(history, key), read.held(key))
        )
        for path in paths:
            found = incoming_of(path, options, report, observe, keeping(store))
            groups = Groups(_noted(found, read), store)
            try:
                for group in groups:
                    _take(group, store, report, groups.prepare)
            except InvalidInputError as error:
                report.refuse(str(error))
    return report


def _noted(found: Iterator[Incoming], read: Rehearsal) -> Iterator[Incoming]:
    """The same; a conversation is read before the one ahead of it is stored."""
    for incoming in found:
        if incoming.joins:
            read.join(incoming.operation)
        yield incoming


class _Either:
    """What is in one of two collections."""

    def __init__(self, *collections: Container[object]) -> None:
        self._collections = collections

    def __contains__(self, item: object) -> bool:
        return any(item in each for each in self._collections)


def look_through(paths: Iterable[Path], options: Options, observe: Observe) -> ImportReport:
    """What an import of these files into an empty store would do; needs no store."""
    report, seen, rehearsal = ImportReport(), dict[str, int](), Rehearsal()
    options = replace(options, held=rehearsal.held)
    for path in paths:
        try:
            for incoming in incoming_of(path, options, report, observe):
                key, messages = incoming.operation.key, incoming.operation.messages
                if incoming.joins:
                    report.count(incoming.where, rehearsal.join(incoming.operation))
                    continue
                said = hash(tuple((each.message_id, each.content) for each in messages))
                if key not in seen:
                    report.sessions += 1
                    report.messages += len(messages)
                    seen[key] = said
                elif seen[key] == said:
                    report.known += 1
                else:
                    report.refuse(f"{incoming.where}: {has_another_history(key)}")
        except InvalidInputError as error:
            report.refuse(str(error))
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
            report.assistants += sum(said.role == ASSISTANT for said in each.operation.messages)
            yield each
        elif isinstance(each, Damage):
            note = report.refuse if each.is_session else report.leave_out
            note(f"{each.where}: {each.problem}")
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
            yield from _read_file(STANDARD_INPUT_NAME, lines, options, keep)
        elif path.is_dir():
            options = replace(options, modified=path.stat().st_mtime_ns // 1000)
            yield from read_folder(DiskFolder(path), options)
        else:
            with opened(path) as file:
                yield from _read_opened(path, file, options, keep)
    except OSError as error:
        raise InvalidInputError("file", f"{path}: {error.strerror or error}") from None
    except ZstdError as error:
        raise InvalidInputError("file", f"{path} is damaged: {error}") from None


def _read_opened(
    path: Path, file: BufferedReader[Any], options: Options, keep: Keep
) -> Iterator[Found]:
    before = os.fstat(file.fileno())
    options = replace(options, modified=before.st_mtime_ns // 1000)
    start = file.peek(len(MAGIC))
    if start.startswith(MAGIC):
        yield from databases.read(str(path), path, options)
        return
    if start.startswith(ZIP_MAGICS):
        yield from read_folder(ZipFolder(str(path), file), options)
    else:
        if stat.S_ISREG(before.st_mode) and not is_packed(file):  # or the size is not known
            yield Total(before.st_size)
        yield from _read_file(str(path), file, options, keep)
    if stat.S_ISREG(before.st_mode) and not _is_as_it_was(path, before):
        problem = "changed while it was read; import it again"
        yield Damage(str(path), problem, is_session=False)


def _is_as_it_was(path: Path, before: os.stat_result) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(before, now) and (before.st_size, before.st_mtime_ns) == (
        now.st_size,
        now.st_mtime_ns,
    )


def _read_file(
    name: str, packed: BufferedReader[Any], options: Options, keep: Keep
) -> Iterator[Found]:
    head, file = as_utf8(unpacked(packed))
    start = head.lstrip(_PADDING)
    if start.startswith((b'{"backscroll_export"', b'{"session"')):
        yield from read_jsonl(name, file, keep)
    elif start.startswith(b"{"):
        yield from _read_objects(name, head, file, options)
    elif is_whatsapp(start):
        yield from read_chat(name, file, options)
    elif is_nearly_whatsapp(start):
        problem = "looks like a chat of WhatsApp, but its times are not in a form that is known"
        raise InvalidInputError("file", f"{name} {problem}")
    elif start.startswith(b"["):
        yield from read_document(name, file, options)
    elif not start:
        raise InvalidInputError("file", f"{name} is empty")
    elif start[:15].lower().startswith((b"<!doctype html", b"<html")):
        raise InvalidInputError("file", f"{name} is HTML: export it as JSON, and import that")
    else:
        raise InvalidInputError("file", f"{name} is neither an export nor a known database")


def _read_objects(
    name: str, head: bytes, file: BufferedReader[Any], options: Options
) -> Iterator[Found]:
    """A JSON object: the whole file, or the first line of several."""
    if b"\n" not in head and begins_document(head):
        yield from read_document(name, file, options)
        return
    line = file.readline(MAX_LINE_BYTES)
    file = with_start(line, file)
    if (form := log_form(head, line)) is not None:
        yield from read_log(form, name, file, options)
    elif not _is_training(line):
        yield from read_document(name, file, options)
    elif options.key_prefix is not None:
        at = options.modified
        yield from read_openai(name, file, options.key_prefix, at)
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
