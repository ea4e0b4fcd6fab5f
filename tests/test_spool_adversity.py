"""The spool under interruptions, forks, servers that refuse, and programs that touch its file."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import redis

from backscroll import AsyncProducer, ChatMessage, Producer, ServerRefusedError, SpoolUnusableError
from backscroll.spool.queue import Spool, read_spool
from tests.prepared import Prepared
from tests.processes import wait_for
from tests.proxy import Proxy
from tests.test_spool import Road, run, say, wait_until_sent

HI = ChatMessage.user("hi")


@pytest.fixture
def road(server_url: str, tmp_path: Path) -> Road:
    return Road(server_url, tmp_path)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


class InterruptionError(BaseException):
    """What a soft time limit raises, wherever the program happens to be."""


# Interrupted callers.


def at_line(number: int, functions: set[str]) -> Callable[..., Any]:
    """A trace function that raises at the line `number` that is run in those of the spool's."""
    left = number

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        if "spool" not in frame.f_code.co_filename or frame.f_code.co_name not in functions:
            return trace if event == "call" else None
        if event == "line":
            left -= 1
            if left == 0:
                raise InterruptionError
        return trace

    return trace


def job(number: int) -> Any:
    return (f"id{number}", 0, "2026-11-28T00:00:00.000000Z", "append 1 message", b"x" * 10)


def numbers(spool: Spool) -> list[str]:
    return [entry.job[0] for entry in spool.head(100, 1_000_000)]


@pytest.mark.parametrize("call", ["put", "drop"])
def test_a_caller_interrupted_at_any_line_leaves_the_spool_right(spool: Path, call: str) -> None:
    held = Spool(spool)
    held.put([job(0)])
    for line in range(1, 20):
        entries = held.head(1, 100)
        sys.settrace(at_line(line, {"put", "drop", "_call", "refuse_after_fork", "is_inherited"}))
        with suppress(InterruptionError):
            if call == "put":
                held.put([job(line)])
            else:
                held.drop(entries)
        sys.settrace(None)
        held.put([job(100 + line)])  # neither hangs nor overtakes
        assert held.count == len(numbers(held)) == read_spool(spool).operations
        assert numbers(held)[-1] == f"id{100 + line}"
    held.close()
    Spool(spool).close()


@pytest.mark.parametrize("function", ["_put", "_drop", "_measure", "_head"])
def test_a_failure_at_any_line_of_the_work_itself_leaves_the_count_right(
    tmp_path: Path, function: str
) -> None:
    line = 0
    while (line := line + 1) < 30:
        path = tmp_path / f"{line}.db"
        threading.settrace(at_line(line, {function}))
        held = Spool(path)
        threading.settrace(None)
        known = []
        for number in range(4):
            with suppress(InterruptionError):
                held.put([job(number)])
                known.append(f"id{number}")
        with suppress(InterruptionError):
            held.drop(held.head(1, 100))
        with suppress(InterruptionError):
            numbers(held)
        assert held.count == len(numbers(held))
        assert set(numbers(held)) >= set(known[1:])
        assert numbers(held) == sorted(numbers(held))
        held.close()


def is_in_a_finalizer(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


@pytest.mark.parametrize("with_server", [False, True])
def test_signals_at_random_times_lose_and_reorder_nothing_acknowledged(
    road: Road, spool: Path, with_server: bool
) -> None:
    armed = False

    def stop(_number: int, frame: FrameType | None) -> None:
        # A signal may be handled a moment after its call; and what a finalizer raises is passed
        # over, be it of a producer or of what the test before has left.
        if armed and not is_in_a_finalizer(frame):
            raise InterruptionError

    previous = signal.signal(signal.SIGALRM, stop)
    acknowledged: list[str] = []
    try:
        with Producer(road.url, spool=spool) as producer:
            if not with_server:
                road.close()
            for number in range(120):
                with suppress(InterruptionError):
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, (number % 40 + 1) / 8_000)
                    acknowledged.append(producer.append("s", HI).op_id)
                    armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert producer.append("s", HI).spooled != with_server
            if not with_server:
                road.open()
            wait_until_sent(producer)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    queued = road.queued()
    assert len(queued) == len(set(queued))
    assert [op_id for op_id in queued if op_id in set(acknowledged)] == acknowledged
    assert read_spool(spool).operations == 0


# Servers that are there and refuse.


class Babbling(Proxy):
    """Answers the next scripts with something else, and keeps the connection."""

    def __init__(self, target: str, *instead: bytes) -> None:
        super().__init__(target)
        self.instead = list(instead)

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        while request := client.recv(1 << 20):
            server.sendall(request)
            reply = server.recv(1 << 20)
            if self.instead and b"EVALSHA" in request:
                reply = self.instead.pop(0)
            client.sendall(reply)


ODD_REPLIES = (
    b":5\r\n", b"+OK\r\n", b"_\r\n", b"*1\r\n:1\r\n", b"*1\r\n*1\r\n$1\r\nx\r\n", b"%0\r\n",
    b"*0\r\n", b"-ERR odd\r\n", b"?what\r\n",
)  # fmt: skip


@pytest.mark.parametrize("odd", ODD_REPLIES)
def test_replies_that_nobody_expects_end_no_thread_and_lose_nothing(
    server_url: str, spool: Path, odd: bytes
) -> None:
    with (
        Babbling(server_url.removeprefix("unix://"), odd, odd) as proxy,
        Producer(proxy.url, spool=spool) as producer,
    ):
        ids = say(producer, "a", "b", "c")
        wait_until_sent(producer)
        assert not proxy.instead
        ids += say(producer, "d")
    with redis.Redis.from_url(server_url) as client:
        queued: Any = client.lrange("rq:queue:backscroll", 0, -1)
    unique = list(dict.fromkeys(raw.decode() for raw in queued))
    assert unique == ids


def test_an_odd_reply_is_an_error_of_its_own_call_in_asyncio(server_url: str) -> None:
    async def use(proxy: Babbling) -> None:
        async with AsyncProducer(proxy.url) as producer:
            with pytest.raises(ServerRefusedError, match="unexpected reply"):
                await producer.append("k", HI)
            assert (await producer.append("k", HI)).op_id

    with Babbling(server_url.removeprefix("unix://"), b":1\r\n") as proxy:
        asyncio.run(use(proxy))


# Forks.

FORKING = """
    import os, sys, threading
    from backscroll import ChatMessage, Producer
    from backscroll.contract.errors import SpoolUnusableError
    producer = Producer(sys.argv[1], spool=sys.argv[2])
    is_over = threading.Event()
    ids = []
    def write():
        while not is_over.is_set():
            ids.append(producer.append("s", ChatMessage.user("x")).op_id)
    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(25):
        if not os.fork():
            try:
                producer.append("s", ChatMessage.user("from the child"))
            except SpoolUnusableError:
                producer.close()
                sys.exit(0)  # with all that an interpreter does at its end
            os._exit(1)
    assert all(os.wait()[1] == 0 for _ in range(25))
    is_over.set()
    for thread in threads:
        thread.join()
    producer.close()
    print(*ids)
"""


def test_children_forked_at_any_time_neither_hang_nor_harm_the_spool(
    road: Road, spool: Path
) -> None:
    road.close()
    ended = run(FORKING, road.url, spool)
    assert ended.returncode == 0, ended.stderr
    ids = ended.stdout.split()
    with closing(sqlite3.connect(spool)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    road.open()
    with Producer(road.url, spool=spool) as producer:
        wait_until_sent(producer)
    assert sorted(road.queued()) == sorted(ids)


LEAVING_A_CHILD = """
    import os, signal, sys, time
    from backscroll import ChatMessage, Producer
    producer = Producer(sys.argv[1], spool=sys.argv[2])
    producer.append("s", ChatMessage.user("x"))
    if not os.fork():
        print(os.getpid(), flush=True)
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    time.sleep(60)
"""


def test_a_living_child_keeps_no_dead_adapters_spool(road: Road, spool: Path) -> None:
    road.close()
    program = ["-c", textwrap.dedent(LEAVING_A_CHILD), road.url, str(spool)]
    with Prepared(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.wait()
        try:
            os.kill(child, 0)
            road.open()
            with Producer(road.url, spool=spool) as producer:
                wait_until_sent(producer)
        finally:
            os.kill(child, signal.SIGKILL)
    assert len(road.queued()) == 1


# Programs that touch the file.


def test_another_name_for_a_spool_is_in_use_too(road: Road, spool: Path) -> None:
    other = spool.with_name("other.db")
    with Producer(road.url, spool=spool):
        os.link(spool, other)
        with pytest.raises(SpoolUnusableError, match="in use"):
            Producer(road.url, spool=other)
        Path(f"{spool}.lock").unlink()
        with pytest.raises(SpoolUnusableError, match="in use"):
            Producer(road.url, spool=spool)
    Producer(road.url, spool=other).close()


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_nothing_is_acknowledged_into_a_file_that_nobody_will_find(
    road: Road, spool: Path, how: str
) -> None:
    with Producer(road.url, spool=spool) as producer:
        road.close()
        ids = say(producer, "a")
        if how == "deleted":
            spool.unlink()
        elif how == "moved":
            spool.rename(spool.with_name("elsewhere.db"))
        else:
            shutil.copy(spool, spool.with_name("copy.db"))
            spool.with_name("copy.db").rename(spool)
        with pytest.raises(SpoolUnusableError, match="deleted, moved or replaced") as caught:
            say(producer, "b")
        assert caught.value.operation is not None
        road.open()
        wait_until_sent(producer)  # what was acknowledged before is not given up
        ids += say(producer, "c")
    assert list(dict.fromkeys(road.queued())) == ids


def test_a_copied_spool_doubles_nothing(road: Road, spool: Path) -> None:
    copy = spool.with_name("copy.db")
    with Producer(road.url, spool=spool) as producer:
        road.close()
        ids = say(producer, "a", "b")
        shutil.copy(spool, copy)
        road.open()
        wait_until_sent(producer)
    with Producer(road.url, spool=copy) as producer:
        wait_until_sent(producer)
    assert road.queued() == ids


def test_rows_that_somebody_took_out_are_not_waited_for(road: Road, spool: Path) -> None:
    with Producer(road.url, spool=spool) as producer:
        road.close()
        ids = say(producer, "a", "b", "c")
        with closing(sqlite3.connect(spool)) as database, database:
            database.execute("DELETE FROM jobs WHERE op_id <> ?", (ids[1],))
        road.open()
        wait_until_sent(producer)
        ids += say(producer, "d")
    queued = road.queued()  # one that was taken out may have been on its way already
    assert {ids[1], ids[3]} <= set(queued) <= set(ids)
    assert queued[-1] == ids[3]


FULL_WHILE_SENDING = """
    import resource, signal, sys, time
    from backscroll import ChatMessage, Producer
    producer = Producer(sys.argv[1], spool=sys.argv[2])
    ids = [producer.append("s", ChatMessage.user("x" * 5_000)).op_id for _ in range(20)]
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    open(sys.argv[3], "x").close()
    while producer.spooled:
        time.sleep(0.01)
    ids.append(producer.append("s", ChatMessage.user("later")).op_id)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    while b"xxxx" in open(sys.argv[2], "rb").read():
        time.sleep(0.01)
    print(*ids)
"""


def test_a_disk_that_is_full_while_the_spool_is_sent_holds_nothing_up(
    road: Road, spool: Path, tmp_path: Path
) -> None:
    road.close()
    is_full = tmp_path / "full"

    def open_then() -> None:
        wait_for(is_full.exists, "a full disk")
        road.open()

    opener = threading.Thread(target=open_then)
    opener.start()
    ended = run(FULL_WHILE_SENDING, road.url, spool, is_full)
    opener.join()
    assert road.queued() == ended.stdout.split(), ended.stderr
