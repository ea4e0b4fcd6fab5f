"""Finds and opens a store by its URL; only the module of the store asked for is imported."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pkgutil import resolve_name
from typing import Final, TypedDict, Unpack, cast

from backscroll.contract.errors import InvalidSettingError
from backscroll_worker.contract.clock import Clock, Elapsed, since_boot, unmeasured
from backscroll_worker.contract.pacing import now_micros
from backscroll_worker.contract.store import Store
from backscroll_worker.stores.local import not_a_store

__all__ = ["ENTRY_POINTS", "SCHEMES", "Store", "open_store", "store_at"]

ENTRY_POINTS: Final = "backscroll.stores"
"""The group of entry points by which another distribution adds a scheme."""

SCHEMES: Final = {
    "sqlite": "backscroll_worker.stores.sqlite.backend:SqliteBackend",
    "jsonl": "backscroll_worker.stores.jsonl.backend:JsonlBackend",
}


class StoreOptions(TypedDict, total=False):
    """How a store is opened; `store_at` says what each is for."""

    read_only: bool
    clock: Callable[[], int]
    elapsed: Callable[[], Elapsed | None]
    keep_edits: bool


def store_at(url: str, **options: Unpack[StoreOptions]) -> Store:
    """The store at `sqlite:///PATH` or `jsonl:///DIRECTORY`; `acquire` opens it.

    Three slashes lead to an absolute path, two to a relative one: `sqlite://backscroll.db`.
    `read_only` is for an existing one, beside the process that writes to it. `clock` gives the
    time in microseconds since 1970 UTC. `elapsed` gives the time since boot, by which a clock that
    is set ahead is noticed; by itself it goes with this host's clock only. `keep_edits` has a
    replaced message keep its earlier version.

    Raises `InvalidSettingError` for a URL that leads to no store.
    """
    if not isinstance(url, str):
        raise InvalidSettingError(f"store: must be a URL, not {type(url).__name__}")
    wall = options.get("clock", now_micros)
    elapsed = options.get("elapsed", since_boot if wall is now_micros else unmeasured)
    return _class(url)(
        url,
        read_only=options.get("read_only", False),
        clock=Clock(wall, elapsed),
        keep_edits=options.get("keep_edits", False),
    )


def open_store(url: str, **options: Unpack[StoreOptions]) -> Store:
    """The store at `url`, open: as its one writer, or beside it with `read_only`.

    Raises, besides what `store_at` does, `StoreUnusableError` for what is not a store or from a
    newer version, and for a file system that breaks it, `StoreUnavailableError` when it cannot be
    opened now or another process writes to it.
    """
    store = store_at(url, **options)
    store.acquire()
    return store


def _class(url: str) -> Callable[..., Store]:
    scheme, separator, _ = url.partition("://")
    target = SCHEMES.get(scheme)
    if target is None:
        target = next((e.value for e in entry_points(group=ENTRY_POINTS, name=scheme)), None)
    if target is None or not separator:
        raise not_a_store(url, "it is not the URL of a store")
    return cast(Callable[..., Store], resolve_name(target))
