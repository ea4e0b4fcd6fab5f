"""Opens a store by its URL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from producer.errors import InvalidSettingError
from worker.backends.base import SessionBackend, now_micros
from worker.backends.clock import Clock, Elapsed, since_boot, unmeasured
from worker.backends.jsonl import JsonlBackend
from worker.backends.lock import StoreLock
from worker.backends.sqlite import SqliteBackend

__all__ = ["SessionBackend", "absolute_url", "open_backend", "store_lock", "store_path"]

_BACKENDS: Final = {"sqlite": SqliteBackend, "jsonl": JsonlBackend}


def open_backend(
    url: str,
    *,
    read_only: bool = False,
    clock: Callable[[], int] = now_micros,
    elapsed: Callable[[], Elapsed | None] | None = None,
    keep_edits: bool = False,
) -> SessionBackend:
    """Open the store at `sqlite:///PATH` or `jsonl:///DIRECTORY`, creating it when it is missing.

    `read_only` opens an existing one beside the process that writes to it. Three slashes lead to
    an absolute path, two to a relative one: `sqlite://backscroll.db`. `clock` tells the time in
    microseconds since 1970 UTC. `elapsed` tells the time since boot, by which a clock that is set
    ahead is noticed; by itself it goes with this machine's clock only. `keep_edits` has a replaced
    message keep its earlier version.

    Raises `InvalidSettingError` for a URL of another form, `StoreUnusableError` for what is not a
    store or from a newer version, `StoreUnavailableError` when it cannot be opened right now.
    """
    scheme, path = _split(url)
    if elapsed is None:
        elapsed = since_boot if clock is now_micros else unmeasured
    own_clock = Clock(clock, elapsed)
    return _BACKENDS[scheme](path, read_only=read_only, clock=own_clock, keep_edits=keep_edits)


def store_path(url: str) -> Path:
    """Where the store at `url` lies on disk."""
    return _split(url)[1]


def absolute_url(url: str) -> str:
    """The store's URL as it is from any directory, and by whatever links it is reached."""
    scheme, path = _split(url)
    return f"{scheme}://{path.resolve()}"


def store_lock(url: str) -> StoreLock:
    """The lock of the store at `url`; the same one by whatever links the store is reached."""
    scheme, path = _split(url)
    place = path.resolve()
    return StoreLock(
        place / ".lock" if scheme == "jsonl" else place.with_name(f"{place.name}.lock")
    )


def _split(url: str) -> tuple[str, Path]:
    scheme, separator, path = url.partition("://")
    if scheme not in _BACKENDS or not separator or not path.strip("/"):
        raise InvalidSettingError(
            f"store: {url!r} is no store's URL; use sqlite:///path/to/backscroll.db "
            "or jsonl:///path/to/directory"
        )
    return scheme, Path(path).expanduser()
