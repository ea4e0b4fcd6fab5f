"""Conversations for a store: any number of messages in any number of sessions.

The corpus has some 20,000 remarks. A message here is a random selection of them, in one language,
up to a length drawn evenly from 10 to 400 characters. A few remarks are frequent and most are rare,
as in any language, so words are as common and as rare as in real histories. Some messages contain a
unique order number, a word that occurs nowhere else.

    python -m bench.million_data sqlite:///var/million.db --messages 1000000 --sessions 20000
"""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from typing import Final, NamedTuple

import click

from backscroll.contract.messages import ChatMessage, from_micros, to_micros
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.demo.corpus import CHANNELS, load_sessions
from backscroll_worker.stores import Store, open_store
from bench.data import LONGEST_CHARS, SEED, SHORTEST_CHARS

FIRST_MICROS: Final = 1_735_689_600_000_000  # 2025-01-01
_YEAR_SECONDS: Final = 365 * 86_400.0
_ORDER_SHARE: Final = 0.05
_AGENTS: Final = ("main", "support", "sales", "research", None)
_MESSAGES_PER_GROUP: Final = 5_000


class Remarks(NamedTuple):
    """The remarks of one language, and their cumulative weights for a random selection."""

    texts: list[str]
    weights: list[float]


def conversations(sessions: int, messages: int, seed: int = SEED) -> Iterator[ImportSession]:
    """`messages` messages in `sessions` sessions, the same for the same arguments.

    Sessions begin within one year, each later than the one before. Their lengths are skewed: most
    are short, and a few have dozens of times the average.
    """
    draw = random.Random(seed)
    languages = _languages()
    shares = [math.sqrt(len(remarks.texts)) for remarks in languages.values()]
    for number, length in enumerate(_lengths(sessions, messages, draw)):
        (language,) = draw.choices(list(languages), shares)
        begins = FIRST_MICROS + int(_YEAR_SECONDS * 1e6 * number / sessions)
        yield _conversation(number, length, begins, language, draw)


def fill_store(store: Store, sessions: int, messages: int, seed: int = SEED) -> Iterator[int]:
    """Import `conversations` into `store`; yields the number of messages after each group."""
    group: list[ImportSession] = []
    size = 0
    for conversation in conversations(sessions, messages, seed):
        group.append(conversation)
        size += len(conversation.messages)
        if size >= _MESSAGES_PER_GROUP:
            store.apply(group)
            yield size
            group, size = [], 0
    if group:
        store.apply(group)
        yield size


@cache
def _languages() -> dict[str, Remarks]:
    said: defaultdict[str, list[str]] = defaultdict(list)
    for session in load_sessions():
        said[session.language] += itertools.chain(*session.conversations)
    languages: dict[str, Remarks] = {}
    for language, remarks in said.items():
        texts = sorted(
            {" ".join(text.split()) for text in remarks if 0 < len(text) <= LONGEST_CHARS}
        )
        random.Random(SEED).shuffle(texts)  # otherwise all common ones would begin with one letter
        # Zipf's law: a text's frequency is inversely proportional to its rank.
        weights = [1 / (place + 10) for place in range(len(texts))]
        languages[language] = Remarks(texts, list(itertools.accumulate(weights)))
    return languages


def _lengths(sessions: int, messages: int, draw: random.Random) -> list[int]:
    """The number of messages of each session: at least one, together exactly `messages`."""
    if not 1 <= sessions <= messages:
        raise ValueError("give at least one session, and a message for each")
    weights = [draw.lognormvariate(0, 1.2) for _ in range(sessions)]
    scale = (messages - sessions) / sum(weights)
    ends = [round(end * scale) for end in itertools.accumulate(weights)]
    return [1 + end - start for start, end in itertools.pairwise([0, *ends])]


def _conversation(
    number: int, length: int, begins: int, language: str, draw: random.Random
) -> ImportSession:
    channel = CHANNELS[number % len(CHANNELS)]
    sender, room = f"user{draw.randrange(10_000)}", f"room{int(draw.paretovariate(0.6)) % 500}"
    remarks = _languages()[language]
    at = begins
    said: list[ChatMessage] = []
    for index in range(length):
        role = "user" if index % 2 == 0 else "assistant"
        content = _message(remarks, draw)
        said.append(ChatMessage(role, content, None, _message_id(at, draw), from_micros(at)))
        at += _pause(draw)
    return ImportSession(
        op_id=_message_id(begins, draw),
        at=begins,
        key=f"{channel}/{sender}:{number}",
        messages=tuple(said),
        attributes={
            "name": said[0].content[:40],
            "agent": draw.choice(_AGENTS),
            "channel": channel,
            "room": room,
            "sender": sender,
        },
        created_at=begins,
        last_activity=to_micros(said[-1].created_at or from_micros(begins)),
    )


def _message(remarks: Remarks, draw: random.Random) -> str:
    """Remarks, as many as fit into a length."""
    room = draw.randint(SHORTEST_CHARS, LONGEST_CHARS)
    text = f"#{draw.randrange(10**7, 10**8)}" if draw.random() < _ORDER_SHARE else ""
    while True:
        (remark,) = draw.choices(remarks.texts, cum_weights=remarks.weights)
        longer = f"{text} {remark}".strip()
        if len(longer) > room and len(text) >= SHORTEST_CHARS:
            return text[:LONGEST_CHARS]
        text = longer


def _pause(draw: random.Random) -> int:
    """Microseconds until the next message: mostly about a minute, sometimes a day."""
    seconds = draw.expovariate(1 / 60) if draw.random() < 0.95 else draw.expovariate(1 / 86_400)
    return int(timedelta(seconds=seconds + 1) / timedelta(microseconds=1))


def _message_id(at: int, draw: random.Random) -> str:
    """An id as made by producers at that time (UUIDv7), but with the draw's random bits."""
    value = at // 1_000 << 80 | 0x7 << 76 | draw.getrandbits(12) << 64
    return f"{value | 0b10 << 62 | draw.getrandbits(62):032x}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("url")
@click.option("--sessions", type=click.IntRange(min=1), default=20_000, show_default=True)
@click.option("--messages", type=click.IntRange(min=1), default=1_000_000, show_default=True)
@click.option("--seed", type=int, default=SEED, show_default=True)
def main(url: str, sessions: int, messages: int, seed: int) -> None:
    """Fill the store at URL with conversations.

    \b
    Example:
      python -m bench.million_data sqlite:///var/million.db
    """
    with (
        open_store(url) as store,
        click.progressbar(length=messages, label="messages", show_pos=True) as bar,
    ):
        for size in fill_store(store, sessions, messages, seed):
            bar.update(size)


if __name__ == "__main__":
    main()
