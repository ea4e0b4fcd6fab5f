"""What adapters do in conversations: platform ids, edits that come early, turns, authors to erase.

A writer draws from here as from its own operations. What a store makes of these operations follows
from them alone, whatever the time is: a lease is either so long that it never expires, or what
comes after it would supersede it in any case.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from dataclasses import replace
from typing import Final

from backscroll.contract.messages import ChatMessage, from_micros
from backscroll.contract.operations import Append, Backfill, Erase, Write
from backscroll.contract.requests import Requests
from backscroll.contract.turns import BeginTurn
from backscroll_worker.testing.model import Model
from tests.crash.attached import attached

SECRET: Final = "secret"
"""What stands before the word of a message that its erasure must not leave anywhere."""
_LONG_LEASE_SECONDS: Final = 1e8
_SHORT_LEASE_SECONDS: Final = 0.1
_AUTHORS: Final = 3
_GROUPS: Final = 2


class Conversations:
    """Those of one writer."""

    def __init__(self, name: str, requests: Requests, rng: random.Random, model: Model) -> None:
        self._name = name
        self._model = model
        self._requests = requests
        self._random = rng
        self._arrived = defaultdict[str, int](int)
        self._turns = defaultdict[str, list[str]](lambda: ["no-such-turn"])
        self._said_in_groups: list[Write] = []
        self._group_messages = 0
        self._began = time.time()

    def batch(self, key: str, messages: list[ChatMessage]) -> tuple[ChatMessage, ...]:
        """The messages with platform ids one after the other, of which some have been there."""
        first = max(self._arrived[key] - self._random.choice((0, 0, 1, 3)), 0)
        self._arrived[key] = max(self._arrived[key], first + len(messages))
        return tuple(
            replace(message, platform_id=f"m{first + place}")
            for place, message in enumerate(messages)
        )

    def backfill(self, key: str, messages: tuple[ChatMessage, ...]) -> Backfill:
        """Earlier messages, said at some time since the writer began, among them known ones."""
        moments = sorted(self._random.uniform(self._began, time.time()) for _ in messages)
        said = zip(messages, moments, strict=True)
        return self._requests.backfill(
            key,
            tuple(replace(each, created_at=from_micros(int(at * 1e6))) for each, at in said),
        )

    def change(self, key: str, edited: ChatMessage) -> Write:
        """An edit or a deletion by platform id, of a message that may not have arrived.

        The edit says whose it is: what waits and names nobody goes with any author's erasure.
        """
        number = self._arrived[key] + self._random.randrange(-2, 2)
        if self._random.random() < 0.4:
            return self._requests.rollback(key, platform_id=f"m{number}")
        edited = replace(edited, author=f"{self._name}/editor")
        return self._requests.replace(key, edited, platform_id=f"m{number}")

    def begin_turn(self, key: str, messages: tuple[ChatMessage, ...]) -> BeginTurn:
        """A turn that waits or supersedes; the last one may be of an adapter that has died."""
        supersedes = may_have_expired(self._model, key) or self._random.random() < 0.4
        lease_seconds = _LONG_LEASE_SECONDS
        if supersedes:  # there is something new in it, so it does begin
            messages = (*messages, replace(messages[0], platform_id=None))
            if self._random.random() < 0.3:
                lease_seconds = _SHORT_LEASE_SECONDS
        operation = self._requests.begin_turn(
            key, messages, lease_seconds=lease_seconds, supersedes=supersedes
        )
        self._turns[key].append(operation.op_id)
        return operation

    def append_in_turn(self, key: str, messages: tuple[ChatMessage, ...]) -> Append:
        """A reply in a turn, which may be over."""
        return self._requests.append(key, messages, turn_id=self._some_turn(key))

    def replace_in_turn(self, key: str, message: ChatMessage, message_id: str | None) -> Write:
        """The reply has grown."""
        return self._requests.replace(key, message, message_id, self._some_turn(key))

    def append_after(self, key: str, messages: tuple[ChatMessage, ...], tail: str) -> Append:
        """Only if that message is the last one."""
        return self._requests.append(key, messages, expect_tail=tail)

    def end_turn(self, key: str, message_ids: list[str]) -> Write:
        """A turn that ended well, or that failed and takes back some of the messages."""
        turn_id = self._some_turn(key)
        if self._random.random() < 0.5:
            return self._requests.end_turn(key, turn_id)
        removed = (turn_id, *message_ids[-self._random.randrange(1, 4) :])
        return self._requests.end_turn(key, turn_id, "error", removed)

    def _some_turn(self, key: str) -> str:
        """Mostly the last one."""
        return self._random.choice((self._turns[key][-1],) * 4 + tuple(self._turns[key][-2:]))

    # Groups are there for the erasure of authors: nothing is done in them by place.

    def in_a_group(self) -> Write:
        """Several people's messages, an edit or a deletion, or something delivered again."""
        dice = self._random.random()
        if dice < 0.15 and self._said_in_groups:
            return self._random.choice(self._said_in_groups[-20:])
        if dice < 0.4 and self._group_messages:
            operation = self._change_in_group()
        else:
            count = self._random.choice((1, 1, 2, 4))
            operation = self._requests.append(
                self._group(), tuple(self._group_message() for _ in range(count))
            )
        self._said_in_groups.append(operation)
        return operation

    def erase_author(self) -> Erase:
        return self._requests.erase(author=self._author())

    def _change_in_group(self) -> Write:
        appends = [each for each in self._said_in_groups if isinstance(each, Append)]
        append = self._random.choice(appends[-10:])
        message = self._random.choice(append.messages)
        if self._random.random() < 0.4:
            return self._requests.rollback(append.key, platform_id=message.platform_id)
        edited = replace(self._group_message(), platform_id=None, author=message.author)
        if self._random.random() < 0.5:
            edited = replace(edited, author=None)
        return self._requests.replace(append.key, edited, platform_id=message.platform_id)

    def _group_message(self) -> ChatMessage:
        self._group_messages += 1
        number = self._group_messages
        word = f"{SECRET}{self._name}g{number}z"
        text = f"{self._name} {SECRET} {word}"
        attachments = attached(self._random, word, is_secret=True)
        author, platform_id = self._author(), f"g{number}"
        return ChatMessage.user(
            text, author=author, platform_id=platform_id, attachments=attachments
        )

    def _author(self) -> str:
        return f"{self._name}/author {self._random.randrange(_AUTHORS)}"

    def _group(self) -> str:
        return f"{self._name}/group/{self._random.randrange(_GROUPS)}"


def may_have_expired(model: Model, key: str) -> bool:
    """Whether the session's turn has so short a lease that the time says whether it runs."""
    session = model.sessions.get(key)
    return session is not None and session.lease == _SHORT_LEASE_SECONDS * 1e6


def is_group(operation: Write) -> bool:
    """Whether it is of a session in which authors are erased."""
    return "/group/" in getattr(operation, "key", "")


def word_of(message: ChatMessage) -> str:
    """What its erasure must not leave anywhere."""
    return message.content.split()[2]
