"""`backscroll check`: checks server, queue, workers, scheduler and store, and says what to do.

It only reads. It enqueues, deletes and repairs nothing, so it can run at any time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import redis

from backscroll.contract.errors import (
    BackscrollError,
    InvalidSettingError,
    ServerRefusedError,
    StoreUnusableError,
)
from backscroll.transport.connection import connect, hide_password, server_errors
from backscroll_worker.archive.directory import Archive
from backscroll_worker.archive.disk import ArchiveError
from backscroll_worker.contract.findings import Finding
from backscroll_worker.contract.pacing import Progress, unobserved
from backscroll_worker.maintenance.server_clock import MOST_SECONDS_APART, seconds_ahead
from backscroll_worker.ops.default_user import is_affected, missing_right
from backscroll_worker.ops.expired_turns import expired_turns
from backscroll_worker.ops.exposure import exposed
from backscroll_worker.ops.log_holders import HELD_ADVICE, held_log
from backscroll_worker.ops.stats import QueueStats, WorkerStats, read_queue, read_workers, size
from backscroll_worker.settings import Settings
from backscroll_worker.stores import open_store, store_at
from backscroll_worker.stores.filesystem import check_file_system

Level = Literal["ok", "warning", "problem"]

_OLDEST_SERVER: Final = (6, 2)
_NEARLY_FULL: Final = 0.8
_LONG_LAG_SECONDS: Final = 60.0
_LEAST_FREE_BYTES: Final = 1 << 30
_LEAST_FREE_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check: its status, the details, and advice if it failed."""

    area: str
    name: str
    level: Level
    detail: str
    advice: str = ""


def check(
    settings: Settings,
    url: str,
    *,
    skip_verify: bool = False,
    deep: bool = False,
    progress: Progress = unobserved,
) -> list[Check]:
    """The results of all checks, with the server at `url`; raises nothing.

    `skip_verify` skips reading the whole store, which takes long for a large one; `deep` compares
    every message's words with the index.
    """
    return [
        *_check_server_side(settings, url),
        *_check_disk(store_at(settings.store).path),
        *_check_permissions(settings),
        *_check_file_system(store_at(settings.store).path),
        *_check_store(settings, skip_verify, deep, progress),
        *_check_retention(settings, skip_verify),
    ]


def check_quickly(settings: Settings, url: str) -> list[Check]:
    """Whether server, worker and store respond; for polling, as its duration does not vary.

    It does not check what queue and store contain. Raises nothing.
    """
    return [*_check_lives(settings, url), *_check_presence(settings.store)]


def _check_lives(settings: Settings, url: str) -> Iterator[Check]:
    try:
        with server_errors(url), connect(url) as connection:
            connection.ping()
            workers = read_workers(connection, settings.queue)
    except BackscrollError as error:
        yield Check("server", "reachable", "problem", *_unreachable(settings, error))
    else:
        yield Check("server", "reachable", "ok", hide_password(url))
        yield from _check_workers(settings.queue, workers)


def _check_presence(url: str) -> Iterator[Check]:
    if not store_at(url).exists():
        yield _is_missing(url)
        return
    try:
        open_store(url, read_only=True).close()
    except BackscrollError as error:
        yield Check("store", "readable", "problem", str(error), "correct what the message names")
    else:
        yield Check("store", "exists", "ok", url)


def _is_missing(url: str) -> Check:
    advice = "a worker creates it; if yours runs on another machine, check there"
    return Check("store", "exists", "warning", f"{url} is not on this machine", advice)


def _unreachable(settings: Settings, error: BackscrollError) -> tuple[str, str]:
    """The problem with the server, and what to do."""
    if settings.redis_url is None:
        return "the embedded server is not running", "start it with 'backscroll up'"
    if isinstance(error, ServerRefusedError):
        return str(error), "run the check as a user with these rights, such as the worker's"
    return str(error), "start it, or correct BACKSCROLL_REDIS_URL"


def _check_server_side(settings: Settings, url: str) -> Iterator[Check]:
    try:
        with server_errors(url), connect(url) as connection:
            info: Any = connection.info()
            checks = [
                _check_version(info, url),
                _check_append_only_file(info),
                *_check_default_user(connection, info, settings.queue),
                _check_clock(info),
                *_check_memory(info),
            ]
            stats = read_queue(connection, settings.queue)
    except BackscrollError as error:
        yield Check("server", "reachable", "problem", *_unreachable(settings, error))
    else:
        yield from checks
        yield from _check_queue(settings, stats)
        yield from _check_workers(stats.queue, stats.workers)
        yield _check_scheduler(stats)


def _graded(
    area: str, name: str, detail: str, advice: str, *, problem: bool = False, warning: bool = False
) -> Check:
    """A check whose advice is included only when there is something to do."""
    if problem or warning:
        return Check(area, name, "problem" if problem else "warning", detail, advice)
    return Check(area, name, "ok", detail)


def _check_version(info: dict[str, Any], url: str) -> Check:
    is_valkey = "valkey_version" in info
    version = str(info["valkey_version"] if is_valkey else info.get("redis_version", "?"))
    detail = f"{'Valkey' if is_valkey else 'Redis'} {version} at {hide_password(url)}"
    if info.get("role") == "slave":
        return Check("server", "reachable", "problem", f"{detail} is a replica", "name its primary")
    is_old = not is_valkey and _numbers(version) < _OLDEST_SERVER
    advice = "use Redis 6.2 or newer, or Valkey"
    return _graded("server", "reachable", detail, advice, problem=is_old)


def _check_append_only_file(info: dict[str, Any]) -> Check:
    if not info.get("aof_enabled"):
        detail = "off: a restart loses the jobs in the queue"
        advice = "set appendonly yes in the server's configuration"
        return Check("server", "append-only file", "problem", detail, advice)
    fails = info.get("aof_last_write_status", "ok") != "ok"
    detail = "its last write failed" if fails else "on"
    advice = "check the server's log and the free space on its disk"
    return _graded("server", "append-only file", detail, advice, problem=fails)


def _check_default_user(
    connection: redis.Redis, info: dict[str, Any], queue: str
) -> Iterator[Check]:
    if not is_affected(info):
        return
    advice = "its line in the ACL file must be: user default off ~* &* +@all"
    try:
        missing = missing_right(connection, queue)
    except redis.exceptions.NoPermissionError:
        detail = "this user may not query the rights of 'default', on which a restart depends"
        advice += "; see deploy/redis/users.acl, also for this user's +acl|dryrun"
        yield Check("server", "default user", "warning", detail, advice)
        return
    detail = f"lacks {missing!r}: the next restart drops what the append-only file holds"
    has_all = missing is None
    yield _graded(
        "server",
        "default user",
        "has the rights that loading the append-only file needs" if has_all else detail,
        f"{advice}; then ACL LOAD, before any restart",
        problem=not has_all,
    )


def _check_clock(info: dict[str, Any]) -> Check:
    ahead = seconds_ahead(info)
    hours = f"{abs(ahead) / 3_600:,.1f} hours {'ahead of' if ahead > 0 else 'behind'} the server's"
    is_apart = abs(ahead) > MOST_SECONDS_APART
    detail = f"this host's is {hours}" if is_apart else "this host's agrees with the server's"
    advice = "correct the clock that is wrong: a worker whose clock is ahead refuses to clean up"
    return _graded("server", "clock", detail, advice, problem=is_apart)


def _check_memory(info: dict[str, Any]) -> Iterator[Check]:
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    policy = str(info.get("maxmemory_policy", "unknown"))
    evicts = policy != "noeviction"
    yield _graded(
        "server",
        "eviction",
        f"{policy}: at the memory limit, jobs are lost" if evicts else "none",
        "set maxmemory-policy noeviction",
        problem=evicts and limit > 0,
        warning=evicts,
    )
    yield _graded(
        "server",
        "memory",
        f"{size(used)} used " + (f"of {size(limit)}" if limit else "and no limit set"),
        "raise maxmemory, or find out why the queue grows: at the limit all writes are refused",
        problem=0 < limit <= used,
        warning=0 < limit * _NEARLY_FULL < used,
    )


def _check_queue(settings: Settings, stats: QueueStats) -> Iterator[Check]:
    limit = settings.max_queue_depth
    yield _graded(
        "queue",
        "depth",
        f"{stats.depth:,} waiting in {stats.queue!r}, {limit:,} allowed",
        "check that a worker runs and keeps up: a full queue refuses new operations",
        problem=stats.depth >= limit,
        warning=stats.depth > _NEARLY_FULL * limit,
    )
    lag = stats.oldest_job_seconds
    yield _graded(
        "queue",
        "lag",
        "nothing waits" if lag is None else f"the oldest job has waited for {lag:,.0f} s",
        "check that a worker runs, and read its log",
        warning=lag is not None and lag > _LONG_LAG_SECONDS,
    )
    yield _graded(
        "queue",
        "failed jobs",
        f"{stats.failed:,}",
        "'backscroll failed list' shows them; requeue or discard them",
        warning=stats.failed > 0,
    )
    is_stranded = stats.in_flight > 0 and not stats.is_served
    yield _graded(
        "queue",
        "in flight",
        f"{stats.in_flight:,}" + (", left by a worker that died" if is_stranded else ""),
        "start a worker: it puts them back in order and loses none",
        problem=is_stranded,
    )


def _check_workers(queue: str, workers: Iterable[WorkerStats]) -> Iterator[Check]:
    workers = tuple(workers)
    alive = [worker for worker in workers if worker.is_alive]
    yield from map(_check_worker, alive)
    if not alive:
        silent = [
            f"; {worker.name}: last heartbeat {worker.heartbeat_age_seconds:,.0f} s ago"
            for worker in workers
        ]
        detail = f"no worker serves queue {queue!r}{''.join(silent)}"
        yield Check("worker", "alive", "problem", detail, "start one with 'backscroll worker'")
    if len(alive) > 1:
        yield Check(
            "worker",
            "only one",
            "warning",
            f"{len(alive)} workers take jobs from queue {queue!r}",
            "unless one has just died, give each store a queue of its own with BACKSCROLL_QUEUE",
        )


def _check_worker(worker: WorkerStats) -> Check:
    age = f"{worker.heartbeat_age_seconds:.0f} s ago"
    detail = f"{worker.name}, {worker.state}, last heartbeat {age}"
    if worker.store_error is not None:
        return Check(
            "worker",
            "alive",
            "problem",
            f"{detail}; its store fails: {worker.store_error}",
            "correct what the message names; the worker then continues by itself, no job is lost",
        )
    advice = "'rq resume' lets it continue"
    return _graded("worker", "alive", detail, advice, warning=worker.state == "suspended")


def _check_scheduler(stats: QueueStats) -> Check:
    return _graded(
        "scheduler",
        "alive",
        ", ".join(scheduler.name for scheduler in stats.schedulers)
        or "none: nothing is cleaned up or compacted automatically",
        "start one with 'backscroll scheduler'",
        warning=not stats.schedulers,
    )


def _check_disk(path: Path | None) -> Iterator[Check]:
    if path is None:
        return
    place = next(parent for parent in path.absolute().parents if parent.exists())
    usage = shutil.disk_usage(place)
    share = usage.free / max(1, usage.total)
    yield _graded(
        "store",
        "disk",
        f"{size(usage.free)} free ({share:.0%})",
        "free some space: on a full disk the worker pauses, and the queue grows",
        warning=usage.free < _LEAST_FREE_BYTES or share < _LEAST_FREE_SHARE,
    )


def _check_permissions(settings: Settings) -> Iterator[Check]:
    paths = exposed(settings)
    if paths:
        others = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
        detail = f"{paths[0]}{others} can be read or written by other users of this machine"
        advice = "remove these permissions with chmod -R go-w,o-rwx, unless they are intended"
        yield Check("store", "permissions", "warning", detail, advice)


def _check_file_system(path: Path | None) -> Iterator[Check]:
    try:
        if path is not None:
            check_file_system(path)
    except StoreUnusableError as error:
        advice = "move the store; a worker refuses to open it there"
        yield Check("store", "file system", "problem", str(error), advice)


def _check_store(
    settings: Settings, skip_verify: bool, deep: bool, progress: Progress
) -> Iterator[Check]:
    url = settings.store
    if not store_at(url).exists():
        yield _is_missing(url)
        return
    if held := held_log(url):
        yield Check("store", "log", "warning", held, HELD_ADVICE)
    try:
        with open_store(url, read_only=True) as store:
            yield Check("store", "exists", "ok", f"{url}, {size(store.size_bytes())}")
            yield from (Check("store", "turns", "warning", *each) for each in expired_turns(store))
            if not skip_verify:
                yield from _check_findings(store.verify(deep=deep, progress=progress))
    except BackscrollError as error:
        yield Check("store", "readable", "problem", str(error), "correct what the message names")


def _check_findings(findings: list[Finding]) -> Iterator[Check]:
    for finding in findings:
        yield Check("store", finding.where, "problem", finding.problem, finding.advice)
    if all(finding.where != "index" for finding in findings):
        yield Check("store", "index", "ok", "consistent with the messages")
    if all(finding.where == "index" for finding in findings):
        yield Check("store", "integrity", "ok", "no damage found")


def _check_retention(settings: Settings, skip_verify: bool) -> Iterator[Check]:
    """The retention rules, and the archive of deleted sessions."""
    if settings.retention is not None:
        try:
            rules = settings.load_retention().rules
        except InvalidSettingError as error:
            advice = "correct it: until then cleanup fails and deletes nothing"
            yield Check("cleanup", "rules", "problem", str(error), advice)
        else:
            yield Check("cleanup", "rules", "ok", f"{len(rules):,} in {settings.retention}")
    if settings.archive is None or skip_verify:
        return
    archive = Archive(settings.archive)
    try:
        findings, count = archive.verify(), len(archive.files())
    except ArchiveError as error:
        findings, count = [Finding("archive", str(error), "make it readable")], 0
    for finding in findings:
        yield Check("cleanup", "archive", "problem", finding.problem, finding.advice)
    if not findings:
        yield Check("cleanup", "archive", "ok", f"{count:,} checked, none is damaged")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
