"""Forks: a session's messages copied to a new file, in the group's one commit."""

from __future__ import annotations

from dataclasses import replace

from backscroll.contract.forks import Fork
from backscroll_worker.contract.forks import attributes_of_fork, unknown_message, unknown_session
from backscroll_worker.contract.turns import CONFLICT
from backscroll_worker.stores.jsonl.lines import Line, note_platform_ids
from backscroll_worker.stores.jsonl.session import Session


def fork(target: Session, source: Session, operation: Fork) -> int:
    """Apply the operation; returns how many messages the fork has.

    Raises `OperationRefusedError` where there is nothing to copy.
    """
    if not source.exists:
        raise unknown_session(operation)
    if target.exists and target.count:
        return target._note(operation.op_id, CONFLICT)
    originals = source.lines
    upto = operation.upto
    if operation.upto_platform_id is not None:
        upto = source.message_id_of(operation.upto_platform_id)
    if operation.upto is not None or operation.upto_platform_id is not None:
        index = source._index_of(upto)
        if index is None:
            raise unknown_message(operation)
        originals = originals[: index + 1]
    lines = _copies(originals, operation)
    there = target.info() if target.exists else None
    last = originals[-1].message.message_id if originals else None
    attributes = attributes_of_fork(source.info(), last, there)
    target._create()
    sidecar = target.sidecar
    sidecar.attributes.update({k: value for k, value in attributes.items() if value is not None})
    sidecar.states = {**source.sidecar.states, **sidecar.states}
    target._is_described = True
    target._touch()
    target._rewrite().extend(lines)
    cached = target._cached_session()
    cached.count = len(lines)
    cached.known.update((line.op_id, 1) for line in lines)
    note_platform_ids(lines, cached.platform_ids)
    return target._done(operation.op_id, len(lines))


def _copies(originals: list[Line], operation: Fork) -> list[Line]:
    """The lines of the copies, each of an operation of its own; summaries go up to copies."""
    lines, ids = list[Line](), dict[str | None, str]()
    for place, line in enumerate(originals, 1):
        message, id_ = line.message, operation.copy_id(place)
        ids[message.message_id] = id_
        upto = ids.get(message.upto, message.upto)
        lines.append(Line.of(replace(message, message_id=id_, upto=upto), id_))
    return lines
