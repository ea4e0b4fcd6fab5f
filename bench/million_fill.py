"""A store and a folder of files with the same conversations, as they would have been written.

The store gets one message after the other, in the order of their times, which are also the store's
time. So a session's messages are spread over the file, with those of other sessions between them,
and the last activity of each session is known.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import orjson

from backscroll.contract.messages import ChatMessage, to_micros
from backscroll.contract.operations import Append, Describe, Write
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.stores import open_store
from backscroll_worker.stores.jsonl.file_names import SessionNames
from bench.million_data import conversations

GROUP: Final = 2_000
ACTIVE: Final = 1_000
"""The number of sessions that are active at a time, once the store is filled."""

SAMPLED: Final = 25  # queries are made from every 25th message
PERSON: Final = "1000000001"
_SHARE: Final = 100
"""Every 100th message is that person's."""


@dataclass(slots=True)
class Filled:
    """The contents of a store, as far as the measurements need them."""

    messages: int = 0
    text_bytes: int = 0
    last_activity: dict[str, int] = field(default_factory=dict)
    sample: list[str] = field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        """The sessions, by last activity."""
        return sorted(self.last_activity, key=self.last_activity.__getitem__)


def fill(url: str, sessions: int, messages: int, tell: Callable[[str], None]) -> Filled:
    """Write the conversations to a new store at `url`."""
    filled, clock = Filled(), [0]
    with open_store(url, clock=lambda: clock[0]) as store:
        operations = _with_a_person(as_said(conversations(sessions, messages)))
        while group := list(itertools.islice(operations, GROUP)):
            clock[0] = group[-1].at
            store.apply(group)
            for operation in group:
                if isinstance(operation, Append):
                    _note(filled, operation, clock[0])
            tell(f"filling the store: {filled.messages:,} messages")
    return filled


def _with_a_person(operations: Iterable[Write]) -> Iterator[Write]:
    for number, operation in enumerate(operations):
        if isinstance(operation, Append) and number % _SHARE == 0:
            (message,) = operation.messages
            yield replace(operation, messages=(replace(message, author=PERSON),))
        else:
            yield operation


def _note(filled: Filled, operation: Append, now: int) -> None:
    (message,) = operation.messages
    if filled.messages % SAMPLED == 0:
        filled.sample.append(message.content)
    filled.messages += 1
    filled.text_bytes += len(message.content.encode())
    filled.last_activity[operation.key] = now


def as_said(begun: Iterable[ImportSession]) -> Iterator[Write]:
    """The operations of these conversations, in the order of their times.

    The conversations are given in the order of their beginnings, so that only unfinished ones are
    in memory.
    """
    under_way: list[tuple[int, str, int, ImportSession]] = []
    for conversation in begun:
        yield from _until(conversation.created_at, under_way)
        yield Describe(
            conversation.op_id, conversation.at, conversation.key, conversation.attributes
        )
        heapq.heappush(under_way, (conversation.created_at, conversation.key, 0, conversation))
    yield from _until(None, under_way)


def _until(
    end: int | None, under_way: list[tuple[int, str, int, ImportSession]]
) -> Iterator[Append]:
    """The operations before `end`, or all remaining ones."""
    while under_way and (end is None or under_way[0][0] < end):
        at, key, index, conversation = under_way[0]
        message = conversation.messages[index]
        yield Append(
            str(message.message_id), at, key, (ChatMessage(message.role, message.content),)
        )
        if index + 1 < len(conversation.messages):
            next_at = to_micros(conversation.messages[index + 1].created_at)  # type: ignore[arg-type]
            heapq.heapreplace(under_way, (next_at, key, index + 1, conversation))
        else:
            heapq.heappop(under_way)


def write_files(directory: Path, sessions: int, messages: int) -> None:
    """The conversations in the original's form: a file per session, a line per message."""
    directory.mkdir()
    for conversation in conversations(sessions, messages):
        lines = [
            orjson.dumps({"role": message.role, "content": message.content})
            for message in conversation.messages
        ]
        path = directory / SessionNames.of(conversation.key).messages
        path.write_bytes(b"\n".join([*lines, b""]))
