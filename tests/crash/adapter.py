"""An adapter with a spool, which is killed and followed by another on the same spool."""

from __future__ import annotations

from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from types import TracebackType
from typing import Any, Final, Self

from backscroll.contract.errors import SpoolUnusableError
from backscroll.spool.queue import read_spool
from tests.crash.checker import Violation
from tests.crash.laboratory import Laboratory
from tests.crash.lives import context
from tests.crash.writer import WriterPlan, write_until

_LAST_WORDS_SECONDS: Final = 60.0


class SpoolingAdapter:
    """One adapter after the other; `options` are their plans'. At the end the spool is empty."""

    def __init__(self, laboratory: Laboratory, name: str, **options: Any) -> None:
        self._laboratory = laboratory
        self._name = name
        self._spool = laboratory.directory / f"{name}.spool"
        self._options = options
        self._lives = 0

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._process.join(_LAST_WORDS_SECONDS if kind is None else 0.0)
        if kind is None and (self._process.exitcode != 0 or self.spooled):
            detail = f"exit code {self._process.exitcode}, {self.spooled} operations in its spool"
            self._laboratory.tally.violations.append(Violation("ended", self._plan.name, detail))
        self._process.kill()
        self._process.join()

    @property
    def spooled(self) -> int:
        """How many operations wait in the spool."""
        with suppress(SpoolUnusableError):  # it has not been made yet
            return read_spool(self._spool).operations
        return 0

    def replace(self) -> None:
        """Kill the adapter, as `kill -9` does it; the next one finds what it has left."""
        self._process.kill()
        self._process.join()
        fault = "adapter killed, its spool full" if self.spooled else "adapter killed"
        self._laboratory.tally.faults[fault] += 1
        self._begin()

    def _begin(self) -> None:
        # Each has its own: one that is killed while it looks at it keeps its lock for ever.
        self._stop = context.Event()
        self._plan: WriterPlan = self._laboratory.plan(
            f"{self._name}-{self._lives}", spool=self._spool, **self._options
        )
        self._lives += 1
        self._process: ForkServerProcess = context.Process(
            target=write_until, args=(self._plan, self._stop), daemon=True
        )
        self._process.start()
