"""Verifying and repairing: every file against its own format.

What is damaged is never thrown away: it goes into a file beside, `<name>.damaged`.
"""

from __future__ import annotations

from backscroll_worker.contract.findings import Finding
from backscroll_worker.contract.pacing import Progress
from backscroll_worker.stores.jsonl.erasure_ledger import NAME, is_readable
from backscroll_worker.stores.jsonl.file_names import (
    EDITED_SUFFIX,
    GONE_SUFFIX,
    MESSAGES_SUFFIX,
    damaged_name,
    key_of,
)
from backscroll_worker.stores.jsonl.session import Session
from backscroll_worker.stores.jsonl.sidecar import gone_loads
from backscroll_worker.stores.jsonl.write_batch import Group

_REPAIR = "look at it; 'backscroll check --repair' sets it aside"


def verify(group: Group, progress: Progress) -> list[Finding]:
    """What is wrong with the files of the store."""
    directory = group.directory
    names = directory.names(MESSAGES_SUFFIX)
    findings: list[Finding] = []
    for number, session in enumerate(group.sessions(), start=1):
        findings += _check_session(session)
        progress(number, len(names))
    for name in names:
        if key_of(directory.path / name) is None:
            findings.append(
                Finding(name, "no session has this file name, so it is not shown", _REPAIR, True)
            )
    for name in directory.names(GONE_SUFFIX):
        if not gone_loads(directory.read(name)):
            findings.append(
                Finding(name, "op ids of a session that is gone cannot be read", _REPAIR, True)
            )
    if not is_readable(directory.read(NAME)):
        findings.append(
            Finding(
                NAME,
                "it cannot be read, so what comes late of the erased is stored",
                _REPAIR,
                True,
            )
        )
    findings += [
        Finding(
            name,
            "somebody changed a session's file that was to be replaced or removed",
            "take from it what is needed, then remove it",
        )
        for name in directory.names(EDITED_SUFFIX)
    ]
    return sorted(findings, key=lambda finding: finding.where)


def repair(group: Group, progress: Progress) -> list[str]:
    """Set aside what cannot be read; a line for each thing done."""
    directory = group.directory
    names = directory.names(MESSAGES_SUFFIX)
    done: list[str] = []
    for number, name in enumerate(names, start=1):
        key = key_of(directory.path / name)
        if key is None:
            done.append(_set_aside(group, name))
        else:
            done += _repair_session(group, group.find(key))
        progress(number, len(names))
    done += [
        _set_aside(group, name)
        for name in directory.names(GONE_SUFFIX)
        if not gone_loads(directory.read(name))
    ]
    if group.erasures.set_aside():
        done.append(f"moved {NAME} to {damaged_name(NAME)}")
    return done


def _check_session(session: Session) -> list[Finding]:
    name = session.names.messages
    findings = [
        Finding(f"{name}:{damage.number}", damage.problem, _REPAIR, True)
        for damage in session.transcript.damage
    ]
    if session.repeated():
        findings.append(Finding(name, "messages have the same id", _REPAIR, True))
    if session.sidecar.is_damaged:
        findings.append(
            Finding(
                session.names.sidecar,
                "cannot be read, so the session's attributes are not known",
                "restore it from a backup, or run 'backscroll check --repair' and describe the "
                "session again",
                True,
            )
        )
    return findings


def _repair_session(group: Group, session: Session) -> list[str]:
    name, done = session.names.messages, list[str]()
    if session.sidecar.is_damaged:
        done.append(_copy_aside(group, session.names.sidecar))
        session.forget_attributes()
    if session.transcript.damage or session.repeated():
        session.drop_damage()
        count = len(session.transcript.damage)
        done.append(f"moved {count:,} lines of {name} to {damaged_name(name)}")
    return done


def _set_aside(group: Group, name: str) -> str:
    done = _copy_aside(group, name)
    group.changes.remove(name)
    return done


def _copy_aside(group: Group, name: str) -> str:
    aside = damaged_name(name)
    before = group.directory.read(aside) or b""
    group.changes.put(aside, before + (group.directory.read(name) or b""))
    return f"moved {name} to {aside}"
