"""Everything that can be set, declared once, read once and checked before first use.

docs/settings.md is made from these declarations (`python -m tests.settings_page`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from croniter import CroniterError, croniter

from backscroll.contract.errors import InvalidSettingError
from backscroll.settings import (
    FALLBACK_URL,
    MAX_QUEUE_DEPTH,
    MESSAGE_BYTES,
    QUEUE,
    REDACT,
    REDIS_URL,
    Setting,
    Whole,
    server_url,
    switch,
)
from backscroll_worker.contract.retention import Retention
from backscroll_worker.stores import store_at
from backscroll_worker.stores.filesystem import ALLOW_FILESYSTEM

T = TypeVar("T")


def _path(_name: str, text: str) -> Path:
    return Path(text).expanduser().absolute()


def _store(_name: str, text: str) -> str:
    store_at(text)
    return text


def _text(_name: str, text: str) -> str:
    return text


def _hours(name: str, text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        raise InvalidSettingError(f"{name}: {text[:40]!r} is not a number of hours") from None
    if not 0 <= hours < 1e9:
        raise InvalidSettingError(f"{name}: must be from 0 to 1e9 hours, not {text[:40]}")
    return hours


_NICKNAMES: Final = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}  # fmt: skip


def _cron(name: str, text: str) -> str:
    expression = _NICKNAMES.get(text.lower(), text)
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
        raise InvalidSettingError(f"{name}: {expression[:40]!r} never comes") from None
    return expression


def _log_level(name: str, text: str) -> str:
    if text.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise InvalidSettingError(f"{name}: {text[:40]!r} is not DEBUG, INFO, WARNING or ERROR")
    return text.upper()


_DEPENDS: Final[Any] = None  # on another setting, or on the environment


def _declared(setting: Setting[T]) -> T:
    """The field of a setting, with its default unless that depends on something."""
    metadata = {"setting": setting}
    if setting.shown:
        return field(metadata=metadata)  # type: ignore[no-any-return]
    return field(default=setting.default, metadata=metadata)


def _setting(name: str, default: T, read: Callable[[str, str], T], meaning: str, **more: Any) -> T:
    return _declared(Setting(name, default, read, meaning, **more))


@dataclass(frozen=True, slots=True)
class Settings:
    """How this process is to work; `redis_url` None means the embedded server."""

    redis_url: str | None = _declared(REDIS_URL)
    data_dir: Path = _setting(
        "BACKSCROLL_DATA_DIR", _DEPENDS, _path, "Where the default store and the embedded server "
        "keep their files.", shown="`$XDG_DATA_HOME/backscroll`, else `~/.local/share/backscroll`",
        is_verbatim=True,
    )  # fmt: skip
    store: str = _setting(
        "BACKSCROLL_STORE", _DEPENDS, _store, "The store: `sqlite:///path/to/file.db` or "
        "`jsonl:///path/to/directory`. Only the worker's host needs it.",
        shown="`sqlite://<data dir>/backscroll.db`", is_verbatim=True,
    )  # fmt: skip
    queue: str = _declared(QUEUE)
    max_queue_depth: int = _declared(MAX_QUEUE_DEPTH)
    max_message_bytes: int = _declared(MESSAGE_BYTES)
    redact: bool = _declared(REDACT)
    group_size: int = _setting(
        "BACKSCROLL_GROUP_SIZE", 2_000, Whole(1, 10_000), "Maximum number of jobs that the worker "
        "commits in one transaction. A group also ends at 8 MiB.",
    )  # fmt: skip
    group_wait_ms: int = _setting(
        "BACKSCROLL_GROUP_WAIT_MS", 0, Whole(0, 1_000), "How long a group of several jobs waits "
        "for more, in milliseconds. A single job is committed at once. With slow disks, a few "
        "milliseconds make larger groups and fewer fsyncs.",
    )  # fmt: skip
    tails_mib: int = _setting(
        "BACKSCROLL_TAILS_MIB", 32, Whole(0, 4_096), "How many MiB of Redis the newest messages of "
        "sessions that are read may take, so that a read needs no worker; `0` keeps none there.",
    )  # fmt: skip
    nice: int = _setting(
        "BACKSCROLL_NICE", 10, Whole(0, 19), "The worker's niceness, unless it was started with "
        "another than 0: how far it gives way to adapters, the server and others while the "
        "processors of its host are busy. `0` changes nothing.",
    )  # fmt: skip
    ttl_hours: float = _setting(
        "BACKSCROLL_TTL_HOURS", 0.0, _hours, "Cleanup deletes sessions idle for longer, unless a "
        "rule in `BACKSCROLL_RETENTION` says otherwise, or the session itself; `0` keeps them "
        "for ever. Pinned sessions are never deleted.",
    )  # fmt: skip
    retention: Path | None = _setting(
        "BACKSCROLL_RETENTION", None, _path, "A TOML file with retention rules, for sessions and "
        "for authors; see [Retention](retention.md). The worker reads it for each cleanup.",
    )  # fmt: skip
    archive: Path | None = _setting(
        "BACKSCROLL_ARCHIVE", None, _path, "A directory. What cleanup deletes is written there "
        "first, compressed, and `backscroll restore` brings it back. Only the worker writes there.",
    )  # fmt: skip
    op_ids_hours: float = _setting(
        "BACKSCROLL_OP_IDS_HOURS", 168.0, _hours, "How long the store remembers op ids. An "
        "operation that is delivered again after that could be applied again.",
    )  # fmt: skip
    keep_edits: bool = _setting(
        "BACKSCROLL_KEEP_EDITS", False, switch, "With `1` a message that is replaced keeps its "
        "earlier version, for `load` with `include_edits`. An adapter that streams replaces often: "
        "every step is kept.",
    )  # fmt: skip
    accept_store: str | None = _setting(
        "BACKSCROLL_ACCEPT_STORE", None, _text, "The id of a store that may take the place of the "
        "one its queue was stored into before; a worker that refuses names it. It can stay set.",
    )  # fmt: skip
    cleanup_cron: str = _setting(
        "BACKSCROLL_CLEANUP_CRON", "0 * * * *", _cron, "When the scheduler enqueues a cleanup: "
        "cron in UTC, five fields or six with the seconds first, or `@daily` and the like.",
    )  # fmt: skip
    compact_cron: str = _setting(
        "BACKSCROLL_COMPACT_CRON", "30 3 * * *", _cron,
        "When the scheduler enqueues a compaction, likewise.",
    )  # fmt: skip
    dashboard_host: str = _setting(
        "BACKSCROLL_DASHBOARD_HOST", "127.0.0.1", _text,
        "Where rq-dashboard listens; any other than loopback needs a password.",
    )  # fmt: skip
    dashboard_port: int = _setting("BACKSCROLL_DASHBOARD_PORT", 9181, Whole(1, 65_535), "Its port.")
    dashboard_username: str = _setting(
        "BACKSCROLL_DASHBOARD_USERNAME", "backscroll", _text, "Its user, when there is a password.",
        is_verbatim=True,
    )  # fmt: skip
    dashboard_password: str | None = _setting(
        "BACKSCROLL_DASHBOARD_PASSWORD", None, _text, "Its password; without one everybody on this "
        "machine may look and requeue.", is_verbatim=True,
    )  # fmt: skip
    log_level: str = _setting(
        "BACKSCROLL_LOG_LEVEL", "INFO", _log_level,
        "`DEBUG`, `INFO`, `WARNING` or `ERROR`; logs go to standard error.",
    )  # fmt: skip

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the variables; raises `InvalidSettingError` naming the wrong one."""
        taken = {name: setting.of(environ) for name, setting in _settings().items()}
        taken["redis_url"] = server_url(None, environ)
        data_dir = taken["data_dir"] or _path("", _default_data_dir(environ))
        store = taken["store"] or _default_store(data_dir)
        return cls(**taken | {"data_dir": data_dir, "store": store})

    def environment(self) -> dict[str, str]:
        """The variables from which a child process reads these same settings."""
        values = ((setting, getattr(self, name)) for name, setting in _settings().items())
        return {
            setting.name: f"{value:d}" if isinstance(value, bool) else str(value)
            for setting, value in values
            if value is not None
        }

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
        """These settings with what the command line said instead; None means it said nothing.

        Raises `InvalidSettingError`.
        """
        declared = _settings()
        options = {
            name: declared[name].read(name, value) if isinstance(value, str) else value
            for name, value in given.items()
            if value is not None
        }
        return replace(self, **options)


def variables() -> list[Setting[Any]]:
    """Every variable that anything here reads."""
    own = list(_settings().values())
    return [own[0], FALLBACK_URL, *own[1:], ALLOW_FILESYSTEM]


def _settings() -> dict[str, Setting[Any]]:
    """The declarations, by the name of the field."""
    return {each.name: each.metadata["setting"] for each in fields(Settings)}


def _default_data_dir(environ: Mapping[str, str]) -> str:
    return f"{environ.get('XDG_DATA_HOME') or '~/.local/share'}/backscroll"


def _default_store(data_dir: Path) -> str:
    return f"sqlite://{data_dir / 'backscroll.db'}"
