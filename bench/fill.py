"""Fills the queue with appends, quickly: with `AsyncProducer` and many calls at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from backscroll import AsyncProducer, ChatMessage
from bench.arena import Arena
from bench.data import messages, messages_of_people

CALLERS: Final = 100


def fill_queue(arena: Arena, count: int) -> None:
    """Enqueue `count` appends."""
    asyncio.run(_fill(arena.url, messages(count)))


def fill_with_people(arena: Arena, count: int) -> None:
    """Enqueue `count` appends of messages that have an author and a platform's id."""
    asyncio.run(_fill(arena.url, messages_of_people(count)))


async def enqueue_concurrently(
    producer: AsyncProducer, sayings: Iterator[tuple[str, ChatMessage]], callers: int = CALLERS
) -> None:
    """`callers` concurrent callers, each with one call at a time."""

    async def call_again_and_again() -> None:
        for key, message in sayings:
            await producer.append(key, message)

    await asyncio.gather(*(call_again_and_again() for _ in range(callers)))


async def _fill(url: str, sayings: Iterator[tuple[str, ChatMessage]]) -> None:
    async with AsyncProducer(url) as producer:
        await enqueue_concurrently(producer, sayings, callers=500)
