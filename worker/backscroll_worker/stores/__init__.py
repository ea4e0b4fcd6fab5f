"""Opens a store by its URL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from backscroll.contract.errors import InvalidSettingError
from backscroll_worker.contract.clock import Clock, Elapsed, since_boot, unmeasured
from backscroll_worker.contract.pacing import now_micros
from backscroll_worker.contract.store import SessionBackend
from backscroll_worker.stores.filesystem import check_file, check_file_system
from backscroll_worker.stores.jsonl import JsonlBackend
from backscroll_worker.stores.lock import StoreLock
from backscroll_worker.stores.sqlite import SqliteBackend

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
    store or from a newer version, and for a file system that breaks it, `StoreUnavailableError`
    when it cannot be opened right now or another process has it open for writing.
    """
    scheme, path = _split(url)
    if scheme == "sqlite":
        check_file(path)
    if not read_only:
        check_file_system(path)
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
    if scheme == "sqlite":
        check_file(path)
    check_file_system(path)  # before anything is written, and before a lock that may not hold
    place = path.resolve()
    beside = place / ".lock" if scheme == "jsonl" else place.with_name(f"{place.name}.lock")
    return StoreLock(beside, place)


def _split(url: str) -> tuple[str, Path]:
    if not isinstance(url, str):
        raise InvalidSettingError(f"store: must be a URL, not {type(url).__name__}")
    scheme, separator, path = url.partition("://")
    if scheme not in _BACKENDS or not separator or not path.strip("/"):
        raise _not_a_store(url, "it is not a store's URL")
    if path == ":memory:":
        raise _not_a_store(url, "a store is on the disk")
    if "?" in path:
        raise _not_a_store(url, "it has an option, and a store's URL has none")
    if "\0" in path:
        raise _not_a_store(url, "a path has no NUL")
    try:
        path.encode()  # else it is a name that SQLite, the queue and JSON cannot hold
        place = Path(path).expanduser()
        place.resolve().exists()  # unless it is too long, or a link that leads to itself
        return scheme, place
    except UnicodeError:
        raise _not_a_store(url, "its path is not UTF-8") from None
    except RuntimeError as error:  # the home of nobody known; such a link
        raise _not_a_store(url, str(error)) from None
    except OSError as error:
        raise _not_a_store(url, str(error.strerror)) from None


def _not_a_store(url: str, problem: str) -> InvalidSettingError:
    return InvalidSettingError(
        f"store: {url!r} cannot be used: {problem}; use sqlite:///path/to/backscroll.db "
        "or jsonl:///path/to/directory"
    )
