"""Odd arguments: one clear error of ours, and never another from deep inside."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Generator, Iterable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st

from producer import (
    UNSET,
    AsyncProducer,
    BackscrollError,
    ChatMessage,
    Producer,
    SearchFilter,
    SessionFilter,
)
from producer.operations import Append
from worker.backends import open_backend
from worker.backends.base import finish

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
]  # fmt: skip
OF_A_STORE = [
    "append", "remove_last", "remove", "replace", "clear", "delete", "describe", "rename_agent",
    "load", "session", "exists", "sessions", "search", "cleanup", "compact", "erase", "stream",
]  # fmt: skip
FILTERS = ["key", "role", "channel", "since", "until", "active_since", "stuck_seconds", "pinned"]
often = fuzzing(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def arguments(draw: st.DrawFn, function: Callable[..., Any]) -> tuple[list[Any], dict[str, Any]]:
    """What a caller may hand over by the function's signature, whatever its types say."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    parameters = inspect.signature(function).parameters
    for name, parameter in parameters.items():
        is_left_out = parameter.default is not inspect.Parameter.empty and draw(st.booleans())
        if is_left_out or name == "self":
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
    with open_backend(f"{scheme}://{tmp_path / 'store'}") as store:
        for name in OF_A_STORE:
            _fuzz_store(getattr(store, name))


def _fuzz_store(call: Callable[..., Any]) -> None:
    @often
    @given(arguments(call))
    def fuzz(given: tuple[list[Any], dict[str, Any]]) -> None:
        tried(lambda: call(*given[0], **given[1]))

    fuzz()
