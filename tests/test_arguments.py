"""Odd arguments: one clear error of ours, and never another from deep inside."""

from __future__ import annotations

import asyncio
import inspect
import math
import re
from collections.abc import Callable, Generator, Iterable
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st

import backscroll as package
from backscroll import (
    UNSET,
    AsyncProducer,
    BackscrollError,
    ChatMessage,
    InvalidInputError,
    InvalidSettingError,
    Producer,
    SearchFilter,
    SessionFilter,
)
from backscroll.contract.operations import Append, RenameAgent
from backscroll_worker.contract.pacing import finish
from backscroll_worker.stores import open_store, store_at
from backscroll_worker.testing.stores import StoreUnderTest, open_tested
from tests.budget import tries

HI = ChatMessage.user("hi")
LATE, EARLY = timezone(timedelta(hours=14)), timezone(timedelta(hours=-14))

JUNK: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**70, -(2**70), 10**400, 0.5, -0.5, 1e308,
    math.nan, math.inf, -math.inf, "", "x", "0" * 32, "-1", "\ud800", "a\0b", "a\nb", "é" * 600,
    b"x", b"\xff", [], [HI], (), {}, {"a": 1}, {"sender": "ann"}, {1: 2}, {"extra": math.nan},
    MappingProxyType({"name": "x"}), object(), Path("/nowhere"), Exception("x"), UNSET, HI, dict,
    (message for message in [HI]), datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC),
    datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=EARLY),
    datetime.min.replace(tzinfo=LATE), datetime(1969, 12, 31, tzinfo=UTC),
    ChatMessage("user", 7), ChatMessage(None, "x"), ChatMessage("user", "x", [1]),  # type: ignore[arg-type]
    ChatMessage("user", "\ud800"), ChatMessage.user("x", created_at=datetime.min),
    ChatMessage.user("x", created_at="now"), ChatMessage("user", "x", None, "mine"),  # type: ignore[arg-type]
    ChatMessage.user("x", extra="e", more=1), ChatMessage("user", "x", {"\ud800": 2**80}),  # type: ignore[arg-type]
    SearchFilter(since=datetime(2026, 1, 1)), SearchFilter(key=b"k", role=7),  # type: ignore[arg-type]
    SessionFilter(stuck_seconds=1e300), SessionFilter(state="busy", pinned=2),  # type: ignore[arg-type]
    Append("bad id!", -1, "k", (HI,)), Append("0" * 32, 1, "k", (7,)), "stored",  # type: ignore[arg-type]
]  # fmt: skip
junk = st.sampled_from(JUNK)
CALLS = [
    "append", "rollback", "replace", "clear", "delete", "describe", "rename_agent", "load",
    "session", "exists", "sessions", "search", "cleanup", "restore", "compact", "erase", "send",
    "fork", "splice", "pop",
]  # fmt: skip
OF_A_STORE = [
    "append", "remove_last", "remove", "replace", "clear", "delete", "describe", "rename_agent",
    "load", "session", "exists", "sessions", "search", "cleanup", "compact", "erase", "stream",
    "fork", "splice", "pop",
]  # fmt: skip
FILTERS = ["key", "role", "channel", "since", "until", "active_since", "stuck_seconds", "pinned"]
often = fuzzing(
    max_examples=tries(40, deep=200),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@st.composite
def arguments(draw: st.DrawFn, function: Callable[..., Any]) -> tuple[list[Any], dict[str, Any]]:
    """What a caller may hand over by the function's signature, whatever its types say."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    parameters = inspect.signature(function).parameters
    for name, parameter in parameters.items():
        is_left_out = parameter.default is not inspect.Parameter.empty and draw(st.booleans())
        if is_left_out or name in ("self", "archive"):
            continue
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional += draw(st.lists(junk, max_size=2))
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            others = [field for field in FILTERS if field not in parameters]
            named |= draw(st.dictionaries(st.sampled_from(others), junk, max_size=2))
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            named[name] = draw(junk)
        else:
            positional.append("k" if name == "key" and draw(st.booleans()) else draw(junk))
    return positional, named


def tried(call: Callable[[], Any]) -> None:
    """Make the call; whatever it says against it is ours, and short."""
    said = "it worked"
    try:
        answer = call()
        if isinstance(answer, Generator):
            finish(answer)
        elif isinstance(answer, Iterable):
            list(answer)
    except BackscrollError as error:
        said = str(error)
    assert said
    assert "\n" not in said


@pytest.mark.parametrize("name", CALLS)
def test_whatever_a_producer_is_called_with_its_errors_are_ours(name: str, server_url: str) -> None:
    with Producer(server_url, timeout_seconds=0.001) as producer:
        call = getattr(producer, name)

        @often
        @given(arguments(call))
        def fuzz(given: tuple[list[Any], dict[str, Any]]) -> None:
            tried(lambda: call(*given[0], **given[1]))

        fuzz()


@pytest.mark.parametrize("name", CALLS)
def test_an_asyncio_producers_errors_are_ours_as_well(name: str, server_url: str) -> None:
    async def use() -> None:
        async with AsyncProducer(server_url, timeout_seconds=0.001) as producer:
            call = getattr(producer, name)
            cases: list[tuple[list[Any], dict[str, Any]]] = []

            @often
            @given(arguments(call))
            def collect(case: tuple[list[Any], dict[str, Any]]) -> None:
                cases.append(case)

            collect()
            answers = await asyncio.gather(
                *(call(*case[0], **case[1]) for case in cases), return_exceptions=True
            )
            bad = [each for each in answers if isinstance(each, BaseException)]
            assert all(isinstance(each, BackscrollError) for each in bad), set(map(repr, bad))

    asyncio.run(use())


@pytest.mark.parametrize("maker", [Producer, AsyncProducer])
def test_whatever_a_producer_is_made_of_its_errors_are_ours(
    maker: Callable[..., Any], server_url: str, tmp_path: Path
) -> None:
    @often
    @given(arguments(maker))
    def fuzz(given: tuple[list[Any], dict[str, Any]]) -> None:
        positional, named = given
        if isinstance(named.get("spool"), str | Path) and "\0" not in str(named["spool"]):
            named["spool"] = tmp_path / "spool"
        if not isinstance(positional[0] if positional else None, str):
            positional[:1] = [server_url]

        def make() -> None:
            closed = maker(*positional, **named).close()
            if inspect.isawaitable(closed):
                asyncio.run(closed)  # type: ignore[arg-type]

        tried(make)

    fuzz()


@pytest.mark.parametrize("scheme", ["sqlite", "jsonl"])
def test_whatever_a_store_is_called_with_its_errors_are_ours(scheme: str, tmp_path: Path) -> None:
    with open_tested(f"{scheme}://{tmp_path / 'store'}") as store:
        for name in OF_A_STORE:
            _fuzz_store(getattr(store, name))


def _fuzz_store(call: Callable[..., Any]) -> None:
    @fuzzing(often, max_examples=tries(15, deep=60))
    @given(arguments(call))
    def fuzz(given: tuple[list[Any], dict[str, Any]]) -> None:
        tried(lambda: call(*given[0], **given[1]))

    fuzz()


ODD_OPTIONS: list[dict[str, Any]] = [
    {"retries": -1}, {"retries": True}, {"retries": 10**6}, {"timeout_seconds": -1},
    {"timeout_seconds": math.nan}, {"timeout_seconds": math.inf}, {"timeout_seconds": "1"},
    {"max_queue_depth": 0}, {"max_message_bytes": 2**70}, {"spool_max_bytes": 0}, {"spool": b"x"},
    {"queue": b"x"}, {"queue": "a:b"}, {"url": b"redis://h"}, {"url": "redis://h/abc"},
    {"url": "redis://h?foo=1"}, {"url": "redis://h?decode_responses=1"}, {"url": "redis://h\n"},
    {"url": "redis://" + "h" * 300}, {"url": "rediss://h?ssl_cert_reqs=odd"},
    {"url": "redis://h/1/2"}, {"url": "redis://\ud800"}, {"url": "redis://h:99999"},
]  # fmt: skip


@pytest.mark.parametrize("maker", [Producer, AsyncProducer])
@pytest.mark.parametrize("options", ODD_OPTIONS, ids=str)
def test_an_odd_option_is_refused_by_name(maker: Any, options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(InvalidSettingError, match=f"^{name}: ") as caught:
        maker(**{"url": "redis://127.0.0.1:1", **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://:memory:", "sqlite:///x.db?mode=ro", "jsonl:///x?y=1", "sqlite:///a\0b",
        "sqlite:///\ud800", "sqlite://~nobody-here/x.db", "sqlite://", "x", b"sqlite:///x", None,
    ],
)  # fmt: skip
def test_an_odd_url_of_a_store_is_refused_and_nothing_created(
    url: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for use in (open_store, store_at):
        with pytest.raises(InvalidSettingError, match=r"^store: "):
            use(url)
    assert list(tmp_path.iterdir()) == []


def test_keywords_of_a_message_are_what_they_say() -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    for make in (ChatMessage.user, ChatMessage.assistant, ChatMessage.system, ChatMessage.tool):
        message = make("x", extra={"a": 1}, b=2, created_at=moment)
        assert (message.extra, message.created_at) == ({"a": 1, "b": 2}, moment)
        assert make("x", extra={}).extra == {}
        assert make("x").extra is None


class Name(StrEnum):
    """What an adapter may have for its texts."""

    KEY = "k"
    UPDATE = "update-7"


class Mixed(str, Enum):  # noqa: UP042 - that it is another is the point
    """As `Name`, the older way; it prints as `Mixed.KEY`."""

    KEY = "k"
    UPDATE = "update-7"


@pytest.mark.parametrize("names", [Name, Mixed])
def test_a_member_of_an_enumeration_is_the_text_that_it_holds(server_url: str, names: Any) -> None:
    with Producer(server_url) as producer:
        plain = producer.append("k", HI, dedup_key="update-7")
        assert producer.append(names.KEY, HI, dedup_key=names.UPDATE).op_id == plain.op_id
        renamed = RenameAgent("0" * 32, 1, names.KEY, None)
        assert producer.send(renamed).op_id == renamed.op_id


@pytest.mark.parametrize("names", [{1: "x"}, {None: "x"}, {b"channel": "x"}, {("a",): "x"}])
def test_an_attribute_whose_name_is_no_text_is_refused(server_url: str, names: Any) -> None:
    with (
        Producer(server_url) as producer,
        pytest.raises(InvalidInputError, match="a session has no"),
    ):
        producer.append("k", HI, session=names)


@pytest.mark.parametrize("ack", [["stored"], {"a": {}}, Exception("x"), datetime.max, 7])
def test_an_odd_ack_is_refused_by_name(server_url: str, ack: Any) -> None:
    with Producer(server_url) as producer, pytest.raises(InvalidInputError, match="ack: must be"):
        producer.append("k", HI, ack=ack)


def test_a_platforms_message_id_is_refused_and_not_dropped(server_url: str) -> None:
    with Producer(server_url) as producer:
        for call in (producer.append, producer.replace):
            with pytest.raises(InvalidInputError, match=r"^message_id: .* extra"):
                call("k", ChatMessage("user", "x", None, "1234.5678"))
        loaded = ChatMessage("user", "x", None, producer.append("k", HI).message_ids[0])
        assert producer.append("copy", loaded).op_id
        assert ChatMessage.user("x", message_id="m").extra == {"message_id": "m"}


@pytest.mark.parametrize("scheme", ["sqlite", "jsonl"])
def test_search_and_sessions_take_a_filter_its_fields_or_both(scheme: str, tmp_path: Path) -> None:
    with open_tested(f"{scheme}://{tmp_path / 'store'}") as store:
        for channel in ("slack", "web"):
            session = {"channel": channel, "sender": "ann"}
            store.append(channel, ChatMessage.user("fox"), session=session)
        assert _keys(store, SearchFilter(channel="web"), SessionFilter(channel="web")) == ["web"]
        assert _keys(store, None, None, channel="web", sender="ann") == ["web"]
        of_ann = SearchFilter(sender="ann"), SessionFilter(sender="ann")
        assert _keys(store, *of_ann, channel="slack") == ["slack"]
        assert sorted(_keys(store, *of_ann)) == ["slack", "web"]
        page = store.sessions()
        assert (list(page), len(page), page[0]) == (list(page.sessions), 2, page.sessions[0])
        with pytest.raises(InvalidInputError, match="where: must be a SearchFilter"):
            store.search("fox", SessionFilter())  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="is not a field of SearchFilter"):
            store.search("fox", nick="x")  # type: ignore[call-arg]


def _keys(store: StoreUnderTest, search: Any, sessions: Any, **given: Any) -> list[str]:
    hits = [hit.key for hit in store.search("fox", search, **given)]
    assert sorted(info.key for info in store.sessions(sessions, **given)) == sorted(hits)
    return hits


def test_every_type_in_a_public_signature_is_exported() -> None:
    named: set[str] = set()
    for each in package.__all__:
        thing = getattr(package, each)
        public = vars(thing).items() if isinstance(thing, type) else ()
        members = [member for name, member in public if name[0] != "_" or name == "__init__"]
        for member in (thing, *members):
            function = getattr(member, "__func__", member)
            spelled = getattr(function, "__annotations__", {}).values()
            named |= {word for text in spelled for word in re.findall(r"[A-Z]\w+", str(text))}
    known = {"Any", "Self", "None", "Mapping", "Iterable", "Sequence", "Literal", "ClassVar",
             "Callable", "Path", "TracebackType", "BaseException", "Exception", "Unpack",
             "Final", "Enum", "ForwardRef", "NoneType", "Annotated", "MICROS", "Iterator",
             "Arguments", "OfRole", "Messages", "AsyncMessages"}  # fmt: skip
    assert named - known - set(package.__all__) == set()
