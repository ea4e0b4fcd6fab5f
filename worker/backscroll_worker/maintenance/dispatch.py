"""Which slices carry out a maintenance operation, as the settings say."""

from __future__ import annotations

import logging
from typing import Any

import redis

from backscroll.contract.operations import Cleanup, Compact, Erase, Operation, Restore
from backscroll.contract.results import CleanupReport, CompactReport
from backscroll_worker.archive.directory import Archive
from backscroll_worker.archive.disk import ArchiveError
from backscroll_worker.contract.pacing import Slices
from backscroll_worker.contract.store import Store
from backscroll_worker.maintenance.erase import erase as erase_everywhere
from backscroll_worker.maintenance.erase import erase_late
from backscroll_worker.maintenance.restore import restore as restore_session
from backscroll_worker.maintenance.server_clock import refuse_if_ahead
from backscroll_worker.settings import Settings

log = logging.getLogger("backscroll.worker")


def maintenance_slices(
    store: Store, settings: Settings, operation: Operation, connection: redis.Redis | None
) -> Slices[Any]:
    """The slices that carry out a cleanup, restoration, erasure or compaction.

    Without a `connection` there is no server, whose clock and jobs would have to be looked at.
    They raise what the operation raises: the store's errors, `ArchiveError`,
    `OperationRefusedError`.
    """
    archive = None if settings.archive is None else Archive(settings.archive)
    if isinstance(operation, Cleanup):
        return _cleanup(store, settings, archive, operation, connection)
    if isinstance(operation, Restore):
        return restore_session(store, archive, operation)
    if isinstance(operation, Erase):
        return erase_everywhere(store, archive, connection, settings.queue, operation)
    if isinstance(operation, Compact):
        return _compact(store, settings, archive)
    raise TypeError(f"{operation.kind} is not maintenance")


def _cleanup(
    store: Store,
    settings: Settings,
    archive: Archive | None,
    operation: Cleanup,
    connection: redis.Redis | None,
) -> Slices[CleanupReport]:
    """The rules are read for each cleanup. If the file is invalid by then, nothing is deleted."""
    retention = settings.load_retention(operation.ttl_hours)
    if connection is not None and not operation.dry_run:
        refuse_if_ahead(connection)
    slices = store.cleanup(retention, dry_run=operation.dry_run, archive=archive)
    return (yield from slices)


def _compact(store: Store, settings: Settings, archive: Archive | None) -> Slices[CompactReport]:
    tombstones = store.tombstones()
    if archive is not None and tombstones.items():
        try:  # first, as the oldest of them are about to be forgotten
            yield from erase_late(archive, tombstones)
        except ArchiveError as error:
            log.error("%s; erased data stays in it until a compaction can read it", error)
    return (yield from store.compact(settings.op_ids_hours))
