"""Conversations to read and to continue: ours in each way, and the sessions of openai-agents.

Each history has the same sessions with the same messages, and reads give the same of each.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from backscroll import ChatMessage
from backscroll.aio_chat_history import AsyncChatHistory
from backscroll.connecting import connect_async
from bench.arena import Arena, BenchmarkFailedError
from bench.data import texts

OVER_REDIS: Final = "over Redis"
STORED: Final = "over Redis, stored"
LOCAL_READS: Final = "with local reads"
EMBEDDED: Final = "embedded"
OPENAI: Final = (
    "SQLiteSession", "AsyncSQLiteSession", "AdvancedSQLiteSession", "RedisSession",
    "SQLAlchemySession",
)  # fmt: skip

_SAME_STORE: Final = (STORED, LOCAL_READS)
_ROLES: Final = ("user", "assistant")


class Conversation(Protocol):
    """One session, by the calls that are measured."""

    async def append(self, *messages: ChatMessage) -> object: ...

    async def load(self, limit: int) -> Sequence[Any]:
        """The newest `limit` messages, oldest first, in the history's own form."""

    async def pop(self) -> object:
        """The newest message, which is removed; something false where there is none."""


Histories = dict[str, list[Conversation]]
"""By its name, the sessions of each history, in the same order."""


@dataclass(frozen=True, slots=True)
class _Ours:
    history: AsyncChatHistory
    key: str

    async def append(self, *messages: ChatMessage) -> object:
        return await self.history.append(self.key, *messages)

    async def load(self, limit: int) -> Sequence[ChatMessage]:
        return await self.history.load(self.key, limit=limit)

    async def pop(self) -> Sequence[ChatMessage]:
        return await self.history.pop(self.key)


@asynccontextmanager
async def opened(arena: Arena, sessions: int, items: int) -> AsyncIterator[Histories]:
    """All of them, with `sessions` sessions of `items` messages each; a worker has to run."""
    # Importing it takes a second, and the other benchmarks do without.
    from bench.peers.openai_sessions import opened as opened_openai  # noqa: PLC0415

    keys = [f"reads/{number}" for number in range(sessions)]
    ways: dict[str, tuple[str, dict[str, Any]]] = {
        OVER_REDIS: (arena.url, {}),
        STORED: (arena.url, {"ack": "stored"}),
        LOCAL_READS: (arena.url, {"local_reads": True}),
        EMBEDDED: (f"sqlite://{arena.directory / 'embedded.db'}", {}),
    }
    async with AsyncExitStack() as stack:
        histories: Histories = {}
        for way, (url, options) in ways.items():
            history = await stack.enter_async_context(connect_async(url, **options))
            histories[way] = [_Ours(history, key) for key in keys]
        for name in OPENAI:
            (directory := arena.directory / name).mkdir()
            histories[name] = [
                await stack.enter_async_context(
                    opened_openai(name, arena.url, directory / f"{number}.db", key)
                )
                for number, key in enumerate(keys)
            ]
        await _fill(histories, items)
        yield histories


def sayings() -> Iterator[ChatMessage]:
    """Messages without end, of two speakers in turn."""
    return map(ChatMessage, itertools.cycle(_ROLES), itertools.cycle(texts()))


async def _fill(histories: Histories, items: int) -> None:
    said = sayings()
    for together in zip(*histories.values(), strict=True):
        messages = list(itertools.islice(said, items))
        for name, conversation in zip(histories, together, strict=True):
            if name not in _SAME_STORE:
                await conversation.append(*messages)
        expected = [message.content for message in messages]
        for name, conversation in zip(histories, together, strict=True):
            if list(map(content_of, await conversation.load(items))) != expected:
                raise BenchmarkFailedError(f"{name} does not give the messages that it was given")


def content_of(message: Any) -> Any:
    """The text of a message in any history's form."""
    return message.content if isinstance(message, ChatMessage) else message["content"]
