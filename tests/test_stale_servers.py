"""A server that restarts with an earlier state has tails that say what is not so any more."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backscroll import ChatMessage, NotConfirmedError, Producer
from backscroll_worker.settings import Settings
from tests.processes import running_worker
from tests.servers import OWN, program, running
from tests.tails import Hits, texts, warm

_NO_DISK = ("--appendonly", "no", "--save", "")


@pytest.mark.parametrize(
    ("call", "left"),
    [
        (lambda producer: producer.pop("s"), ["a", "b"]),
        (lambda producer: producer.load("s", 5), ["a", "b", "c"]),
    ],
)
def test_a_new_producer_believes_no_tail_of_before(
    settings: Settings,
    tmp_path: Path,
    hits: Hits,
    call: Callable[[Producer], Any],
    left: list[str],
) -> None:
    """As that of a replica that took over: the worker has not noticed it yet."""
    (place := tmp_path / "server").mkdir()
    settings = settings.with_options(
        redis_url=f"unix://{place / 'socket'}", store=f"sqlite://{tmp_path / 'store.db'}"
    )
    url, ends_by = str(settings.redis_url), signal.SIGKILL
    with (
        running(program(OWN), place, *_NO_DISK, ends_by=ends_by) as client,
        running_worker(settings, client, tmp_path / "worker.log") as worker,
    ):
        with Producer(url) as producer:
            producer.append("s", *map(ChatMessage.user, "abcd"), ack="stored")
            warm(producer, hits, "s")
            client.save()
            assert texts(producer.pop("s", ack="stored")) == ["d"]
            worker.send_signal(signal.SIGSTOP)
            server: Any = client.info("server")
        os.kill(server["process_id"], signal.SIGKILL)
        with running(program(OWN), place, *_NO_DISK, ends_by=ends_by) as restarted:
            assert restarted.hexists("backscroll:backscroll:tails", "hs")
            with Producer(url, timeout_seconds=0.3) as new, pytest.raises(NotConfirmedError):
                call(new)
            worker.send_signal(signal.SIGCONT)
            with Producer(url) as new:
                assert texts(new.load("s")) == left
