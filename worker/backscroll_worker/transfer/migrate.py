"""`backscroll migrate`: a folder of JSONL sessions into the store, many files in a transaction.

Files are renamed to `.jsonl.migrated` only after their commit, and only when everything in them was
taken over or is listed in a report beside them, `.jsonl.migrated.report`. After a kill the next run
finds them again, and the store knows their op ids, which follow from the files' contents: nothing
is stored twice.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from backscroll.contract.errors import (
    BackscrollError,
    InvalidInputError,
    OperationRefusedError,
    StoreUnavailableError,
)
from backscroll.contract.ids import derived_op_id
from backscroll.contract.messages import ChatMessage
from backscroll.private_files import replacing, write_all
from backscroll_worker.contract.pacing import now_micros
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.stores import Store, open_store, store_at
from backscroll_worker.stores.filesystem import check_file_system
from backscroll_worker.stores.jsonl.activity import NAME as ACTIVITY
from backscroll_worker.stores.jsonl.file_names import SessionNames
from backscroll_worker.stores.jsonl.files import Directory, Stamp, naming
from backscroll_worker.stores.jsonl.journal import journals
from backscroll_worker.stores.jsonl.reader import SessionFile, read_session_file
from backscroll_worker.stores.lock import StoreLock
from backscroll_worker.transfer.source import LIMITS, Incoming, check_message
from backscroll_worker.transfer.store import Groups, stopped_worker, take_in, with_own_ids, writing

MIGRATED_SUFFIX: Final = ".migrated"
REPORT_SUFFIX: Final = ".report"
_MAX_NAME_BYTES: Final = 255
_OTHER_ENDING: Final = re.compile(
    r"\.(jsonl|ndjson|jsonlines)(\.(gz|bz2|xz|zst|zip|bak|old|txt))?$", re.IGNORECASE
)
_OF_A_STORE: Final = (".lock", ACTIVITY)


@dataclass(frozen=True, slots=True)
class _File(Incoming):
    """A session file that was read; `problems` are what is skipped of it, by place and reason."""

    path: Path
    problems: Sequence[tuple[str, str]]
    stamp: Stamp


@dataclass(slots=True)
class MigrationReport:
    """What a migration did.

    `corrupt_lines` are `file:line` of what was skipped; the files in `reports` list the reasons.
    `refused` are `file: reason`; these files stay where they are.
    """

    sessions: int = 0
    messages: int = 0
    corrupt_lines: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)


def migrate(
    directory: Path,
    url: str,
    track_files: Callable[[list[Path]], Iterable[Path]] = list,
) -> MigrationReport:
    """Take over every session in `directory`, as the store's one writer.

    `track_files` may wrap the list of files to show progress. A file whose session has another
    history in the store is refused and left where it is. Raises `StoreUnavailableError` when a
    worker holds the store or the directory, `InvalidInputError` when they are the same.
    """
    if not directory.is_dir():
        raise InvalidInputError("directory", f"{directory} is not a directory")
    place = store_at(url).path
    if place is not None and place.exists() and place.samefile(directory):
        raise InvalidInputError("directory", f"{directory} is the store itself; name another one")
    report = MigrationReport()
    with _source(directory), writing(url, "migrate") as store:
        found = _sessions_in(track_files(sorted(directory.glob("*.jsonl"))), report)
        groups = Groups(found, store)
        for group in groups:
            _migrate_files(group, store, report, groups.prepare)
    report.refused += [
        f"{path}: skipped; a session's file ends in .jsonl and lies in {directory} itself"
        for path in sorted(directory.iterdir())
        if _is_passed_over(path)
    ]
    return report


def _is_passed_over(path: Path) -> bool:
    """Whether it may have sessions that the user expects to be taken over."""
    if path.suffix == ".jsonl":
        return False
    if path.is_dir():
        return any(path.glob("*.jsonl"))
    return _OTHER_ENDING.search(path.name) is not None


@contextmanager
def _source(directory: Path) -> Iterator[None]:
    """If it is a JSONL store, hold its lock, and complete its files.

    After a kill or a power cut the files may lack what was committed.
    """
    left = journals(Directory(directory))
    is_store = left or any((directory / name).exists() for name in _OF_A_STORE)
    if not (is_store and os.access(directory, os.W_OK)):
        yield
        return
    check_file_system(directory)  # before a lock that may not hold
    with closing(StoreLock(directory / ".lock", directory)) as lock:
        with stopped_worker("migrate"):
            if left:
                open_store(f"jsonl://{directory.absolute()}").close()
            lock.acquire()
        yield


def _sessions_in(paths: Iterable[Path], report: MigrationReport) -> Iterator[_File]:
    for path in paths:
        try:
            file = read_session_file(path)
        except (InvalidInputError, OperationRefusedError, StoreUnavailableError) as error:
            report.refused.append(str(error))
            continue
        if file.damage and not file.messages:
            report.refused.append(f"{path}: no line of it is a message")
            continue
        yield _found(path, file)


def _found(path: Path, file: SessionFile) -> _File:
    problems = [
        (f"{path}:{damage.number}", f"{damage.problem} ({len(damage.raw):,} bytes)")
        for damage in file.damage
    ]
    if file.has_damaged_sidecar:
        sidecar = path.with_name(SessionNames.of(file.key).sidecar)
        problems.append((str(sidecar), "it cannot be read: the session's attributes are skipped"))
    messages = file.messages
    if file.stamp.size > LIMITS.message_bytes // 4:
        messages = tuple(_small_enough(path, messages, problems))
    ids = {message.message_id for message in messages}
    if len(ids) < len(messages):
        messages = tuple(with_own_ids(file.key, messages))
    operation = ImportSession(
        derived_op_id(file.key, f"migrate {file.sha256}"),
        now_micros(),
        file.key,
        messages,
        file.attributes,
        file.created_at,
        file.last_activity,
        file.turn_started_at,
        file.states,
        file.turn_expires_at,
    )
    return _File(str(path), operation, path, problems, file.stamp)


def _small_enough(
    path: Path, messages: Iterable[ChatMessage], problems: list[tuple[str, str]]
) -> Iterator[ChatMessage]:
    for number, message in enumerate(messages, start=1):
        try:
            yield check_message(message)
        except InvalidInputError as error:
            problems.append((f"{path}, message {number:,}", str(error)))


def _migrate_files(
    files: Sequence[_File],
    store: Store,
    report: MigrationReport,
    meanwhile: Callable[[], None],
) -> None:
    """Take files over in one transaction, then set them aside durably."""
    taken = take_in(store, [file.operation for file in files], meanwhile, may_go_on=True)
    for file, result in zip(files, taken, strict=True):
        refusal = result.refusal
        if refusal is None:
            report.sessions += 1
            report.messages += result.messages
            report.corrupt_lines += [where for where, _ in file.problems]
            refusal = _set_aside(file, report)
        if refusal is not None:
            report.refused.append(f"{file.where}: {refusal}")
    Directory(files[0].path.parent).sync()


def _set_aside(file: _File, report: MigrationReport) -> str | None:
    """Rename the sidecar and then the file, never over another file; why not, if it stays.

    The file goes last: as long as it is there, the next run continues one that was killed.
    """
    path, directory = file.path, Directory(file.path.parent)
    try:
        if directory.stamp(path.name) != file.stamp:
            return (
                "its messages are in the store, but it was written to meanwhile; "
                "stop the program that writes there and migrate again"
            )
        target = _free_name(path, MIGRATED_SUFFIX)
        if file.problems:
            report.reports.append(str(_write_report(file, target)))
        sidecar = path.with_name(SessionNames.of(file.operation.key).sidecar)
        with naming(path):
            if sidecar.exists():
                sidecar.rename(_free_name(sidecar, MIGRATED_SUFFIX))
            path.rename(target)
    except BackscrollError as error:
        return f"its messages are in the store, but it could not be set aside: {error}"
    return None


def _write_report(file: _File, target: Path) -> Path:
    """List beside the file what is skipped of it, durably, without any text of the messages."""
    path = _free_name(target, REPORT_SUFFIX)
    lines = [f"skipped when {file.path.name} was taken over; {target.name} still has it"]
    lines += [f"{where}: {problem}" for where, problem in file.problems]
    with naming(path), replacing(path, path.with_name(".report")) as descriptor:
        write_all(descriptor, os.fsencode("\n".join(lines) + "\n"))
    return path


def _free_name(path: Path, suffix: str) -> Path:
    """A name that is free: this one with the suffix, cut where there is no room for it."""
    number, ending = 1, suffix
    while True:
        room = _MAX_NAME_BYTES - len(ending)
        name = os.fsencode(path.name)[:room].decode(errors="ignore") + ending
        free = path.with_name(name)
        if not os.path.lexists(free):
            return free
        number += 1
        ending = f"{suffix}.{number}"
