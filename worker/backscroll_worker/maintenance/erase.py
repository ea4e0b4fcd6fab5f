"""An erasure beyond the store: in the archive, and in the jobs that the server keeps for reading.

The receipt is the store's, with what was erased elsewhere. Jobs that still wait are not touched:
the tombstones drop them when their turn comes. What a late description attributes to the erased
leaves the archive with the next compaction.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson
import redis

from backscroll.contract.codec import decode, encode, payload_json
from backscroll.contract.errors import (
    BackscrollError,
    MalformedJobError,
    OperationRefusedError,
)
from backscroll.contract.ids import new_op_id
from backscroll.contract.operations import Erase, Operation, Replace, Write
from backscroll.contract.reads import Load
from backscroll.contract.results import ErasureReceipt
from backscroll.contract.validation import OF_SESSIONS
from backscroll.transport.connection import is_forbidden
from backscroll.transport.rq_protocol import job_key, parse_result, registry_key, results_key
from backscroll_worker.archive.directory import ALL, NOTHING, Archive
from backscroll_worker.contract.archiving import ArchivedSession
from backscroll_worker.contract.pacing import Slices
from backscroll_worker.contract.store import Store
from backscroll_worker.contract.tombstones import Tombstones

log = logging.getLogger("backscroll.worker")

_JOBS_PER_SLICE: Final = 100
_LOG_RESETS: Final = (
    ("SLOWLOG", "RESET"),
    ("COMMANDLOG", "RESET", "large-request"),
    ("COMMANDLOG", "RESET", "large-reply"),
)


def erase(
    store: Store,
    archive: Archive | None,
    connection: redis.Redis | None,
    queue: str,
    operation: Erase,
) -> Slices[ErasureReceipt]:
    """Erase from the store, then from the archive, then from the server, if there is one.

    Raises `ArchiveError` when a file of the archive cannot be read or written, and the store's and
    the server's errors. Begun again it goes on.
    """
    receipt = yield from store.erase(operation)
    tombstones = store.tombstones()
    archived = 0
    if archive is not None:
        archived = yield from archive.erase_slices(
            partial(_until, operation, tombstones),
            is_of_erased=partial(_is_of_erased, tombstones),
        )
    failed = 0
    if connection is not None:
        failed = yield from _erase_jobs(connection, queue, _Traces(operation, tombstones, store))
        _reset_logs(connection)
    return replace(receipt, archived=archived, failed_jobs=failed)


def erase_late(archive: Archive, tombstones: Tombstones) -> Slices[int]:
    """Erase archived data that a late `describe` attributed to an erased subject.

    Raises `ArchiveError` for a damaged file, when all others are done.
    """

    def is_session_erased(key: str) -> bool:
        return tombstones.moment("key", key) >= 0

    return archive.erase_slices(partial(_erased_until, tombstones), is_session_erased)


def is_erased(tombstones: Tombstones, session: ArchivedSession, author: str | None = None) -> bool:
    """Whether it was archived before an erasure that is about it, or about the author, began."""
    return _erased_until(tombstones, session, author) != NOTHING


def _is_of_erased(tombstones: Tombstones, session: ArchivedSession) -> bool:
    """Whether it is a fork of a session that was erased after it was archived."""
    origin = session.info.forked_from
    return origin is not None and tombstones.of("key", origin).noted_at >= session.removed_at


def _erased_until(
    tombstones: Tombstones, session: ArchivedSession, author: str | None = None
) -> int:
    """Until when its messages, or those of one author, were erased, by their dates.

    None of them were if it was archived later: both clocks must be wrong to lose something.
    """
    values = [(name, getattr(session.info, name)) for name in OF_SESSIONS]
    if author is not None:
        values = [("author", author)]
    found = (tombstones.of(name, value) for name, value in values if value is not None)
    return max(
        (each.erased_at for each in found if each.noted_at >= session.removed_at), default=NOTHING
    )


def _until(
    operation: Erase, tombstones: Tombstones, session: ArchivedSession, author: str | None
) -> int:
    """Until when an erasure takes the messages of an archived session, or those of one author.

    What was archived before it began goes whatever its date. What was archived later, by a clock
    that may have been wrong, goes by its date.
    """
    (name, value), info = operation.subject, session.info
    until, own = _erased_until(tombstones, session, author), tombstones.of(name, value)
    took_its_key = tombstones.of("key", info.key).is_of_same_erasure(own)
    if name == "author":
        is_own = author == value
    else:
        is_own = author is None and (getattr(info, name) == value or took_its_key)
    if is_own:
        return ALL if own.noted_at >= session.removed_at else max(until, own.erased_at)
    return until


class _Traces:
    """Whether a job that the server keeps mentions what was erased.

    A failed append with messages of several authors keeps those of the others, and can be requeued.
    """

    def __init__(self, operation: Erase, tombstones: Tombstones, store: Store) -> None:
        self._operation = operation
        self._tombstones = tombstones
        self._store = store
        self._quoted = orjson.dumps(operation.subject[1])

    def rest_of(self, job_id: str, payload: bytes | None) -> bytes | None:
        """The payload that the job may have from now on; None if nothing of it may stay."""
        try:
            operation = decode(job_id, payload)
        except MalformedJobError:
            return None if self._are_in_malformed(payload or b"") else payload
        if self._are_in_operation(operation):
            return None
        if not isinstance(operation, Write):
            return payload
        spared = self._tombstones.spared(operation)
        if spared is None or spared is operation:
            return None if spared is None else payload
        return encode(spared)

    def are_in_answer(self, answer: object) -> bool:
        """Of maintenance: reports name sessions as their `key`, at any depth."""
        if isinstance(answer, dict):
            is_named = self._is_erased_key(answer.get("key"))
            return is_named or any(map(self.are_in_answer, answer.values()))
        return isinstance(answer, list) and any(map(self.are_in_answer, answer))

    def _are_in_operation(self, operation: Operation) -> bool:
        if isinstance(operation, Erase):
            return self._tombstones.moment(*operation.subject) >= operation.at
        return (
            self._tombstones.cover(operation)
            or self._tombstones.of_described(operation) is not None
            or self._may_edit_erased(operation)
        )

    def _may_edit_erased(self, operation: Operation) -> bool:
        """Whether it is an earlier edit that names nobody, of a message that the store lacks."""
        if self._operation.author is None or not isinstance(operation, Replace):
            return False
        if operation.message.author is not None or operation.at > self._operation.at:
            return False
        id_, platform_id = operation.message_id, operation.platform_id
        if id_ is None and platform_id is None:
            return False
        load = Load(new_op_id(), operation.at, operation.key, 1, around=id_)
        (answer,) = self._store.apply([replace(load, around_platform_id=platform_id)])
        return isinstance(answer, OperationRefusedError) or not answer

    def _are_in_malformed(self, payload: bytes) -> bool:
        """It has no time, as it is not an operation; but it may name the key or the subject."""
        try:
            call = payload_json(payload)
        except MalformedJobError:
            return self._quoted in payload
        arguments = call[3] if isinstance(call, list) and len(call) == 4 else None
        key = arguments.get("key") if isinstance(arguments, dict) else None
        return self._is_erased_key(key) or self._quoted in orjson.dumps(call)

    def _is_erased_key(self, key: object) -> bool:
        return isinstance(key, str) and self._tombstones.moment("key", key) >= 0


def _reset_logs(connection: redis.Redis) -> None:
    """Empty the server's logs of slow and large commands, which quote messages.

    A missing permission is logged; a server that does not know such a log has none.
    """
    for command in _LOG_RESETS:
        try:
            connection.execute_command(*command)  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            if is_forbidden(error):
                log.warning(
                    "the server does not let this user run %s: that log may quote erased text; "
                    "run it as an administrator, or see deploy/redis/README.md",
                    " ".join(command),
                )


def _erase_jobs(connection: redis.Redis, queue: str, traces: _Traces) -> Slices[int]:
    """Delete failed and finished jobs that mention it, with their results; how many had failed.

    Those of which a part may stay are counted, and keep this part.
    """
    failed = 0
    for kind in ("failed", "finished"):
        registry = registry_key(kind, queue)
        # All ids at once: they are few, and deleting shifts the places of those that follow.
        reply: Any = connection.zrange(registry, 0, -1)
        ids = [name.decode(errors="replace") for name in reply]
        for start in range(0, len(ids), _JOBS_PER_SLICE):
            found = _found(connection, ids[start : start + _JOBS_PER_SLICE], traces)
            for job_id, (payload, rest) in found.items():
                if rest is not None:
                    _rewrite_job(connection, job_id, payload, rest)
            gone = [job_id for job_id, (_, rest) in found.items() if rest is None]
            if gone:
                with connection.pipeline(transaction=True) as pipeline:
                    pipeline.zrem(registry, *gone)
                    for job_id in gone:
                        pipeline.delete(job_key(job_id))
                        pipeline.delete(results_key(job_id))
                    pipeline.execute()
            failed += len(found) if kind == "failed" else 0
            yield
    return failed


def _rewrite_job(connection: redis.Redis, job_id: str, payload: bytes, rest: bytes) -> None:
    """Give a job another payload, unless it was requeued, changed or deleted meanwhile."""
    with connection.pipeline() as pipeline, suppress(redis.WatchError):
        pipeline.watch(job_key(job_id))  # type: ignore[no-untyped-call]
        if pipeline.hget(job_key(job_id), "data") == payload:
            pipeline.multi()
            pipeline.hset(job_key(job_id), "data", rest)
            pipeline.execute()


def _found(
    connection: redis.Redis, ids: list[str], traces: _Traces
) -> dict[str, tuple[bytes, bytes | None]]:
    """The jobs that mention it, each with its payload and with what it may have instead."""
    with connection.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hmget(job_key(job_id), "data")
            pipeline.xrevrange(results_key(job_id), count=1)
        replies = pipeline.execute()
    found = {}
    for job_id, (payload,), results in zip(ids, replies[::2], replies[1::2], strict=True):
        rest = traces.rest_of(job_id, payload)
        for _, fields in results:
            with suppress(BackscrollError, ValueError, KeyError):
                rest = None if traces.are_in_answer(parse_result(fields)) else rest
        if rest is None or rest != payload:
            found[job_id] = payload, rest
    return found
