"""The data: real messages, distributed over sessions, the same for every contestant.

The corpus has short remarks. A message here is one remark, or as many consecutive ones as fit into
a length drawn evenly from 10 to 400 characters, as messages in chats have any length.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from backscroll import ChatMessage
from backscroll.contract.message_checks import Limits
from backscroll.contract.operations import Append
from backscroll.contract.requests import Requests
from backscroll_worker.demo.corpus import load_sessions

SESSIONS: Final = 300
SHORTEST_CHARS: Final = 10
LONGEST_CHARS: Final = 400
SEED: Final = 1

_ROLES: Final = ("user", "assistant")


@functools.cache
def texts() -> tuple[str, ...]:
    """The messages' texts, in the order of the corpus."""
    lengths = random.Random(SEED)
    return tuple(
        text
        for session in load_sessions()
        for text in _joined(list(itertools.chain(*session.conversations)), lengths)
        if SHORTEST_CHARS <= len(text) <= LONGEST_CHARS
    )


def _joined(remarks: list[str], lengths: random.Random) -> Iterator[str]:
    """For each remark, it and those after it up to a length."""
    for start, remark in enumerate(remarks):
        room = lengths.randint(SHORTEST_CHARS, LONGEST_CHARS) - len(remark)
        end = start + 1
        while end < len(remarks) and len(remarks[end]) < room:
            room -= len(remarks[end]) + 1
            end += 1
        yield " ".join(remarks[start:end])


def messages(count: int) -> Iterator[tuple[str, ChatMessage]]:
    """`count` session keys with a message each; the texts are repeated if necessary."""
    for index, text in zip(range(count), itertools.cycle(texts()), strict=False):
        # As from adapters: neighbours in the queue belong to different sessions.
        key = f"bench/session:{index % SESSIONS}"
        yield key, ChatMessage(_ROLES[index // SESSIONS % 2], text)


def messages_of_people(count: int) -> Iterator[tuple[str, ChatMessage]]:
    """The same, each with an author, as in a group of 20, and an id that grows, as Telegram's."""
    for index, (key, message) in enumerate(messages(count)):
        person = index // SESSIONS % 20
        yield (
            key,
            replace(
                message,
                author=f"{1_000_000_000 + person}",
                author_name=f"Person {person}",
                platform_id=f"{1_000_000 + index}",
            ),
        )


def appends(count: int) -> Iterator[Append]:
    """The same as operations, stamped now."""
    requests = Requests(Limits())
    for key, message in messages(count):
        yield requests.append(key, (message,), None)


def calls(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same as op ids and arguments in JSON types, for other queues."""
    for operation in appends(count):
        yield operation.op_id, operation.arguments()
