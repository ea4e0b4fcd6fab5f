"""Both producers say the same, completely: what each call does, returns and raises."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest

import backscroll
from backscroll import AsyncProducer, Producer
from tests.servers import ROOT

CALLS = sorted(
    name for name in dir(Producer) if not name.startswith("_") and callable(getattr(Producer, name))
)
WITHOUT_SERVER = ("message_id", "turn")  # a turn, before it begins
ERRORS = {
    name
    for name in backscroll.__all__
    if isinstance(kind := getattr(backscroll, name), type) and issubclass(kind, Exception)
}


def test_the_blocking_producer_is_the_one_that_is_generated() -> None:
    command = [sys.executable, "producer/generate.py", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def test_both_producers_have_the_same_calls() -> None:
    assert len(CALLS) >= 25
    others = [name for name in dir(AsyncProducer) if callable(getattr(AsyncProducer, name))]
    assert [name for name in others if not name.startswith("_")] == CALLS


@pytest.mark.parametrize("name", CALLS)
def test_a_call_has_one_signature_and_says_what_it_raises(name: str) -> None:
    blocking: Callable[..., Any] = getattr(Producer, name)
    awaited: Callable[..., Any] = getattr(AsyncProducer, name)
    signature = str(inspect.signature(awaited)).replace("AsyncTurn", "Turn")
    assert str(inspect.signature(blocking)) == signature
    assert get_type_hints(blocking).keys() == {
        *inspect.signature(blocking).parameters,
        "return",
    } - {"self"}
    assert inspect.iscoroutinefunction(awaited) or name in WITHOUT_SERVER
    assert not inspect.iscoroutinefunction(blocking)
    assert blocking.__doc__ == awaited.__doc__
    assert re.search(r"\bRaises\b", blocking.__doc__ or "")
    assert _errors_named(blocking) <= ERRORS


@pytest.mark.parametrize("producer", [Producer, AsyncProducer])
def test_the_class_says_when_a_call_raises_each_error(producer: type) -> None:
    """Those of the worker's store come to an adapter as `OperationRefusedError`."""
    of_the_worker = {"MalformedJobError", "StoreUnavailableError", "StoreUnusableError"}
    assert _errors_named(producer) == ERRORS - of_the_worker


def test_what_users_meet_is_exported() -> None:
    met = {"Ack", "ErasureReceipt", "Operation", "Receipt", "RestoreReport", "State"}
    assert met <= set(backscroll.__all__)
    for call in CALLS:
        returned = inspect.signature(getattr(Producer, call)).return_annotation
        for name in re.findall(r"\b[A-Z]\w+", returned.replace("None", "")):
            assert name in backscroll.__all__, call


def _errors_named(thing: Any) -> set[str]:
    return set(re.findall(r"`(\w+Error)`", thing.__doc__ or ""))
