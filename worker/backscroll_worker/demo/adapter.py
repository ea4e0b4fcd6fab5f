"""An adapter of one channel: a process that replays that channel's sessions.

Independently of what it tests, it keeps a list of what each session must contain.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, Final

import orjson

from backscroll import AsyncProducer, ChatMessage
from backscroll_worker.demo.corpus import Session
from backscroll_worker.ops import interrupts

USERS: Final = ("ana", "björn", "chen", "dilnoza", "emeka")
CONCURRENT_SESSIONS: Final = 40

_FAILS: Final = 0.06
_STREAMS: Final = 0.04

Remembered = list[list[Any]]
"""A session as it must be stored: `[message id, role, content, extra]` for each message."""


class Adapter:
    """Replays sessions through a producer and remembers what they must contain."""

    def __init__(self, producer: AsyncProducer, sent: Synchronized[int]) -> None:
        self._producer = producer
        self._sent = sent
        self.remembered: dict[str, Remembered] = {}
        self.operations = 0
        self.rollbacks = 0

    async def replay(self, session: Session, turn: asyncio.Semaphore) -> None:
        """Send all messages of one session, in order; other sessions' tasks run in between."""
        chance = random.Random(zlib.crc32(session.key.encode()))  # noqa: S311 - the same every time
        async with turn:
            await self._producer.describe(
                session.key,
                name=f"{session.topic} ({session.language})",
                channel=session.channel,
                room=session.language,
                agent="demo-assistant",
            )
            self.operations += 1
            history: Remembered = []
            for number, conversation in enumerate(session.conversations):
                sender = USERS[number % len(USERS)]
                for place, text in enumerate(conversation):
                    if place % 2 == 0:
                        await self._ask(session.key, text, sender, chance, history)
                    else:
                        await self._answer(session.key, text, chance, history)
                    self._progress(place)
            self.remembered[session.key] = history

    async def _ask(
        self, key: str, text: str, sender: str, chance: random.Random, history: Remembered
    ) -> None:
        if chance.random() < _FAILS:
            # The assistant failed on this turn: roll back the user's message, and only that.
            receipt = await self._producer.append(key, ChatMessage.user(text, sender=sender))
            await self._producer.rollback(key, receipt.message_ids[0])
            self.operations += 2
            self.rollbacks += 1
        receipt = await self._producer.append(key, ChatMessage.user(text, sender=sender))
        self.operations += 1
        history.append([receipt.message_ids[0], "user", text, {"sender": sender}])

    async def _answer(
        self, key: str, text: str, chance: random.Random, history: Remembered
    ) -> None:
        if chance.random() < _STREAMS:
            # A streamed answer: first its beginning, replaced by the whole of it when done.
            receipt = await self._producer.append(
                key, ChatMessage.assistant(text[: len(text) // 2])
            )
            await self._producer.replace(key, ChatMessage.assistant(text), receipt.message_ids[0])
            self.operations += 1
        else:
            receipt = await self._producer.append(key, ChatMessage.assistant(text))
        self.operations += 1
        history.append([receipt.message_ids[0], "assistant", text, None])

    def _progress(self, place: int) -> None:
        if place > 0:
            with self._sent.get_lock():
                self._sent.value += 1


@contextmanager
def running(
    url: str, queue: str, sessions: list[Session], sent: Synchronized[int], report: Path
) -> Iterator[multiprocessing.process.BaseProcess]:
    """The adapter's process; it counts exchanges in `sent` and writes `report` at its end.

    No other thread may run when it starts; see `interrupts.held_back`.
    """
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_run, args=(url, queue, sessions, sent, report), daemon=True)
    try:
        with interrupts.held_back():  # Ctrl-C is for the demo, which also ends this process
            process.start()
        yield process
    finally:
        if process.pid is not None:
            process.terminate()
            process.join()


def _run(
    url: str, queue: str, sessions: list[Session], sent: Synchronized[int], report: Path
) -> None:
    adapter = asyncio.run(_replay_all(url, queue, sessions, sent))
    report.write_bytes(
        orjson.dumps(
            {
                "operations": adapter.operations,
                "rollbacks": adapter.rollbacks,
                "remembered": adapter.remembered,
            }
        )
    )


async def _replay_all(
    url: str, queue: str, sessions: list[Session], sent: Synchronized[int]
) -> Adapter:
    turn = asyncio.Semaphore(CONCURRENT_SESSIONS)
    async with AsyncProducer(url, queue) as producer:
        adapter = Adapter(producer, sent)
        await asyncio.gather(*(adapter.replay(session, turn) for session in sessions))
    return adapter
