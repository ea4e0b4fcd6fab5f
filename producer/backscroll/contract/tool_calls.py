"""Tool calls and their results in a history: which answers which, and which stand alone.

As in OpenAI's API, an assistant's `extra.tool_calls[].id` names a call, and a later message's
`extra.tool_call_id` the call that it answers. As in Anthropic's, a list in `extra` may have blocks:
`{"type": "tool_use", "id": …}` is a call and `{"type": "tool_result", "tool_use_id": …}` a result.
An id may be reused: a result belongs to the last call before it. What is malformed is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any, NamedTuple

from backscroll.contract.messages import ChatMessage


class Exchange(NamedTuple):
    """The ids of the calls in a message, and those of the calls that it has results of."""

    calls: list[str]
    results: list[str]


def exchange_of(extra: Mapping[str, Any] | None) -> Exchange | None:
    """The tool calls and results of a message with that `extra`; None if there are none."""
    if not extra:
        return None
    calls = list(_ids(extra.get("tool_calls"), "id"))
    results = list(_texts(extra.get("tool_call_id")))
    for value in extra.values():
        if isinstance(value, list):
            calls += _ids(value, "id", "tool_use")
            results += _ids(value, "tool_use_id", "tool_result")
    return Exchange(calls, results) if calls or results else None


def orphans(exchanges: Iterable[tuple[int, Exchange]]) -> set[int]:
    """The places, oldest first, of results whose call is not before them.

    A message goes with all that it has: the results of its own calls are orphans, too.
    """
    called, found = set[str](), set[int]()
    for place, exchange in exchanges:
        if called.issuperset(exchange.results):
            called.update(exchange.calls)
        else:
            found.add(place)
    return found


class LoadedMessages(list[ChatMessage]):
    """Messages as a load gives them, oldest first."""

    @property
    def open_calls(self) -> tuple[str, ...]:
        """The ids of tool calls that no later message here has a result of, oldest first.

        A turn that broke off leaves such calls; a provider wants a result for each.
        """
        numbers = count()
        waiting, last = dict[int, str](), dict[str, int]()
        for _, exchange in _exchanges(self):
            for id_ in exchange.results:
                waiting.pop(last.get(id_, -1), None)
            for id_ in exchange.calls:
                last[id_] = number = next(numbers)
                waiting[number] = id_
        return tuple(waiting.values())

    def legal(self) -> LoadedMessages:
        """Without the results whose call is not among these messages."""
        gone = orphans(_exchanges(self))
        return LoadedMessages([each for place, each in enumerate(self) if place not in gone])


def _exchanges(messages: Iterable[ChatMessage]) -> Iterator[tuple[int, Exchange]]:
    for place, message in enumerate(messages):
        if (exchange := exchange_of(message.extra)) is not None:
            yield place, exchange


def _ids(blocks: object, name: str, kind: str | None = None) -> Iterator[str]:
    """The texts under `name` in a list of objects, of those of that type if one is given."""
    for block in blocks if isinstance(blocks, list) else ():
        if isinstance(block, dict) and (kind is None or block.get("type") == kind):
            yield from _texts(block.get(name))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
