"""How many tokens messages have for a model, and which of them fit into so many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

import orjson

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.filters import SearchFilter
from backscroll.contract.ids import new_op_id
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Read, operation
from backscroll.contract.reads import Load
from backscroll.contract.tool_calls import LoadedMessages
from backscroll.contract.validation import MAX_LOAD, shown

CountTokens = Callable[[ChatMessage], int]
"""Counts the tokens of a message, as a model's tokenizer does."""

_BYTES_PER_TOKEN: Final = 4
_FIRST_LIMIT: Final = 16
_GROWTH: Final = 4


def estimated_tokens(message: ChatMessage) -> int:
    """A quarter of the bytes of content and `extra`, rounded up: what English text has, or more."""
    size_bytes = len(message.content.encode())
    if message.extra:
        size_bytes += len(orjson.dumps(message.extra))
    return -(-size_bytes // _BYTES_PER_TOKEN)


def tokens_of(message: ChatMessage, count: CountTokens = estimated_tokens) -> int:
    """What the message says itself, or else `count`."""
    return count(message) if message.tokens is None else message.tokens


def within(
    messages: Iterable[ChatMessage], max_tokens: int, count: CountTokens = estimated_tokens
) -> Iterator[ChatMessage]:
    """The first of the messages, up to one with which they would have more than `max_tokens`."""
    left = max_tokens
    for message in messages:
        left -= tokens_of(message, count)
        if left < 0:
            return
        yield message


class CountedLoad:
    """A load whose `max_tokens` are counted here, by a function that cannot travel.

    `operation` is to be read, and what it gives to be passed to `take`, until `loaded` is there:
    each time more messages are asked for, until they are enough.

    Raises `InvalidInputError` if `load` has no `max_tokens`, or `count` cannot be called.
    """

    def __init__(self, load: Load, count: CountTokens) -> None:
        if load.max_tokens is None:
            raise InvalidInputError("count_tokens", "needs max_tokens")
        if not callable(count):
            raise InvalidInputError("count_tokens", f"must be a function, not {shown(count)}")
        self._load = load
        self._max_tokens = load.max_tokens
        self._count = count
        self._counted: dict[str | None, int] = {}
        self._limit = min(_FIRST_LIMIT, load.limit or _FIRST_LIMIT)
        self.loaded: LoadedMessages | None = None

    @property
    def operation(self) -> Load:
        """What to read next."""
        return replace(
            self._load, op_id=new_op_id(), limit=self._limit, max_tokens=None, legal=False
        )

    def take(self, messages: LoadedMessages) -> None:
        """Choose among `messages`, which `operation` gave, or ask for more of them.

        Raises `InvalidInputError` for a count that is not a whole number from 0.
        """
        is_forward = self._load.is_forward
        first = messages[:1] if self._load.active and messages and messages[0].upto else []
        rest = messages[len(first) :]
        in_turn = [*first, *(rest if is_forward else reversed(rest))]
        fitting = sum(1 for _ in within(in_turn, self._max_tokens, self._count_once))
        may_be_more = len(messages) == self._limit != self._load.limit
        if fitting == len(messages) and may_be_more:
            self._limit = min(_GROWTH * self._limit, self._load.limit or MAX_LOAD)
            return
        chosen = in_turn[:fitting]
        if not is_forward:
            chosen = [*chosen[: len(first)], *reversed(chosen[len(first) :])]
        loaded = LoadedMessages(chosen)
        self.loaded = loaded.legal() if self._load.legal else loaded

    def _count_once(self, message: ChatMessage) -> int:
        tokens = self._counted.get(message.message_id)
        if tokens is None:
            tokens = self._counted[message.message_id] = self._count(message)
            if type(tokens) is not int or tokens < 0:
                raise InvalidInputError("count_tokens", "must return a whole number from 0")
        return tokens


@operation
class GetUsage(Read):
    """How many tokens the messages that pass the filter have together, by their own counts."""

    kind = "usage"
    where: SearchFilter
