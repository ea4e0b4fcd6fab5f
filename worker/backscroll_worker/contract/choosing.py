"""Which of a session's messages a load gives: by filter, tokens, tool calls, or a summary.

Chosen here, once for all stores. A store only reads (`SessionMessages`): newest first or oldest
first from some place on, and no further than messages are taken from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from backscroll.contract.answers import Answer
from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.filters import SearchFilter
from backscroll.contract.ids import sent_as
from backscroll.contract.messages import ChatMessage, to_micros
from backscroll.contract.reads import Load
from backscroll.contract.tokens import tokens_of, within
from backscroll.contract.tool_calls import Exchange, exchange_of, orphans
from backscroll_worker.contract.answer_budget import AnswerBudget, history


class SessionMessages(ABC):
    """The messages of one session that a load's filter lets pass, read little by little.

    Places are message ids; raises `OperationRefusedError` for one that the session does not have.
    """

    @abstractmethod
    def back(self, before: str | None) -> Iterator[ChatMessage]:
        """Those before one, or all, newest first."""

    @abstractmethod
    def onward(self, after: str | None, before: str | None) -> Iterator[ChatMessage]:
        """Those after one, or all, and before another, oldest first."""

    @abstractmethod
    def newest_summary(self, before: str | None) -> ChatMessage | None:
        """The newest one with `upto`, of those before one."""

    @abstractmethod
    def has(self, message_id: str) -> bool:
        """Whether the session has that message."""


def choose(load: Load, messages: SessionMessages, budget: AnswerBudget | None) -> Answer:
    """What `load` asks for, encoded within the budget, if there is one."""
    limit, max_tokens, first = load.limit, load.max_tokens, None
    if load.active and (first := messages.newest_summary(load.before)) is not None:
        found = _after_summary(first, load.before, messages)
        limit = None if limit is None else limit - 1
        if max_tokens is not None and (max_tokens := max_tokens - tokens_of(first)) < 0:
            return history((), budget)
    elif load.is_forward:
        found = messages.onward(load.after, load.before)
    else:
        found = messages.back(load.before)
    if max_tokens is not None:
        found = within(found, max_tokens)
    chosen = chain(islice(found, limit), () if first is None else (first,))
    tools = _Tools() if load.legal else None

    def arrange(as_read: list[Any]) -> list[Any]:
        if not load.is_forward:
            as_read.reverse()
        return as_read if tools is None else tools.legal(as_read, is_forward=load.is_forward)

    return history(chosen if tools is None else tools.noting(chosen), budget, arrange)


def by_message_id(load: Load, find: Callable[[str], str | None]) -> Load:
    """`load` with message ids, found by the platform's, in the place of these.

    Raises `OperationRefusedError` if there is no such message.
    """
    for argument in ("before", "around"):
        id_ = getattr(load, f"{argument}_platform_id")
        if id_ is not None:
            message_id = find(id_)
            if message_id is None:
                raise absent(f"{argument}_platform_id", id_)
            named: dict[str, Any] = {argument: message_id, f"{argument}_platform_id": None}
            return replace(load, **named)
    return load


def absent(argument: str, id_: str | None) -> OperationRefusedError:
    """The refusal of a read at a message that the session does not have."""
    return OperationRefusedError(
        f"{argument}: the session has no message {id_!r}; it may be rolled back"
    )


def passes(message: ChatMessage, where: Load | SearchFilter) -> bool:
    """Whether a message counts by `role`, `author`, `since` and `until`."""
    at = message.created_at
    return (
        (where.role is None or message.role == where.role)
        and (where.author is None or message.author == where.author)
        and (where.since is None or (at is not None and at >= where.since))
        and (where.until is None or (at is not None and at < where.until))
    )


def _after_summary(
    summary: ChatMessage, before: str | None, messages: SessionMessages
) -> Iterator[ChatMessage]:
    """What the summary does not stand for, newest first, without other summaries.

    Where the message is gone up to which it goes, its id may say when it was sent: what was sent
    later counts. If it does not, what comes after the summary.
    """
    upto: str | None = summary.upto
    sent = sent_as(upto or "")
    if sent is None and not messages.has(upto or ""):
        upto = summary.message_id
    is_there = sent is None
    for message in messages.back(before):
        if message.message_id == upto:
            return
        if not is_there and sent is not None and _sent(message) <= sent:
            is_there = messages.has(upto or "")  # or else a clock was behind
            if not is_there:
                return
        if message.upto is None:
            yield message


def _sent(message: ChatMessage) -> tuple[int, int]:
    """When, in microseconds, by its id or else its own time; and as which of several."""
    created_at = 0 if message.created_at is None else to_micros(message.created_at)
    return sent_as(message.message_id or "") or (created_at, 0)


class _Tools:
    """Notes the tool calls and results of messages while they are read."""

    def __init__(self) -> None:
        self._noted: list[tuple[int, Exchange]] = []

    def noting(self, messages: Iterable[ChatMessage]) -> Iterator[ChatMessage]:
        for place, message in enumerate(messages):
            if message.extra and (exchange := exchange_of(message.extra)) is not None:
                self._noted.append((place, exchange))
            yield message

    def legal(self, in_order: list[Any], *, is_forward: bool) -> list[Any]:
        """What was made of the messages, oldest first, without results whose call is missing."""
        noted: Iterable[tuple[int, Exchange]] = self._noted
        if not is_forward:
            last = len(in_order) - 1
            noted = [(last - place, exchange) for place, exchange in reversed(self._noted)]
        gone = orphans(noted)
        return [each for place, each in enumerate(in_order) if place not in gone]
