"""Reads and pops that a tail on the server answers: how many, and waiting for the first one."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from subprocess import Popen

from backscroll import ChatMessage, Producer
from tests.processes import wait_for


class Hits:
    """How many calls were answered out of a tail."""

    count = 0


def warm(producer: Producer, hits: Hits, *keys: str, limit: int | None = 50) -> None:
    """Read each session until a tail answers."""
    for key in keys:
        before = hits.count

        def is_kept(key: str = key, before: int = before) -> bool:
            producer.load(key, limit)
            return hits.count > before

        wait_for(is_kept, f"a tail of {key}")


def texts(messages: Iterable[ChatMessage]) -> list[str]:
    """What the messages say."""
    return [message.content for message in messages]


@contextmanager
def stopped(worker: Popen[bytes], producer: Producer) -> Iterator[None]:
    """The worker does nothing meanwhile, and what is asked for waits in the queue."""
    worker.send_signal(signal.SIGSTOP)
    producer.append("other", ChatMessage.user("hi"))  # which the server gives to who waits
    try:
        yield
    finally:
        worker.send_signal(signal.SIGCONT)
