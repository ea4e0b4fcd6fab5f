"""Reads that nobody waits for any more, and reads that take long, hold nobody up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import ChatMessage, OperationRefusedError, Producer
from backscroll.contract.answers import answered_cleanup, answered_session
from backscroll.contract.ids import new_op_id
from backscroll.contract.operations import Append
from backscroll.contract.reads import Load
from backscroll.contract.results import Outcome
from backscroll_worker.contract.answer_budget import AnswerBudget
from backscroll_worker.loop.running import run_worker
from backscroll_worker.settings import Settings
from backscroll_worker.stores.sqlite import SqliteBackend
from backscroll_worker.testing.stores import open_tested
from tests.processes import burst, contents, depth
from tests.test_bad_jobs import push


@pytest.fixture
def _own_signals() -> Iterator[None]:
    """For a worker inside of the test's process, which leaves its handlers behind."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_own_signals")
def test_reads_whose_callers_give_up_during_the_group_are_dropped(
    settings: Settings, producer: Producer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [
        push(client, ["backscroll_worker.jobs.load", None, [], {"key": "k", "at": 1}])
        for _ in range(50)
    ]
    producer.append("k", ChatMessage.user("a"))
    monkeypatch.setattr("backscroll_worker.loop.batch._FRESH_SECONDS", 0.0)
    applied = 0
    apply = SqliteBackend.apply

    def slow(store: Any, operations: Any, budget: Any = None, **options: Any) -> Any:
        nonlocal applied
        budget = budget and AnswerBudget(seconds=0.0)
        answers = apply(store, operations, budget=budget, **options)
        applied += sum(isinstance(each, Load) for each in operations[: len(answers)])
        if applied == 3:
            client.delete(*[f"rq:job:{job_id}" for job_id in asked[3:]])
        return answers

    monkeypatch.setattr(SqliteBackend, "apply", slow)
    run_worker(settings, str(settings.redis_url), burst=True)
    assert applied == 3
    assert contents(settings, "k") == ["a"]
    assert depth(client) == 0


def test_a_group_is_applied_as_far_as_the_budget_goes_then_the_rest(
    settings: Settings, tmp_path: Path
) -> None:
    for url in (settings.store, f"jsonl://{tmp_path / 'sessions'}"):
        with open_tested(url) as store:
            operations: list[Any] = []
            for number in range(10):
                message = ChatMessage.user(str(number))
                operations += [
                    Append(new_op_id(), 1, "k", (message,)),
                    Load(new_op_id(), 1, "k"),
                ]
            budget, parts, sizes = AnswerBudget(seconds=0.0), [], []
            while operations:
                answers = store.apply(operations, budget=budget)
                parts.append(len(answers))
                sizes += [answer.json.count(b"content") for answer in answers[1::2]]
                assert isinstance(answers[0], Outcome)
                del operations[: len(answers)]
            assert parts == [2] * 10
            assert sizes == list(range(1, 11))


def test_a_history_that_cannot_fit_is_refused_before_a_message_is_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_tested(settings.store) as store:
        store.append("k", *[ChatMessage.user("x") for _ in range(100)])
        monkeypatch.setattr("backscroll_worker.contract.answer_budget.MAX_ANSWER_BYTES", 99 * 57)
        read: list[str] = []
        store._connection.exec_trace = lambda _c, sql, _b: read.append(sql) or True  # type: ignore[func-returns-value]
        (answer,) = store.apply([Load(new_op_id(), 1, "k")], budget=AnswerBudget())
        assert isinstance(answer, OperationRefusedError)
        assert not any("FROM messages" in sql for sql in read)
        (answer,) = store.apply([Load(new_op_id(), 1, "k", limit=5)], budget=AnswerBudget())
        assert not isinstance(answer, OperationRefusedError)


def test_short_edits_that_cannot_fit_are_refused_before_one_is_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_tested(settings.store, keep_edits=True) as store:
        store.append("k", ChatMessage.user("0"))
        for number in range(1, 50):
            store.replace("k", ChatMessage.user(str(number)))
        monkeypatch.setattr("backscroll_worker.contract.answer_budget.MAX_ANSWER_BYTES", 49 * 42)
        read: list[str] = []
        store._connection.exec_trace = lambda _c, sql, _b: read.append(sql) or True  # type: ignore[func-returns-value]
        load = Load(new_op_id(), 1, "k", include_edits=True)
        (answer,) = store.apply([load], budget=AnswerBudget())
        assert isinstance(answer, OperationRefusedError)
        assert not any("e.content, e.extra" in sql for sql in read)


def test_jobs_of_a_newer_producer_fail_with_advice(
    settings: Settings, client: redis.Redis, producer: Producer, log: Path
) -> None:
    push(client, ["backscroll_worker.jobs.translate", None, [], {"key": "k", "at": 1}])
    push(client, ["backscroll_worker.jobs.clear", None, [], {"key": "k", "at": 1, "softly": True}])
    arguments = {"at": 1, "query": "a", "limit": 5, "where": {"mood": "good"}}
    push(client, ["backscroll_worker.jobs.search", None, [], arguments])
    producer.append("k", ChatMessage.user("a"))
    assert burst(settings, log) == 0
    assert log.read_text().count("this worker is older: update the worker") == 3
    assert contents(settings, "k") == ["a"]


def test_an_answer_of_another_version_is_read_or_says_who_is_older() -> None:
    known = {"key": "k", "created_at": 0, "last_activity": 0, "message_count": 1, "mood": "good"}
    session = answered_session(known)
    assert session is not None
    assert session.key == "k"
    with pytest.raises(OperationRefusedError, match=r"'message_count'.*older than this producer"):
        answered_session({"key": "k", "created_at": 0, "last_activity": 0})
    with pytest.raises(OperationRefusedError, match="update the worker"):
        answered_cleanup({"sessions": 1, "rules": [], "details": []})
