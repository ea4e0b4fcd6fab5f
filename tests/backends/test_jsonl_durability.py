"""The order in which JSONL files become durable, so that a power cut leaves nothing incomplete."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backscroll.contract.messages import ChatMessage
from backscroll.contract.results import Outcome
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.interruptions import killed_at
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    contents,
    keys,
    open_tested,
    requests,
    say,
)


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[StoreUnderTest]:
    with open_tested(f"jsonl://{tmp_path}", clock=clock) as store:
        store.apply([requests.append("known", (ChatMessage.user("a"),), None)])
        yield store


def test_a_new_session_has_its_sidecar_before_its_messages(store: StoreUnderTest) -> None:
    with watched() as steps:
        say(store, "s", "a")
    assert steps == ["sync .journal.1", "replace s.meta.json", "replace s.jsonl"]


def test_a_group_is_durable_before_any_file_changes(store: StoreUnderTest) -> None:
    with watched() as steps:
        store.apply(
            [
                requests.append("known", (ChatMessage.user("b"),), None),
                requests.append("s", (ChatMessage.user("b"),), None),
                requests.rollback("s", None),
                requests.delete("nobody"),
            ]
        )
    assert steps[0] == "sync .journal.1"
    assert not [step for step in steps[1:] if step.startswith("sync")]


def test_a_journal_has_its_name_before_anything_is_in_it(tmp_path: Path, clock: Clock) -> None:
    with open_tested(f"jsonl://{tmp_path}", clock=clock) as store, watched() as steps:
        say(store, "s", "a")
    assert steps[:2] == ["sync directory", "sync .journal.1"]


def test_a_deletion_takes_the_messages_before_the_sidecar(store: StoreUnderTest) -> None:
    with watched() as steps:
        store.delete("known")
    assert steps == [
        "sync .journal.1",
        "replace known.gone.json",
        "unlink known.jsonl",
        "unlink known.meta.json",
    ]


def test_op_ids_of_a_session_that_was_gone_stay_until_it_is_there_again(
    store: StoreUnderTest,
) -> None:
    store.delete("known")
    with watched() as steps:
        say(store, "known", "again")
    assert steps[-2:] == ["replace known.jsonl", "unlink known.gone.json"]


def test_everything_is_synced_in_its_place_before_the_journal_goes(
    tmp_path: Path, clock: Clock
) -> None:
    with open_tested(f"jsonl://{tmp_path}", clock=clock) as store:
        say(store, "s", "a")
        say(store, "t", "a")
        store.delete("t")
        with watched() as steps:
            store.close()
    *files, names, activity, new_name, journal, last = steps
    assert [activity, new_name] == ["sync .activity", "sync directory"]
    assert sorted(files) == [
        "sync s.jsonl",
        "sync s.meta.json",
        "sync t.gone.json",
    ]
    assert [names, journal, last] == ["sync directory", "unlink .journal.1", "sync directory"]


def test_what_a_killed_process_wrote_is_synced_before_an_answer(
    tmp_path: Path, clock: Clock
) -> None:
    store = open_tested(f"jsonl://{tmp_path}", clock=clock)
    said = requests.append("known", (ChatMessage.user("b"),), None)
    first_rename = 11
    assert killed_at(first_rename, lambda: store.apply([said]))
    assert not list(tmp_path.glob("*.json*"))
    with watched() as steps, open_tested(f"jsonl://{tmp_path}", clock=clock) as successor:
        assert apply_all(successor, [said]) == [Outcome(1, duplicate=True)]
    assert steps[-9:] == [
        "sync .writing",
        "replace known.meta.json",
        "sync .writing",
        "replace known.jsonl",
        "sync directory",
        "sync .activity",
        "sync directory",
        "unlink .journal.1",
        "sync directory",
    ]
    assert [path.name for path in tmp_path.glob(".*")] == [".activity"]


def test_reading_syncs_nothing_once_the_store_is_open(store: StoreUnderTest) -> None:
    with watched() as steps:
        store.load("known")
        store.search("a")
        store.sessions()
        assert store.verify() == []
    assert steps == []


@pytest.mark.parametrize("kind", ["cleanup", "compact"])
def test_maintenance_killed_at_any_step_loses_nothing_it_should_keep(
    tmp_path: Path, kind: str
) -> None:
    def act(store: StoreUnderTest) -> object:
        return finish(store.cleanup(1) if kind == "cleanup" else store.compact(1))

    step, was_killed = 0, True
    while was_killed:
        directory, clock = tmp_path / str(step), Clock()
        with open_tested(f"jsonl://{directory}", clock=clock) as store:
            said = requests.append("old", (ChatMessage.user("a"), ChatMessage.user("b")), None)
            rolled_back = requests.rollback("old", None)
            apply_all(store, [said, rolled_back])
            say(store, "older", "c")
            store.describe("older", name="Older")
            store.delete("older")
            (directory / "corrupt.jsonl").write_text("corrupt\n")
            clock.advance(hours=1.5)
            say(store, "fresh", "d", "e")
            store.remove_last("fresh")
            was_killed = killed_at(step, lambda: act(store))
        with open_tested(f"jsonl://{directory}", clock=clock) as store:
            assert contents(store, "fresh") == ["d"]
            assert contents(store, "old") == (["a"] if store.exists("old") else [])
            if kind == "cleanup":
                assert apply_all(store, [said, rolled_back])[0].duplicate
            act(store)
            act(store)
            expected = {"fresh"} if kind == "cleanup" else {"fresh", "old"}
            assert keys(store) - {"corrupt"} == expected
            assert contents(store, "fresh") == ["d"]
            finish(store.compact(0))
            assert store.verify() == []
        step += 1
    assert step > 5


@contextmanager
def watched() -> Iterator[list[str]]:
    """Record in order what is synced, replaced and removed."""
    steps: list[str] = []

    def watch(name: str, note: Callable[[Any, Any], None]) -> Any:
        real = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            result = real(*args, **options)
            note(args, result)
            return result

        return call

    def named(descriptor: int) -> str:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        return "directory" if path.is_dir() else path.name

    with pytest.MonkeyPatch.context() as patch:
        for name, note in (
            ("fsync", lambda args, _: steps.append(f"sync {named(args[0])}")),
            ("fdatasync", lambda args, _: steps.append(f"sync {named(args[0])}")),
            ("replace", lambda args, _: steps.append(f"replace {Path(args[1]).name}")),
            ("unlink", lambda args, _: steps.append(f"unlink {Path(args[0]).name}")),
        ):
            patch.setattr(os, name, watch(name, note))
        yield steps
