"""What sessions have besides their messages, through the queue: own values and state."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import AsyncProducer, ChatMessage, ConflictError, Producer, SessionState
from backscroll.contract.codec import decode
from backscroll.contract.states import SetState
from backscroll_worker.contract.pacing import finish
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from backscroll_worker.transfer.migrate import migrate
from tests.processes import running_worker
from tests.transfer.sessions import export, take


@pytest.fixture
def producer(settings: Settings, client: redis.Redis, tmp_path: Path) -> Iterator[Producer]:
    log = tmp_path / "worker.log"
    with running_worker(settings, client, log), Producer(settings.redis_url) as made:
        yield made


def test_states_are_set_by_both_producers_and_conflicts_raise(producer: Producer) -> None:
    async def scenario() -> None:
        async with AsyncProducer(producer.url) as other:
            receipt = await other.set_state("s", {"step": 1}, expect=0)
            assert (receipt.affected, receipt.duplicate) == (1, False)
            assert await other.get_state("s") == SessionState({"step": 1}, 1)
            with pytest.raises(ConflictError):
                await other.set_state("s", {}, expect=2)

    asyncio.run(scenario())
    assert producer.set_state("s", [1], "other", ack="queued").affected is None
    assert producer.states("s") == {
        "default": SessionState({"step": 1}, 1), "other": SessionState([1], 1)
    }  # fmt: skip
    assert producer.get_state("nobody") == SessionState(None, 0)


@pytest.mark.parametrize("kinds", [("sqlite", "jsonl"), ("jsonl", "sqlite")])
def test_an_export_carries_values_and_states(kinds: tuple[str, str], tmp_path: Path) -> None:
    source, target = (f"{kind}://{tmp_path / kind}" for kind in kinds)
    with open_tested(source) as store:
        store.append("s", ChatMessage.user("hi"), session={"meta": {"n": 0.1, "on": True}})
        store.set_state("s", {"step": [1, None]})
        store.set_state("s", 1, "gone")
        store.set_state("s", None, "gone")
        store.describe("plain", name="N")
        before = store.session("s"), store.states("s")
    content = export(source, "jsonl")
    assert content.count(b'"states"') == content.count(b'"meta"') == 1
    report = take(target, tmp_path / "x", content)
    assert (report.sessions, report.refused) == (2, [])
    with open_tested(target) as store:
        assert (store.session("s"), store.states("s")) == before
    assert export(target, "jsonl") == content
    again = take(target, tmp_path / "x", content)
    assert (again.sessions, again.known) == (0, 2)


@pytest.mark.parametrize(
    "states",
    ['[]', '{"a":1}', '{"a":{"value":1}}', '{"a":{"version":-1}}', '{"":{"version":1}}'],
)  # fmt: skip
def test_an_export_with_no_valid_states_is_refused(states: str, tmp_path: Path) -> None:
    lines = (
        '{"backscroll_export":1}\n{"session":{"key":"s","created_at":1,"last_activity":2,'
        f'"state":"idle"}},"states":{states}}}\n{{"end":0}}\n'
    )
    report = take(f"sqlite://{tmp_path / 'x.db'}", tmp_path / "x", lines.encode())
    assert (report.sessions, len(report.refused)) == (0, 1)


def test_a_migrated_folder_keeps_values_and_states(tmp_path: Path) -> None:
    folder, url = tmp_path / "sessions", f"sqlite://{tmp_path / 'x.db'}"
    with open_tested(f"jsonl://{folder}") as store:
        store.append("s", ChatMessage.user("hi"), session={"meta": {"n": 1}})
        store.set_state("s", "x")
    assert migrate(folder, url).refused == []
    with open_tested(url) as store:
        assert [info.meta for info in store.sessions(meta={"n": 1})] == [{"n": 1}]
        assert store.get_state("s") == SessionState("x", 1)


def test_the_texts_of_a_state_are_redacted(settings: Settings, client: redis.Redis) -> None:
    with Producer(settings.redis_url, redact=lambda text: text.replace("42", "#")) as producer:
        for value in ("42", ["42"], {"state": "42", "n": 42}):
            producer.set_state("s", value)
    ids: Any = client.lrange("rq:queue:backscroll", 0, -1)
    jobs: Any = [(each.decode(), client.hget(b"rq:job:" + each, "data")) for each in ids]
    sent = [decode(*job) for job in jobs]
    assert [each.value for each in sent if isinstance(each, SetState)] == [
        "#", ["#"], {"state": "#", "n": "#"}
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
def test_nothing_of_values_and_states_is_left_by_an_erasure(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "store"
    with open_tested(f"{kind}://{place}") as store:
        for key in ("s", "other"):
            store.append(key, ChatMessage.user("hi"), session={"meta": {key: f"{key}-value"}})
            for size in (10, 5_000, 20):  # with pages of its own, and without
                store.set_state(key, f"{key}-state " * size)
            store.set_state(key, None, "deleted")
        store.describe("s", meta={"s": "s-value, changed", "more": f"{'s-value ' * 900}"})
        finish(store.erase(key="s"))
        assert store.get_state("other").value == "other-state " * 20
        assert [info.key for info in store.sessions(meta={"other": "other-value"})] == ["other"]
    left = b"".join(each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())
    assert b"other-value" in left
    assert b"other-state" in left
    for word in (b"s-value", b"s-state"):
        assert word not in left
