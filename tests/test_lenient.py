"""`lenient=True`: what a model produced comes back as it was, whatever JSON cannot hold."""

from __future__ import annotations

import asyncio
import base64
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backscroll import (
    AsyncProducer,
    Attachment,
    ChatMessage,
    InvalidInputError,
    InvalidSettingError,
    NotConfirmedError,
    Producer,
    connect,
)
from backscroll.contract import lenient
from backscroll.testing import AsyncInMemoryProducer, InMemoryProducer
from backscroll_worker.embedded import AsyncLocal, Local
from backscroll_worker.settings import Settings
from backscroll_worker.transfer.chats.conversation import Options
from backscroll_worker.transfer.queue_import import import_through_queue
from tests.budget import tries
from tests.processes import running_worker
from tests.transfer.sessions import export, take

pytestmark = pytest.mark.slow

LONE = "a\ud83db"
NAN = float("nan")
HARD = ["a", "\\", "\\u", "u", "ud83d", "\\ud83d", "\\\\uDE00", "\ud83d", "\ude00", "🙂", "$", "\0"]

texts = st.lists(st.sampled_from(HARD) | st.text(st.characters(), max_size=3)).map("".join)
numbers = (
    st.integers()
    | st.integers(2**62, 2**66)
    | st.integers(-(2**66), -(2**62))
    | st.floats()
    | st.sampled_from([10**100, -(2**64), 2**64 - 1, -0.0])
)
keys = texts | st.sampled_from([lenient.MARK, lenient.NUMBER, "$base64", "$before", "$$", "$x"])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
extras = st.none() | st.dictionaries(keys, values, max_size=4)
messages = st.builds(ChatMessage, st.just("assistant"), texts, extras)


def same(first: Any, second: Any) -> bool:
    """Whether both are equal in all, NaN with NaN, and 1 not with 1.0, in the same order."""
    return bool(shape(first) == shape(second))


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, shape(each)) for key, each in value.items()]
    if isinstance(value, list):
        return [shape(each) for each in value]
    return hex(value) if type(value) is int else repr(value)


def said(message: ChatMessage) -> Any:
    return shape([message.content, message.extra, list(message.attachments)])


def data_url(size_bytes: int, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(os.urandom(size_bytes)).decode()}"


@settings(max_examples=tries(400, 20_000), deadline=None)
@given(message=messages)
@example(message=ChatMessage("user", "\\\ud83d\\\\ud83d\\", {}))
@example(message=ChatMessage("user", LONE, None))
@example(message=ChatMessage("user", "", {lenient.MARK: ["content", "extra", 1], "$number": "1"}))
def test_what_is_kept_is_plain_and_gives_back_what_it_was_made_of(message: ChatMessage) -> None:
    kept = lenient.kept(message, 1_000_000)
    assert orjson.loads(orjson.dumps([kept.content, kept.extra])) == [kept.content, kept.extra]
    assert said(lenient.restored(kept, {})) == said(message)
    again = lenient.kept(kept, 1_000_000)
    assert said(lenient.restored(again, {})) == said(kept)
    if lenient.kept(message, 1_000_000) is not message:
        assert lenient.is_kept(kept)


marks = st.lists(st.sampled_from(["content", "extra", "x", 1, 2, 99, -1, None, True]), max_size=4)
foreign = st.dictionaries(st.sampled_from(sorted(lenient.OURS)) | keys, values, max_size=4)


@settings(max_examples=tries(300, 20_000), deadline=None)
@given(
    extra=st.builds(lambda extra, mark: {**extra, lenient.MARK: mark}, foreign, marks | values),
    count=st.integers(0, 3),
)
def test_a_mark_that_others_made_up_breaks_nothing(extra: dict[str, Any], count: int) -> None:
    attached = [Attachment("file", sha256=f"{number:064x}") for number in range(count)]
    message = ChatMessage("user", "\\ud83d", extra, attachments=attached)
    blobs = dict.fromkeys(lenient.missing(message), b"x")
    made = lenient.restored(message, blobs) if lenient.is_kept(message) else message
    assert isinstance(made.content, str)
    assert made.extra is None or isinstance(made.extra, dict)
    assert made.attachments == tuple(attached[: len(made.attachments)])


@pytest.mark.parametrize("digits", [20, 3_999, 4_000, 4_001, 5_000])
def test_an_integer_of_any_length_is_kept(digits: int) -> None:
    value = {"x": [10**digits - 1, -(10**digits)]}
    assert lenient.restored_value(orjson.loads(orjson.dumps(lenient.kept_value(value)))) == value


@settings(max_examples=tries(200, 10_000), deadline=None)
@given(value=values)
def test_a_value_is_kept_likewise(value: Any) -> None:
    kept = lenient.kept_value(value)
    assert orjson.loads(orjson.dumps(kept)) == kept
    assert same(lenient.restored_value(kept), value)


@pytest.fixture(scope="module", params=["sqlite", "jsonl", "memory"])
def embedded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A lenient history in this process."""
    if request.param == "memory":
        with InMemoryProducer(lenient=True) as memory:
            yield memory
        return
    place = tmp_path_factory.mktemp("lenient") / "store"
    with Local(f"{request.param}://{place}", lenient=True) as local:
        yield local


@settings(
    max_examples=tries(60, 3_000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(batch=st.lists(messages, min_size=1, max_size=4))
def test_embedded_whatever_was_appended_is_loaded_as_it_was(
    embedded: Any, batch: list[ChatMessage]
) -> None:
    embedded.delete("k")
    embedded.append("k", *batch)
    assert [*map(said, embedded.load("k"))] == [*map(said, batch)]
    with_plain_reader(embedded, "k")


def with_plain_reader(history: Any, key: str) -> None:
    """Others read it, too, as plain text and JSON, and say it again without a change."""
    history._is_lenient = False
    try:
        loaded = history.load(key)
    finally:
        history._is_lenient = True
    orjson.dumps([message.to_dict() for message in loaded])


@settings(
    max_examples=tries(25, 1_000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(batch=st.lists(messages, min_size=1, max_size=4))
def test_exported_and_imported_it_comes_back_as_it_was(batch: list[ChatMessage]) -> None:
    with tempfile.TemporaryDirectory() as name:
        places = [f"sqlite://{name}/a", f"jsonl://{name}/b", f"sqlite://{name}/c"]
        with Local(places[0], lenient=True) as first:
            first.append("k", *batch)
        for source, target in pairwise(places):
            report = take(target, Path(name) / "x", export(source, "jsonl"))
            assert (report.sessions, report.refused) == (1, [])
            with Local(target, lenient=True) as other:
                assert [*map(said, other.load("k"))] == [*map(said, batch)]


@pytest.fixture
def url(settings: Settings, client: redis.Redis, log: Path) -> Iterator[str]:
    """A server with a worker."""
    with running_worker(settings, client, log):
        assert settings.redis_url is not None
        yield settings.redis_url


def test_over_a_queue_whatever_was_appended_is_loaded_as_it_was(url: str) -> None:
    with Producer(url, lenient=True, timeout_seconds=60) as producer:

        @settings(max_examples=tries(60, 3_000), deadline=None)
        @given(batch=st.lists(messages, min_size=1, max_size=4))
        def tried(batch: list[ChatMessage]) -> None:
            producer.delete("k")
            producer.append("k", *batch)
            assert [*map(said, producer.load("k"))] == [*map(said, batch)]

        tried()


def test_every_call_gives_back_what_was_said(url: str) -> None:
    hard = {"tool_calls": [{"id": LONE, "n": 2**70}], "score": NAN, "$number": [float("-inf")]}
    one = ChatMessage.assistant(f"one zebra {LONE}", extra=hard, platform_id="p")
    with connect(url, lenient=True, timeout_seconds=60) as producer:
        (id_,) = producer.append("k", one, dedup_key="d", ack="stored").message_ids
        assert producer.append("k", one, dedup_key="d", ack="stored").duplicate
        found = producer.get(id_)
        assert found is not None
        (hit,) = producer.search("zebra")
        (listed,) = producer.search("", key="k")
        for message in (found.message, hit.message, listed.message, *producer.load("k", 1)):
            assert said(message) == said(one)
        assert hit.snippet == "one zebra a\\ud83db"
        assert [each.key for each in producer.search("ud83db")] == ["k"]
        assert producer.load("k", max_tokens=1_000, count_tokens=lambda m: len(m.content))
        two = ChatMessage.user(LONE[::-1], extra={"x": -(2**65)})
        producer.replace("k", two)
        assert said(producer.load("k")[0]) == said(two)
        producer.splice("k", one, remove="all")
        with producer.turn("k", two) as turn:
            assert [*map(said, turn.history)] == [said(one), said(two)]
            turn.reply(LONE)
        assert producer.load("k")[-1].content == LONE
        assert [*map(said, producer.pop("k", 3)[:2])] == [said(one), said(two)]
        producer.set_state("k", {"$x": [NAN, LONE, 2**64]}, "hard")
        producer.set_state("k", {"x": 1}, "plain")
        assert same(producer.get_state("k", "hard").value, {"$x": [NAN, LONE, 2**64]})
        assert producer.states("k")["plain"].value == {"x": 1}
        producer.backfill("b", replace(one, created_at=datetime.now(UTC)), ack="stored")
        assert [*map(said, producer.load("b"))] == [said(one)]
    with connect(url, lenient=True, local_reads=True) as reader:
        assert [*map(said, reader.load("b"))] == [said(one)]


def test_what_was_sent_again_is_the_same(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    one = ChatMessage.user(LONE, extra={"x": 2**80, "y": "\\ud83d"})
    with Producer(settings.redis_url, lenient=True, timeout_seconds=0) as hasty:
        with pytest.raises(NotConfirmedError) as late:
            hasty.append("k", one, ack="stored")
        with pytest.raises(NotConfirmedError) as late_pop:
            hasty.pop("k")
    with (
        running_worker(settings, client, log),
        Producer(settings.redis_url, lenient=True, timeout_seconds=60) as producer,
    ):
        receipt = producer.send(late.value.operation, "stored")
        assert receipt.duplicate or receipt.affected == 1
        (popped,) = producer.send(late_pop.value.operation, "stored").messages
        assert said(popped) == said(one)


def test_imported_beside_a_running_worker_it_comes_back_with_the_sessions_ttl(
    url: str, tmp_path: Path
) -> None:
    image = ChatMessage.user("x", url=data_url(1_500_000))
    said_before = [ChatMessage.user(LONE), image, ChatMessage.assistant("", x=[NAN, 2**70])]
    with Local(f"sqlite://{tmp_path / 'a'}", lenient=True) as first:
        first.append("k", *said_before, session={"ttl_hours": 7})
    path = tmp_path / "export.jsonl"
    path.write_bytes(export(f"sqlite://{tmp_path / 'a'}", "jsonl"))
    with Producer(url, timeout_seconds=60) as plain:
        report = import_through_queue([path], plain, Options(None), lambda _: None)
        assert (report.sessions, report.refused, report.not_kept) == (1, [], {})
    with connect(url, lenient=True, timeout_seconds=60) as producer:
        assert [*map(said, producer.load("k"))] == [*map(said, said_before)]
        info = producer.session("k")
        assert info is not None
        assert info.ttl_hours == 7


def test_on_asyncio_it_is_the_same(url: str, tmp_path: Path) -> None:
    one = ChatMessage.user(LONE, extra={"x": [2**80, data_url(900)], "image": data_url(30_000)})

    async def use(history: Any) -> None:
        async with history:
            await history.append("k", one)
            assert [*map(said, await history.load("k"))] == [said(one)]
            await history.set_state("k", [NAN])
            assert same((await history.get_state("k")).value, [NAN])

    small: Any = {"lenient": True, "max_message_bytes": 10_000}
    asyncio.run(use(AsyncProducer(url, timeout_seconds=60, **small)))
    asyncio.run(use(AsyncLocal(f"jsonl://{tmp_path / 'j'}", **small)))
    asyncio.run(use(AsyncInMemoryProducer(**small)))


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (ChatMessage.user(LONE), "lone surrogate at position 1"),
        (ChatMessage.user("", x=LONE), "is not JSON"),
        (ChatMessage.user("", x=2**64), "64-bit"),
        (ChatMessage.user("", x=NAN), "NaN"),
        (ChatMessage.user("", x=data_url(2_000_000)), "the limit is 1,048,576"),
    ],
)
def test_without_it_the_errors_are_what_they_were(message: ChatMessage, problem: str) -> None:
    with InMemoryProducer() as producer, pytest.raises(InvalidInputError, match=problem):
        producer.append("k", message)


def test_what_cannot_be_kept_is_still_refused_and_so_is_another_switch() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    circle: Any = {}
    circle["x"] = circle
    with InMemoryProducer(lenient=True) as producer:
        wrongs: list[Any] = [{1: NAN}, {"x": {NAN}}, {"x": (1, NAN)}, {"x": b"\xff"}, {"x": deep}]
        for wrong in (*wrongs, circle):
            with pytest.raises(InvalidInputError, match="extra"):
                producer.append("k", ChatMessage.user("a", extra=wrong))
        for message in (ChatMessage(LONE, "x"), ChatMessage("user", "x", author=LONE)):
            with pytest.raises(InvalidInputError, match="U\\+D83D"):
                producer.append("k", message)
        with pytest.raises(InvalidInputError, match="the limit is"):
            producer.append("k", ChatMessage.user("x" * 1_100_000 + LONE))
        with pytest.raises(InvalidInputError, match="messages"):
            producer.append("k", "text")  # type: ignore[arg-type]
        assert producer.load("k") == []
    for wrong in (1, "yes", None):
        with pytest.raises(InvalidSettingError, match="lenient: must be True or False"):
            InMemoryProducer(lenient=wrong)  # type: ignore[arg-type]


def test_a_redaction_sees_what_is_kept_and_nothing_is_lost_by_it() -> None:
    url = data_url(2_000_000)
    with InMemoryProducer(lenient=True, redact=lambda text: text.replace("secret", "S")) as own:
        extra = {"secret": [LONE, f"secret {LONE}", 2**70, NAN, url]}
        own.append("k", ChatMessage.user(f"secret {LONE}", extra=extra))
        (loaded,) = own.load("k")
    assert loaded.content == f"S {LONE}"
    assert same(loaded.extra, {"S": [LONE, f"S {LONE}", 2**70, NAN, url]})
    with InMemoryProducer(lenient=True, redact=lambda text: "[x]") as own:
        own.append("k", ChatMessage.user(LONE, extra={"a": 2**70, "b": LONE}))
        (loaded,) = own.load("k")
    assert (loaded.content, loaded.extra) == ("[x]", {"[x]": "[x]", "[x] (2)": "[x]"})


def test_earlier_versions_and_forks_have_it_too() -> None:
    one, two = ChatMessage.user(LONE, extra={"x": 2**70}), ChatMessage.user("two", x=NAN)
    with InMemoryProducer(lenient=True, keep_edits=True) as own:
        own.append("k", one)
        own.replace("k", two)
        own.fork("k", "f")
        own.rename("k", "r")
        (loaded,) = own.load("r", include_edits=True)
        assert (loaded.edits[0].content, loaded.edits[0].extra) == (LONE, {"x": 2**70})
        assert [said(each) for each in own.load("f")] == [said(two)]
