"""Verification and repair: every file is checked against its format.

Damaged content is kept: repair moves it into `<name>.damaged`.
"""

from __future__ import annotations

from collections.abc import Iterator

from backscroll_worker.contract.findings import Finding
from backscroll_worker.contract.pacing import Progress
from backscroll_worker.stores.jsonl.erasure_ledger import NAME, is_readable
from backscroll_worker.stores.jsonl.file_names import (
    EDITED_SUFFIX,
    GONE_SUFFIX,
    MESSAGES_SUFFIX,
    damaged_name,
)
from backscroll_worker.stores.jsonl.lines import load_records
from backscroll_worker.stores.jsonl.session import Session
from backscroll_worker.stores.jsonl.write_batch import Group

_REPAIR = "inspect it; 'backscroll check --repair' sets it aside"


def verify(group: Group, *, deep: bool, progress: Progress) -> list[Finding]:
    """The damage in the store's files; of attachments' bytes only if `deep`."""
    used = set[str]()
    found = [*_findings(group, used, progress)]
    found += group.directory.blobs.verify(sorted(used), deep=deep)
    return sorted(found, key=lambda finding: finding.where)


def repair(group: Group, progress: Progress) -> list[str]:
    """Set aside what is unreadable; returns a line for each change."""
    names = group.directory.names(MESSAGES_SUFFIX)
    done: list[str] = []
    for number, name in enumerate(names, start=1):
        key = group.key_of(name)
        if key is None:
            done.append(_move_aside(group, name))
        else:
            done += _repair_session(group, group.find(key))
        progress(number, len(names))
    done += [_move_aside(group, name) for name in _unreadable_op_ids(group)]
    if group.erasures.set_aside():
        done.append(f"moved {NAME} to {damaged_name(NAME)}")
    return done


def _findings(group: Group, used: set[str], progress: Progress) -> Iterator[Finding]:
    """All but those about attachments; the blobs that messages use are added to `used`."""
    directory = group.directory
    names = directory.names(MESSAGES_SUFFIX)
    for number, session in enumerate(group.sessions(), start=1):
        yield from _check_session(session)
        used |= session.used_blobs()
        progress(number, len(names))
    for name in names:
        if group.key_of(name) is None:
            yield _repairable(name, "not the file name of a session, so it is not shown")
    for name in _unreadable_op_ids(group):
        yield _repairable(name, "the op ids of a deleted session are unreadable")
    if not is_readable(directory.read(NAME)):
        yield _repairable(NAME, "unreadable, so late operations on erased sessions are stored")
    for name in directory.names(EDITED_SUFFIX):
        yield Finding(
            name,
            "a session's file was changed by hand before it was to be replaced or removed",
            "copy what is needed from it, then remove it",
        )


def _check_session(session: Session) -> Iterator[Finding]:
    name = session.names.messages
    for damage in session.transcript.damage:
        yield _repairable(f"{name}:{damage.number}", damage.problem)
    if session.repeated():
        yield _repairable(name, "messages have the same id")
    if session.sidecar.is_damaged:
        yield _repairable(
            session.names.sidecar,
            "unreadable, so the session's attributes are unknown",
            "restore it from a backup, or run 'backscroll check --repair' and describe the "
            "session again",
        )


def _repairable(where: str, problem: str, advice: str = _REPAIR) -> Finding:
    return Finding(where, problem, advice, repairable=True)


def _repair_session(group: Group, session: Session) -> Iterator[str]:
    name = session.names.messages
    if session.sidecar.is_damaged:
        yield _copy_aside(group, session.names.sidecar)
        session.forget_attributes()
    if session.transcript.damage or session.repeated():
        session.drop_damage()
        count = len(session.transcript.damage)
        yield f"moved {count:,} lines of {name} to {damaged_name(name)}"


def _unreadable_op_ids(group: Group) -> Iterator[str]:
    for name in group.directory.names(GONE_SUFFIX):
        if not load_records(group.directory.read(name)):
            yield name


def _move_aside(group: Group, name: str) -> str:
    done = _copy_aside(group, name)
    group.changes.remove(name)
    return done


def _copy_aside(group: Group, name: str) -> str:
    group.changes.set_aside(group.directory, name, group.directory.read(name) or b"")
    return f"moved {name} to {damaged_name(name)}"
