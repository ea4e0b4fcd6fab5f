"""For tests of programs that use a producer: one without a server, a worker and files that stay.

    pip install "backscroll[testing]"

`backscroll.pytest_plugin` has fixtures. This module alone of the package needs the worker's.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from backscroll.transport.acks import Ack
from backscroll_worker.embedded.local import AsyncLocal, EmbeddedCalls, Local

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a root for directories that nobody else may use


class _InMemory(EmbeddedCalls):
    """An empty store for itself, which goes with it."""

    def __init__(
        self,
        _url: str | None = None,
        queue: str | None = None,
        *,
        ack: Ack = "stored",
        timeout_seconds: float = 30.0,
        max_message_bytes: int | None = None,
        redact: Callable[[str], str] | None = None,
        lenient: bool = False,
        keep_edits: bool | None = None,
        **_of_a_queue: Any,
    ) -> None:
        in_memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
        directory = Path(tempfile.mkdtemp(prefix="backscroll-", dir=in_memory))
        self._remove = weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        super().__init__(
            f"sqlite://{directory}/test.db",
            queue,
            ack=ack,
            timeout_seconds=timeout_seconds,
            max_message_bytes=max_message_bytes,
            redact=redact,
            lenient=lenient,
            keep_edits=keep_edits,
            archive=directory / "archive",
        )

    async def _close(self) -> None:
        await super()._close()
        self._remove()


class InMemoryProducer(_InMemory, Local):
    """A `Producer` for tests, with an empty history of its own; needs no server and no worker.

    It takes a producer's arguments, and leaves those of a server alone. It has an SQLite store, in
    memory where the host has `/dev/shm`, and so each call does what it does through the queue: the
    store is held to the same tests. But each write is stored when its call returns, and raises what
    a queue reports only with "stored". `connect(producer.url)` is the same history once more, for
    who is to use another producer, as long as the first one is open.
    """


class AsyncInMemoryProducer(_InMemory, AsyncLocal):
    """As `InMemoryProducer`, for asyncio."""
