"""What stores on a disk of this host have in common: a path for a place, and two locks."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NotRequired, TypedDict, Unpack

from backscroll.contract.errors import (
    InvalidSettingError,
    OperationRefusedError,
    StoreUnusableError,
)
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Erase
from backscroll_worker.contract.clock import Clock
from backscroll_worker.contract.store import OnWait, Store
from backscroll_worker.stores.blobs import Blobs
from backscroll_worker.stores.claim import Claim, claim
from backscroll_worker.stores.filesystem import check_file_system
from backscroll_worker.stores.lock import StoreLock


class Options(TypedDict):
    """What a store is opened with, besides its URL; see `store_at`."""

    read_only: bool
    clock: Clock
    keep_edits: NotRequired[bool]


class LocalStore(Store):
    """A store at `scheme:///PATH`; who implements one opens and closes its files."""

    scheme: ClassVar[str]
    path: Path
    blobs: Blobs
    """The bytes of attachments; there once the store is open."""

    def __init__(self, url: str, **options: Unpack[Options]) -> None:
        self.path = _path(url)
        self.url = f"{self.scheme}://{self.path.resolve()}"
        self._read_only = options["read_only"]
        self._given_clock = options["clock"]
        self._keep_edits = options.get("keep_edits", False)
        self._lock = threading.RLock()  # one group, slice or read at a time
        self._is_open = False
        self._claim: Claim | None = None
        self._lock_file: StoreLock | None = None

    def acquire(self, on_wait: OnWait | None = None) -> None:
        self._check_path()
        try:
            if not self._read_only:
                check_file_system(self.path)  # before a lock that may not hold
                place = self.path.resolve()  # one lock, by whatever links the store is reached
                self._lock_file = StoreLock(self._lock_path(place), place)
                self._lock_file.acquire(on_wait)
                self._claim = claim(self.path)
            self._open()
        except BaseException:
            self._release()
            raise

    @abstractmethod
    def _check_path(self) -> None:
        """Raise `StoreUnusableError` for what is at the path and cannot be such a store."""

    @abstractmethod
    def _lock_path(self, place: Path) -> Path:
        """Where the lock file of the store at `place` lies."""

    @abstractmethod
    def _open(self) -> None:
        """Open the files, with the claim on them held."""

    def _refuse_if_read_only(self) -> None:
        if self._read_only:
            raise StoreUnusableError(f"{self.path} is open for reading only")

    def _begin_erasure(self, operation: Erase) -> None:
        """Apply the erasure as a write; its slices come afterwards."""
        (answer,) = self.apply([operation])
        if isinstance(answer, OperationRefusedError):
            raise answer

    def _release(self) -> None:
        """Let the next writer in, after all files are closed, as `claim` says."""
        if self._claim is not None:
            self._claim.close()
            self._claim = None
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None


def keeping(store: Store) -> Callable[[ChatMessage], ChatMessage]:
    """Puts the bytes of a message's attachments into the store, so that memory holds few of them.

    The message that it returns is then to be stored. Of other stores, messages keep their bytes.
    """
    return store.blobs.keep if isinstance(store, LocalStore) else lambda message: message


def not_a_store(url: object, problem: str) -> InvalidSettingError:
    """The error about a URL that leads to no store."""
    return InvalidSettingError(
        f"store: {url!r} cannot be used: {problem}; use sqlite:///path/to/backscroll.db "
        "or jsonl:///path/to/directory"
    )


def _path(url: str) -> Path:
    path = url.partition("://")[2]
    if not path.strip("/"):
        raise not_a_store(url, "it is not the URL of a store")
    if path == ":memory:":
        raise not_a_store(url, "a store is on the disk")
    if "?" in path:
        raise not_a_store(url, "it has an option, and the URL of a store has none")
    if "\0" in path:
        raise not_a_store(url, "a path has no NUL")
    try:
        path.encode()  # else it is a name that SQLite, the queue and JSON cannot hold
        place = Path(path).expanduser()
        place.resolve().exists()  # unless it is too long, or a link that leads to itself
    except UnicodeError:
        raise not_a_store(url, "its path is not UTF-8") from None
    except RuntimeError as error:  # the home of nobody known; such a link
        raise not_a_store(url, str(error)) from None
    except OSError as error:
        raise not_a_store(url, str(error.strerror)) from None
    return place
