"""Everything that can be set, in one frozen object, read once and checked before first use.

docs/settings.md lists the variables for people; a test keeps the two in step.
BACKSCROLL_ALLOW_FILESYSTEM is read by `stores.filesystem`, whoever opens the store.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from croniter import CroniterError, croniter

from backscroll.contract.errors import InvalidSettingError
from backscroll.contract.ids import DEFAULT_QUEUE
from backscroll.contract.messages import MAX_MESSAGE_BYTES, MAX_OPERATION_BYTES
from backscroll.settings import DEFAULT_MAX_QUEUE_DEPTH, check_queue_name, server_url, whole_number
from backscroll_worker.contract.retention import Retention
from backscroll_worker.stores import store_at


@dataclass(frozen=True, slots=True)
class Settings:
    """How this process is to work; `redis_url` None means the embedded server."""

    redis_url: str | None
    data_dir: Path
    store: str
    queue: str = DEFAULT_QUEUE
    max_queue_depth: int = DEFAULT_MAX_QUEUE_DEPTH
    max_message_bytes: int = MAX_MESSAGE_BYTES
    group_size: int = 2_000
    group_wait_ms: int = 0
    ttl_hours: float = 0.0
    retention: Path | None = None
    archive: Path | None = None
    op_ids_hours: float = 168.0
    keep_edits: bool = False
    accept_store: str | None = None
    cleanup_cron: str = "0 * * * *"
    compact_cron: str = "30 3 * * *"
    dashboard_host: str = "127.0.0.1"
    dashboard_port: int = 9181
    dashboard_username: str = "backscroll"
    dashboard_password: str | None = None
    log_level: str = "INFO"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the BACKSCROLL_… variables; raises `InvalidSettingError` naming the wrong one."""
        data_dir = Path(environ.get("BACKSCROLL_DATA_DIR") or _default_data_dir(environ))
        data_dir = data_dir.expanduser().absolute()
        store = environ.get("BACKSCROLL_STORE") or _default_store(data_dir)
        store_at(store)
        return cls(
            redis_url=server_url(None, environ),
            data_dir=data_dir,
            store=store,
            queue=check_queue_name(environ.get("BACKSCROLL_QUEUE") or DEFAULT_QUEUE),
            max_queue_depth=whole_number(
                environ, "BACKSCROLL_MAX_QUEUE_DEPTH", DEFAULT_MAX_QUEUE_DEPTH, least=1
            ),
            max_message_bytes=whole_number(
                environ,
                "BACKSCROLL_MAX_MESSAGE_BYTES",
                MAX_MESSAGE_BYTES,
                least=1,
                most=MAX_OPERATION_BYTES,
            ),
            group_size=whole_number(environ, "BACKSCROLL_GROUP_SIZE", 2_000, least=1, most=10_000),
            group_wait_ms=whole_number(environ, "BACKSCROLL_GROUP_WAIT_MS", 0, least=0, most=1_000),
            ttl_hours=_hours(environ, "BACKSCROLL_TTL_HOURS", 0.0),
            retention=_path(environ, "BACKSCROLL_RETENTION"),
            archive=_path(environ, "BACKSCROLL_ARCHIVE"),
            op_ids_hours=_hours(environ, "BACKSCROLL_OP_IDS_HOURS", 168.0),
            keep_edits=_switch(environ, "BACKSCROLL_KEEP_EDITS"),
            accept_store=environ.get("BACKSCROLL_ACCEPT_STORE", "").strip() or None,
            cleanup_cron=_cron(environ, "BACKSCROLL_CLEANUP_CRON", "0 * * * *"),
            compact_cron=_cron(environ, "BACKSCROLL_COMPACT_CRON", "30 3 * * *"),
            dashboard_host=environ.get("BACKSCROLL_DASHBOARD_HOST") or "127.0.0.1",
            dashboard_port=whole_number(
                environ, "BACKSCROLL_DASHBOARD_PORT", 9181, least=1, most=65_535
            ),
            dashboard_username=environ.get("BACKSCROLL_DASHBOARD_USERNAME") or "backscroll",
            dashboard_password=environ.get("BACKSCROLL_DASHBOARD_PASSWORD") or None,
            log_level=_log_level(environ),
        )

    @property
    def has_retention(self) -> bool:
        """Whether sessions or messages may have to go by themselves one day."""
        return self.ttl_hours > 0 or self.retention is not None

    @property
    def names_store(self) -> bool:
        """Whether the store is another than that of the data directory."""
        return self.store != _default_store(self.data_dir)

    def load_retention(self, ttl_hours: float | None = None) -> Retention:
        """What a cleanup goes by; `ttl_hours` instead of the age where no rule says one.

        Raises `InvalidSettingError` for a file that cannot be used.
        """
        default = ttl_hours if ttl_hours is not None else self.ttl_hours or None
        if self.retention is not None:
            return Retention.load(self.retention, default, overrides=ttl_hours is not None)
        return Retention.of_hours(default)

    def with_options(self, **given: Any) -> Self:
        """These settings with what the command line said instead; None means it said nothing."""
        options = {name: value for name, value in given.items() if value is not None}
        if "store" in options:
            store_at(options["store"])
        if "queue" in options:
            check_queue_name(options["queue"])
        if "redis_url" in options:
            server_url(options["redis_url"], {})
        return replace(self, **options)


def _default_data_dir(environ: Mapping[str, str]) -> str:
    base = environ.get("XDG_DATA_HOME") or "~/.local/share"
    return f"{base}/backscroll"


def _default_store(data_dir: Path) -> str:
    return f"sqlite://{data_dir / 'backscroll.db'}"


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    text = environ.get(name, "").strip()
    return Path(text).expanduser().absolute() if text else None


def _hours(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "").strip()
    try:
        hours = float(text) if text else default
    except ValueError:
        raise InvalidSettingError(f"{name}: {text[:40]!r} is not a number of hours") from None
    if not 0 <= hours < 1e9:
        raise InvalidSettingError(f"{name}: must be from 0 to 1e9 hours, not {text[:40]}")
    return hours


def _switch(environ: Mapping[str, str], name: str) -> bool:
    text = environ.get(name, "").strip() or "0"
    if text not in ("0", "1"):
        raise InvalidSettingError(f"{name}: {text[:40]!r} is neither 1 (on) nor 0 (off)")
    return text == "1"


_NICKNAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


def _cron(environ: Mapping[str, str], name: str, default: str) -> str:
    expression = environ.get(name, "").strip() or default
    expression = _NICKNAMES.get(expression.lower(), expression)
    # croniter also knows years, and a random R, which would not be the same for two schedulers.
    fields = len(expression.split())
    is_valid = croniter.is_valid(expression, second_at_beginning=True)
    if fields not in (5, 6) or "R" in expression or not is_valid:
        raise InvalidSettingError(
            f"{name}: {expression[:40]!r} is not a cron expression; "
            "five fields, six with the seconds first, or @daily; "
            "'30 3 * * *' is 03:30 UTC every day"
        )
    try:
        croniter(expression, second_at_beginning=True).get_next()
    except CroniterError:
        raise InvalidSettingError(f"{name}: {expression[:40]!r} names no day there is") from None
    return expression


def _log_level(environ: Mapping[str, str]) -> str:
    level = (environ.get("BACKSCROLL_LOG_LEVEL") or "INFO").upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise InvalidSettingError(
            f"BACKSCROLL_LOG_LEVEL: {level[:40]!r} is not DEBUG, INFO, WARNING or ERROR"
        )
    return level
