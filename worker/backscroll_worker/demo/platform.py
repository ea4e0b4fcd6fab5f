"""A chat platform of its own: what its window shows, and how it delivers that to adapters.

People talk, correct themselves and delete. Each adapter gets all of it, with a delay of its own:
messages in their order, edits and deletions in theirs, which may be before their message's, and any
of them a second time. What is said and when follows from a seed, what overtakes what does not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

BOT: Final = "Bot"
PEOPLE: Final = ("Ada", "Björn", "Chen", "Dilnoza", "Emeka")
_LINES: Final = (
    "Shall we take the night train?",
    "It leaves at ten past nine",
    "I have been to Naples before",
    "Who books the tickets?",
    "I can, tonight",
    "Lemons, and then the sea!",
    "Not before Friday, please",
    "My sister lives there",
    "それはいいですね",
    "Two rooms or three?",
    "Three. I snore",
    "Sì, volentieri",
)
QUESTIONS: Final = (
    "@bot what does it cost?",
    "@bot how long does it take?",
    "@bot will it rain on Saturday?",
    "@bot where do we change?",
)
_SECONDS_BETWEEN: Final = 0.03
_LONGEST_DELAY_SECONDS: Final = 0.05
_DELIVERED_AGAIN: Final = 0.25


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as the window shows it; `text` is what it says by now."""

    id: str
    author: str
    text: str
    reply_to: str | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """What an adapter gets; `id` is that of the update."""

    id: str
    kind: Literal["said", "edited", "deleted"]
    message: Shown


Handle = Callable[[Update], Awaitable[None]]


class Subscription:
    """What one adapter gets, with its delay."""

    def __init__(self, handle: Handle, arrived: set[str], seed: str) -> None:
        self.early = self.delivered_again = 0
        self._handle = handle
        self._arrived = arrived
        self._random = random.Random(seed)  # noqa: S311 - the same every time
        self._messages = asyncio.Queue[Update]()
        self._changes = asyncio.Queue[Update]()

    def put(self, update: Update) -> None:
        (self._messages if update.kind == "said" else self._changes).put_nowait(update)

    async def deliver(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._deliver(self._messages))
            both.create_task(self._deliver(self._changes))

    async def all_delivered(self) -> None:
        await self._messages.join()
        await self._changes.join()

    async def messages_delivered(self) -> None:
        await self._messages.join()

    async def _deliver(self, waiting: asyncio.Queue[Update]) -> None:
        before: list[Update] = []
        while True:
            update = await waiting.get()
            await asyncio.sleep(self._random.uniform(0, _LONGEST_DELAY_SECONDS))
            self.early += update.message.id not in self._arrived and update.kind != "said"
            await self._handle(update)
            self._arrived.add(update.message.id)
            before.append(update)
            if self._random.random() < _DELIVERED_AGAIN:
                self.delivered_again += 1
                await self._handle(self._random.choice(before))
            waiting.task_done()


class Platform:
    """A group on the platform, with people in it."""

    def __init__(self, seed: int) -> None:
        self.window: dict[str, Shown] = {}
        self.edited = self.deleted = 0
        self.posting = asyncio.Lock()
        """Held while something is posted: the order in the window is the order of the posts."""
        self.subscriptions: list[Subscription] = []
        self._arrived = set[str]()
        self._random = random.Random(seed)  # noqa: S311 - the same every time
        self._updates = 0
        self._messages = 0

    def subscribe(self, handle: Handle, seed: str) -> Subscription:
        """Send an adapter all that happens from now on."""
        self.subscriptions.append(Subscription(handle, self._arrived, seed))
        return self.subscriptions[-1]

    async def talk(self, count: int) -> None:
        """Have people do so many things."""
        for _ in range(count):
            await asyncio.sleep(self._random.uniform(0, _SECONDS_BETWEEN))
            dice, author = self._random.random(), self._random.choice(PEOPLE)
            own = [each for each in self.window.values() if each.author == author][-3:]
            if own and dice < 0.12:
                chosen = self._random.choice(own)
                self.edit(chosen.id, f"{chosen.text}!")
            elif own and dice < 0.2:
                self.delete(self._random.choice(own).id)
            else:
                await self._say(author, asks=dice > 0.92)

    def post(self, author: str, text: str, reply_to: str | None = None) -> Shown:
        """Show a message; to be called with `posting` held."""
        self._messages += 1
        message = Shown(f"m{self._messages}", author, text, reply_to)
        self.window[message.id] = message
        if author != BOT:  # an adapter gets nothing of what it says itself
            self._send("said", message)
        return message

    def edit(self, id_: str, text: str) -> None:
        """Have a message say something else, if it is there."""
        if (message := self.window.get(id_)) is not None:
            self.window[id_] = message = replace(message, text=text)
            if message.author != BOT:
                self.edited += 1
                self._send("edited", message)

    def delete(self, id_: str) -> None:
        """Take a message away, if it is there."""
        if (message := self.window.pop(id_, None)) is not None:
            self.deleted += 1
            self._send("deleted", message)

    async def _say(self, author: str, *, asks: bool) -> None:
        text = self._random.choice(QUESTIONS if asks else _LINES)
        others = [each.id for each in self.window.values() if each.author != author][-5:]
        is_reply = bool(others) and self._random.random() < 0.3
        reply_to = self._random.choice(others) if is_reply else None
        async with self.posting:
            self.post(author, text, reply_to)

    def _send(self, kind: Literal["said", "edited", "deleted"], message: Shown) -> None:
        self._updates += 1
        for subscription in self.subscriptions:
            subscription.put(Update(f"u{self._updates}", kind, message))
