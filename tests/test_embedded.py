"""`Local` and `AsyncLocal`: the producers' calls over a store in the same process."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
import redis

from backscroll import (
    AsyncProducer,
    Attachment,
    ChatMessage,
    ConflictError,
    InvalidInputError,
    InvalidSettingError,
    OperationRefusedError,
    Producer,
    StoreUnavailableError,
    StoreUnusableError,
    connect,
    connect_async,
)
from backscroll_worker.embedded import AsyncLocal, Local
from backscroll_worker.settings import Settings
from backscroll_worker.stores import open_store
from backscroll_worker.testing.fixtures import UrlAt, url_at
from tests.processes import running_worker
from tests.test_interruptions import interrupted_at
from tests.test_readme import python_blocks

__all__ = ["url_at"]

HI = ChatMessage.user("hi")
NEVER_CLOSED = """
import sys
from backscroll import ChatMessage
from backscroll_worker.embedded import Local
Local(sys.argv[1]).append("s", ChatMessage.user("hi"))
"""


@pytest.fixture
def url(url_at: UrlAt, tmp_path: Path) -> str:
    return url_at(tmp_path / "store")


def calls(kind: type) -> dict[str, Any]:
    """The public members of a class; of its methods the signatures."""
    members = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
    return {
        name: inspect.signature(member) if callable(member) else None
        for name, member in members.items()
    }


def said(local: Local, key: str = "s") -> list[str]:
    return [message.content for message in local.load(key)]


def test_it_has_every_call_of_the_producers_with_its_signature() -> None:
    assert calls(Local) == calls(Producer)
    assert calls(AsyncLocal) == calls(AsyncProducer)
    for made in (Local, AsyncLocal):
        both = inspect.signature(made.__init__).parameters.items() & set(
            inspect.signature(Producer.__init__).parameters.items()
        )
        assert {"queue", "timeout_seconds", "max_message_bytes", "redact"} <= dict(both).keys()


def test_a_second_process_hears_of_the_queue_and_a_kill_loses_nothing(url: str) -> None:
    read, write = os.pipe()
    if not (other := os.fork()):
        with Local(url) as local:
            while True:
                os.write(write, f"{local.append('s', HI).op_id}\n".encode())
    os.close(write)
    with os.fdopen(read) as pipe:
        returned = [pipe.readline().strip() for _ in range(20)]
        with pytest.raises(StoreUnavailableError, match=rf"process {other} .*worker.*redis://"):
            Local(url)
        os.kill(other, signal.SIGKILL)
        returned += pipe.read().split("\n")[:-1]
    os.waitpid(other, 0)
    with Local(url) as local:
        ids = [message.message_id for message in local.load("s")]
    assert ids[: len(returned)] == returned
    assert len(ids) - len(returned) in (0, 1)


def test_a_fork_is_told_that_the_store_is_its_parents(url: str) -> None:
    with Local(url) as local:
        local.append("s", HI)
        problems: list[str] = []
        read, write = os.pipe()
        if not (child := os.fork()):
            for use in (lambda: local.append("s", HI), lambda: Local(url)):
                try:
                    use()
                except (StoreUnusableError, StoreUnavailableError) as error:
                    problems.append(str(error))
            local.close()
            os.write(write, "\n".join(problems).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            own, anew = pipe.read().split("\n")
        os.waitpid(child, 0)
        assert "before this process was forked; open it after the fork" in own
        assert f"process {os.getpid()} has the store open" in anew
        local.append("s", HI)
        assert said(local) == ["hi", "hi"]


def test_all_who_open_it_in_a_process_share_it(url: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    first, second = Local(url), Local(url.replace("/store", "/link/store"))
    first.append("s", HI)
    assert said(second) == ["hi"]
    with pytest.raises(InvalidSettingError, match="keep_edits=False"):
        Local(url, keep_edits=True)
    first.close()
    first.close()
    with pytest.raises(StoreUnusableError, match="was closed"):
        first.load("s")
    assert said(second) == ["hi"]
    with pytest.raises(StoreUnavailableError):
        open_store(url)
    del second  # never closed
    gc.collect()
    with Local(url, keep_edits=True) as third:
        third.replace("s", ChatMessage.user("ho"))
        assert third.load("s", include_edits=True)[0].edits[0].content == "hi"


def test_threads_and_event_loops_share_it_and_keep_their_orders(url: str) -> None:
    local, shared = Local(url), AsyncLocal(url)

    async def say(key: str) -> None:
        one_after_the_other = [shared.append(key, ChatMessage.user(str(n))) for n in range(25)]
        await asyncio.gather(*one_after_the_other)

    def run(key: str) -> None:
        asyncio.run(say(key))
        for number in range(25, 40):
            local.append(key, ChatMessage.user(str(number)))
        assert said(local, key) == [str(number) for number in range(40)]
        finished.append(key)

    finished: list[str] = []
    threads = [threading.Thread(target=run, args=(f"s{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(shared.close())
    local.close()
    assert sorted(finished) == ["s0", "s1", "s2", "s3"]
    open_store(url).close()


def test_an_event_loop_goes_on_while_the_store_waits(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        async with AsyncLocal(f"sqlite://{path}") as local:
            await local.append("s", HI)
            with closing(apsw.Connection(str(path))) as other:
                other.execute("BEGIN IMMEDIATE")
                appending = asyncio.create_task(local.append("s", HI))
                cancelled = asyncio.create_task(local.load("s"))
                for _ in range(20):
                    await asyncio.sleep(0.001)
                assert not appending.done()
                cancelled.cancel()
            await appending
            assert len(await local.load("s")) == 2

    asyncio.run(main())


def test_its_errors_are_those_of_the_producers(url: str) -> None:
    with Local(url, max_message_bytes=10, ack="queued") as local:
        local.append("s", HI)
        with pytest.raises(ConflictError) as conflict:
            local.append("s", HI, expect_tail="another", ack="queued")
        with pytest.raises(ConflictError):
            local.send(conflict.value.operation)
        with pytest.raises(OperationRefusedError, match="no message 'nothing'") as refusal:
            local.load("s", before="nothing")
        assert refusal.value.operation.key == "s"
        with pytest.raises(InvalidInputError, match="10"):
            local.append("s", ChatMessage.user("more than ten"))
        with pytest.raises(InvalidInputError, match="ack"):
            local.append("s", HI, ack="said")  # type: ignore[arg-type]
        assert local.cleanup().sessions == 0
        place = Path(url.partition("://")[2])
        place.rename(place.with_name("elsewhere"))
        with pytest.raises(StoreUnavailableError) as unavailable:
            local.append("s", HI)
        place.with_name("elsewhere").rename(place)
        assert local.send(unavailable.value.operation).affected == 1
        assert said(local) == ["hi", "hi"]
    for wrong in ({"ttl_hours": -1}, {"timeout_seconds": -1}, {"redact": 1}, {"queue": "a b"}):
        with pytest.raises(InvalidSettingError, match=next(iter(wrong))):
            Local(url, **wrong)
    open_store(url).close()  # no failed one has kept it


def test_it_is_maintained_as_a_worker_does_it(url: str, tmp_path: Path) -> None:
    with Local(url, archive=tmp_path / "archive", redact=lambda text: text.lower()) as local:
        picture = Attachment("image", data=b"png")
        local.append("s", ChatMessage.user("SECRET", attachments=[picture]))
        (kept,) = local.load("s")[0].attachments
        assert local.attachment("s", kept.sha256 or "") == b"png"
        local.append("own", HI, session={"ttl_hours": 1e-9})
        assert local.cleanup().keys == ("own",)
        assert local.cleanup(ttl_hours=0, dry_run=True).keys == ("s",)
        assert local.cleanup(ttl_hours=0).sessions == 1
        assert said(local) == []
        assert local.restore("s").messages == 1
        assert [hit.message.content for hit in local.search("secret")] == ["secret"]
        receipt = local.erase(key="s")
        assert (receipt.messages, receipt.archived) == (1, 1)
        assert local.compact().seconds > 0
        local.append("long", *(ChatMessage.user(str(number)) for number in range(1_200)))
        assert local.fork("long", "copy").affected == 1_200
        assert len(local.load("copy")) == 1_200


def test_a_worker_takes_over_what_it_stored(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    with Local(settings.store) as local:
        local.append("s", HI, dedup_key="1")
        with pytest.raises(StoreUnavailableError):
            open_store(settings.store)
    with running_worker(settings, client, log), Producer(settings.redis_url) as producer:
        assert producer.append("s", HI, dedup_key="1", ack="stored").duplicate
        assert len(producer.load("s")) == 1
        with pytest.raises(StoreUnavailableError, match="connect"):
            Local(settings.store)


def test_who_is_interrupted_anywhere_harms_no_later_call(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path / 'a.db'}"
    line, came_to_it = 0, True
    while came_to_it:
        line += 5
        with interrupted_at(line, "/embedded/", "/calls.py", "/mailbox.py") as it_came:
            local = Local(url)
            local.append("s", HI)
            local.close()
        came_to_it = it_came()
        with Local(url) as after:
            after.append("s", HI)
    assert line > 50


def test_one_call_connects_to_a_queue_and_to_a_store(
    url: str, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(server_url, "q", ack="fsynced") as history:
        assert (type(history), history.queue) == (Producer, "q")
    with connect(url, "q", redact=str.upper) as history:
        assert (type(history), history.queue, history.spooled) == (Local, "q", 0)
        assert history.append("s", HI).affected == 1
    monkeypatch.setenv("BACKSCROLL_REDIS_URL", server_url)
    with connect() as history:
        assert history.url == server_url

    async def both() -> None:
        async with connect_async(url) as stored, connect_async(server_url) as queued:
            assert (type(stored), type(queued)) == (AsyncLocal, AsyncProducer)
            assert [message.content for message in await stored.load("s")] == ["HI"]

    asyncio.run(both())
    for place, option in ((url, {"spool": "x"}), (server_url, {"archive": "x"})):
        with pytest.raises(InvalidSettingError, match=f"{next(iter(option))}: has no meaning here"):
            connect(place, **option)
    with pytest.raises(InvalidSettingError, match="cannot be used"):
        connect("http://localhost")
    with pytest.raises(InvalidSettingError, match=r"use redis://.* sqlite://.* or jsonl://"):
        connect("localhost:6379")
    monkeypatch.setitem(sys.modules, "backscroll_worker.embedded", None)
    with pytest.raises(InvalidSettingError, match=r"pip install 'backscroll\[worker\]'"):
        connect(url)


def test_a_program_that_never_closes_it_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    subprocess.run([sys.executable, "-c", NEVER_CLOSED, f"sqlite://{path}"], check=True, timeout=60)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.db", "a.db.lock"]


def test_the_page_on_embedding_can_be_followed(tmp_path: Path) -> None:
    names: dict[str, Any] = {"directory": tmp_path}
    blocks = python_blocks("docs/embedded.md")
    assert len(blocks) == 4
    for code in blocks:
        exec(code, names)  # noqa: S102 - it is our page
    assert names["said"][-1] == "Noon on Friday it is."
    assert (len(names["found"]), names["sessions"], names["report"].sessions) == (2, 21, 0)
