"""`backscroll migrate`: a folder of JSONL sessions into the store, many files in a transaction.

Files are renamed to `.jsonl.migrated` only after their commit. Killed in between, the next run
finds them again, and the store knows their op ids, which follow from the files' contents: nothing
is stored twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from producer.errors import InvalidInputError, OperationRefusedError, StoreUnavailableError
from producer.ids import derived_op_id
from worker.backends import SessionBackend, open_backend, store_lock
from worker.backends.base import ImportSession, now_micros
from worker.backends.jsonl.files import Directory
from worker.backends.jsonl.journal import journals
from worker.backends.jsonl.names import SessionNames
from worker.backends.jsonl.reader import SessionFile, read_session_file
from worker.intake.store import Groups, take_in, writing

MIGRATED_SUFFIX = ".migrated"


@dataclass(frozen=True, slots=True)
class _Found:
    path: Path
    operation: ImportSession
    corrupt_lines: Sequence[int]


@dataclass(slots=True)
class MigrationReport:
    """What a migration did; `corrupt_lines` are `file:line`, `refused` are `file: reason`."""

    sessions: int = 0
    messages: int = 0
    corrupt_lines: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def migrate(
    directory: Path,
    store: str,
    track_files: Callable[[list[Path]], Iterable[Path]] = list,
) -> MigrationReport:
    """Take over every session in `directory`; it runs as the store's one writer.

    `track_files` may wrap the list of files to show progress. A file whose session has another
    history in the store is refused and left where it is. Raises `StoreUnavailableError` when a
    worker holds the store.
    """
    if not directory.is_dir():
        raise InvalidInputError("directory", f"{directory} is not a directory")
    _finish_journal(directory)
    report = MigrationReport()
    with writing(store, "migrate") as backend:
        found = _sessions_in(track_files(sorted(directory.glob("*.jsonl"))), report)
        groups = Groups(found, backend)
        for group in groups:
            _migrate_files(group, backend, report, groups.prepare)
    return report


def _finish_journal(directory: Path) -> None:
    """Where a JSONL store was killed or lost its power, its files may lack what was committed."""
    if journals(Directory(directory)):
        url = f"jsonl://{directory.absolute()}"
        with store_lock(url), open_backend(url):
            pass


def _sessions_in(paths: Iterable[Path], report: MigrationReport) -> Iterator[_Found]:
    for path in paths:
        try:
            file = read_session_file(path)
        except (InvalidInputError, OperationRefusedError, StoreUnavailableError) as error:
            report.refused.append(str(error))
            continue
        if file.corrupt_lines and not file.messages:
            report.refused.append(f"{path}: no line of it is a message")
            continue
        yield _Found(path, _import_operation(file), file.corrupt_lines)


def _migrate_files(
    files: Sequence[_Found],
    backend: SessionBackend,
    report: MigrationReport,
    meanwhile: Callable[[], None],
) -> None:
    """One transaction; then the files are set aside, and that is made durable."""
    taken = take_in(backend, [file.operation for file in files], meanwhile)
    for file, result in zip(files, taken, strict=True):
        if result.refusal is not None:
            report.refused.append(f"{file.path}: {result.refusal}")
            continue
        _set_aside(file.path, SessionNames.of(file.operation.key).sidecar)
        report.corrupt_lines += [f"{file.path}:{line}" for line in file.corrupt_lines]
        report.sessions += 1
        report.messages += result.messages
    Directory(files[0].path.parent).sync()


def _import_operation(file: SessionFile) -> ImportSession:
    return ImportSession(
        derived_op_id(file.key, f"migrate {file.sha256}"),
        now_micros(),
        file.key,
        file.messages,
        file.attributes,
        file.created_at,
        file.last_activity,
        file.turn_started_at,
    )


def _set_aside(path: Path, sidecar: str) -> None:
    """Rename the sidecar and then the file; never over another file.

    The file goes last: as long as it is there, a run that was killed is taken up again.
    """
    for source in (path.with_name(sidecar), path):
        if source.exists():
            source.rename(_free_name(source.with_name(source.name + MIGRATED_SUFFIX)))


def _free_name(path: Path) -> Path:
    number, name = 1, path
    while name.exists():
        number += 1
        name = path.with_name(f"{path.name}.{number}")
    return name
