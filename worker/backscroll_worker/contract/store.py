"""The contract of a store: ten methods to implement, and a few that only some stores need.

One writer at a time, any number of readers. `docs/writing-a-store.md` is the guide,
`backscroll_worker.testing` has the tests, `History` puts the calls of a `Producer` over any store.

"The store's errors" are `StoreUnavailableError`: the same call may succeed later; and
`StoreUnusableError`: somebody has to change something first. Deletions are done in short `Slices`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

from backscroll.contract.answers import Answer
from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Erase, Operation
from backscroll.contract.results import CleanupReport, CompactReport, ErasureReceipt
from backscroll_worker.contract.answer_budget import AnswerBudget
from backscroll_worker.contract.archiving import RemovalArchive
from backscroll_worker.contract.findings import Finding, Totals
from backscroll_worker.contract.pacing import Progress, Slices, Unfinished, unobserved
from backscroll_worker.contract.retention import Retention
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.contract.tombstones import Tombstones

Answers = list[Answer | OperationRefusedError | Unfinished]
OnWait = Callable[[str], None]  # called with the other writer's name before a wait for it


class Store(ABC):
    """Made by `store_at` as `Class(url, read_only=…, clock=…, keep_edits=…)`, and not open yet.

    `url` is one, by whatever links the store is reached; `path` is on this host's disk, or None.
    """

    url: str
    path: Path | None = None

    @abstractmethod
    def acquire(self, on_wait: OnWait | None = None) -> None:
        """Become the one writer and open the store, created when missing; a reader only opens it.

        Another writer is waited for with `on_wait`; without, raises `StoreUnavailableError`.
        """

    @abstractmethod
    def close(self) -> None:
        """Let the next writer in. Idempotent, also where nothing was acquired. Raises nothing."""

    @abstractmethod
    def apply(
        self,
        operations: Sequence[Operation],
        *,
        budget: AnswerBudget | None = None,
        prepare_next: Callable[[], None] | None = None,
    ) -> Answers:
        """Carry out `operations` in order; what came of each, in the same order.

        Idempotent: a write whose op id was applied before changes nothing and returns its first
        outcome, as `duplicate`. Durable when this returns: all of the group and its op ids; after
        an error or a kill all or nothing, and it can be applied again. Reads see earlier writes.

        What cannot be carried out comes back as `OperationRefusedError` and harms no neighbour, a
        write that takes long as `Unfinished`. With a `budget` answers to reads come encoded by it;
        once it is used up the rest is left, and the list is that much shorter. `prepare_next` may
        be called while a disk is waited for; what it raises is raised, and the store's errors.
        """

    @abstractmethod
    def stream(self, key: str) -> Iterator[ChatMessage]:
        """All messages of a session, if it is there, in order, with edits; read little by little.

        Of what other calls change meanwhile, either state may be seen. Raises the store's errors.
        """

    @abstractmethod
    def cleanup(
        self, retention: Retention, *, dry_run: bool = False, archive: RemovalArchive | None = None
    ) -> Slices[CleanupReport]:
        """Delete sessions idle for longer than their rule allows, and messages beyond its cap.

        Pinned sessions stay, and those written to meanwhile. What goes is durably in `archive`
        before. After a kill another call finishes it. Raises the store's errors, `ArchiveError` of
        `archive`, and `OperationRefusedError` where the clock is set back; the rest then stays.
        """

    @abstractmethod
    def erase(self, operation: Erase) -> Slices[ErasureReceipt]:
        """Apply `operation`, unless that is done, and remove every trace of it from the store.

        Idempotent: called again after a kill; the receipt has all that went. Raises as `stream`.
        """

    @abstractmethod
    def tombstones(self) -> Tombstones:
        """What was erased, to recognize what arrives afterwards. Raises as `stream`."""

    @abstractmethod
    def compact(self, op_ids_hours: float) -> Slices[CompactReport]:
        """Return free space; forget op ids and tombstones older than that. Raises as `stream`."""

    @abstractmethod
    def totals(self) -> Totals:
        """How much the store holds, mostly without reading messages. Raises as `stream`."""

    @abstractmethod
    def identity(self) -> str | None:
        """The store's id, which a copy has too; None for a reader without. Raises as `stream`."""

    def exists(self) -> bool:
        """Whether there is something to read, as far as can be told without opening it."""
        return self.path is None or self.path.exists()

    def late_until(self) -> float:
        """When the latest erasure or rename it knows was requested: until then others are late."""
        return float("inf")

    def size_bytes(self) -> int:
        """About how much space it takes."""
        return self.totals().size_bytes

    def finish_removals(self) -> Slices[None]:
        """Delete what a killed cleanup left out of sight, whose message ids may come back."""
        yield from ()

    def verify(self, *, deep: bool = False, progress: Progress = unobserved) -> list[Finding]:
        """The damage there is. `deep` compares every message with the search index."""
        return []

    def repair(self, findings: Sequence[Finding], *, progress: Progress = unobserved) -> list[str]:
        """Repair what `verify` found, all of it or nothing, and lose no message; what was done."""
        return []

    def expect(self, imports: Iterable[ImportSession]) -> None:  # noqa: B027 - optional
        """Begin to work on what is applied next; called from `prepare_next` by an import."""

    def maintain_while_idle(self) -> bool:
        """Do, for some milliseconds, what later commits would have to; whether some is left."""
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
