"""A group chat with two replicas of an adapter and a model that fails now and then.

At the end the stored history must be what the platform's own window shows, message by message.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from backscroll import AsyncProducer, ChatMessage
from backscroll_worker.demo.platform import BOT, QUESTIONS, Platform, Shown, Update

KEY: Final = "slack/demo:naples"
_FAILS: Final = 0.4
_MOST_FAILURES: Final = 2
_ANSWERS: Final = dict(
    zip(
        QUESTIONS,
        (
            "The night train is 59 euros for each of you, with a bed",
            "Fourteen hours, and you sleep for eight of them",
            "No: they expect sun from Thursday until Sunday evening",
            "In Rome, where you have an hour for a coffee",
        ),
        strict=True,
    )
)
_REDELIVERED_AFTER_SECONDS: Final = 0.01


class ModelFailedError(Exception):
    """The model broke off."""


@dataclass(frozen=True, slots=True)
class GroupChat:
    """What came of it: what the platform's window shows, what is stored, and what was done."""

    window: list[Shown]
    stored: list[Shown]
    edited: int
    deleted: int
    early: int
    delivered_again: int
    failed: int
    answered: int

    @property
    def holds(self) -> bool:
        """Whether somebody who reads one reads the same as somebody who reads the other."""
        return self.window == self.stored and bool(self.window)


class Model:
    """Answers in growing parts, and fails at most twice for each question."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - the same every time
        self._failures = Counter[str]()
        self.answered = 0

    @property
    def failed(self) -> int:
        """How often it failed."""
        return self._failures.total()

    async def answer(self, asked: ChatMessage) -> AsyncIterator[str]:
        """All that is known of the answer by now, again and again."""
        words, id_ = _ANSWERS[asked.content].split(), asked.platform_id or ""
        fails = self._failures[id_] < _MOST_FAILURES and self._random.random() < _FAILS
        end = self._random.randrange(len(words)) if fails else len(words)
        for count in range(2, end + 1, 3):
            await asyncio.sleep(0.001)
            yield " ".join(words[:count])
        if fails:
            self._failures[id_] += 1
            raise ModelFailedError
        yield " ".join(words)
        self.answered += 1


class Replica:
    """One of the adapter's processes, so to say: it stores the updates it gets, and answers."""

    def __init__(
        self, history: AsyncProducer, platform: Platform, model: Model, key: str, seed: str
    ) -> None:
        self._history = history
        self._platform = platform
        self._model = model
        self._key = key
        self._answers = set[asyncio.Task[None]]()
        self.subscription = platform.subscribe(self.handle, seed)

    async def handle(self, update: Update) -> None:
        """Store what an update says, and begin to answer what the bot was asked."""
        shown, key = update.message, self._key
        if update.kind == "edited":
            said = ChatMessage.user(shown.text)
            await self._history.replace(key, said, platform_id=shown.id, dedup_key=update.id)
        elif update.kind == "deleted":
            await self._history.rollback(key, platform_id=shown.id)
        else:
            asked = ChatMessage.user(
                shown.text,
                author=shown.author.lower(),
                author_name=shown.author,
                platform_id=shown.id,
                reply_to=shown.reply_to,
            )
            await self._history.append(key, asked, session={"channel": "slack", "room": "naples"})
            if shown.text.startswith("@bot"):
                self._answers.add(asyncio.create_task(self._answer_in_the_end(asked)))

    async def all_answered(self) -> None:
        await asyncio.gather(*self._answers)

    async def _answer_in_the_end(self, asked: ChatMessage) -> None:
        """A platform delivers again what an adapter has failed at."""
        while True:
            try:
                return await self._answer(asked)
            except ModelFailedError:
                await asyncio.sleep(_REDELIVERED_AFTER_SECONDS)

    async def _answer(self, asked: ChatMessage) -> None:
        shown: Shown | None = None
        try:
            async with self._history.turn(self._key, asked, every_seconds=0.005) as turn:
                if turn.is_repeated:
                    return
                async for text in self._model.answer(asked):
                    if shown is not None:
                        self._platform.edit(shown.id, text)
                        await turn.stream(text)
                        continue
                    # Its place is the same in both, as all before it is stored, and nobody speaks.
                    async with self._platform.posting:
                        await self.subscription.messages_delivered()
                        shown = self._platform.post(BOT, text, asked.platform_id)
                        await turn.stream(
                            text,
                            author="bot",
                            author_name=BOT,
                            platform_id=shown.id,
                            reply_to=shown.reply_to,
                        )
        except ModelFailedError:
            if shown is not None:
                self._platform.delete(shown.id)
            raise


async def play(
    url: str, queue: str, *, seed: int = 3, key: str = KEY, count: int = 60
) -> GroupChat:
    """Have a group talk, two adapters store it, and read it back; a worker has to be there.

    People do `count` things, which follow from `seed`.
    """
    platform, model = Platform(seed), Model(seed)
    async with AsyncProducer(url, queue) as first, AsyncProducer(url, queue) as second:
        replicas = [
            Replica(producer, platform, model, key, f"{seed} {number}")
            for number, producer in enumerate((first, second))
        ]
        async with asyncio.TaskGroup() as tasks:
            deliveries = [
                tasks.create_task(subscription.deliver()) for subscription in platform.subscriptions
            ]
            await platform.talk(count)
            for replica in replicas:
                await replica.subscription.messages_delivered()
                await replica.all_answered()
            for subscription in platform.subscriptions:  # what a failed answer had to delete, too
                await subscription.all_delivered()
            for delivery in deliveries:
                delivery.cancel()
        stored = [_shown(message) for message in await first.load(key)]
    return GroupChat(
        list(platform.window.values()),
        stored,
        platform.edited,
        platform.deleted,
        sum(each.early for each in platform.subscriptions),
        sum(each.delivered_again for each in platform.subscriptions),
        model.failed,
        model.answered,
    )


def _shown(message: ChatMessage) -> Shown:
    name = message.author_name or message.role
    return Shown(message.platform_id or "", name, message.content, message.reply_to)
