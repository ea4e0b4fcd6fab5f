"""An `AsyncProducer` for a caller that has no loop: what `tests.crash.writer` needs of it."""

from __future__ import annotations

import asyncio
from typing import Any

from backscroll import Ack, AsyncProducer, ChatMessage, Operation


class AsyncClient:
    """Each call runs on the loop until it has returned; the spool goes on beside it."""

    def __init__(self, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._producer = self._runner.run(_made(url, options))

    @property
    def spooled(self) -> int:
        return self._producer.spooled

    def send(self, operation: Operation, ack: Ack) -> None:
        """As `Producer.send`."""
        self._runner.run(self._producer.send(operation, ack))

    def load(self, key: str) -> list[ChatMessage]:
        """As `Producer.load`."""
        return self._runner.run(self._producer.load(key))

    def close(self) -> None:
        """Give connections and loop back."""
        self._runner.run(self._producer.close())
        self._runner.close()


async def _made(url: str, options: dict[str, Any]) -> AsyncProducer:
    return AsyncProducer(url, **options)
