"""JSONL files survive a kill and a failing disk at every single step of a group."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backscroll.contract.errors import StoreUnavailableError
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Operation, RenameAgent
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.testing.interruptions import failing, killed_at
from backscroll_worker.testing.model import Model, State, state_of
from backscroll_worker.testing.stores import Clock, StoreUnderTest, apply_all, open_tested, requests

KEYS = ("s", "t", "a/b", "🙂" * 200)


def say(key: str, *texts: str) -> Operation:
    return requests.append(key, tuple(ChatMessage.user(text) for text in texts), None)


def before() -> list[Operation]:
    """The store's content before the group."""
    return [say("s", "s1", "s2"), say("t", "t1"), requests.describe("t", {"agent": "old"})]


def appends() -> list[Operation]:
    return [say("s", "s3"), say("a/b", "x1", "x2", "x3"), say("t", "t2", "t3"), say("s", "s4")]


def changes() -> list[Operation]:
    return [
        requests.rollback("s", None),
        say("s", "s5", "s6"),
        requests.replace("t", ChatMessage.user("T1"), None),
        requests.rollback("s", None),
        requests.rollback("a/b", None),
        requests.clear("t"),
        say("t", "t9"),
    ]


def descriptions() -> list[Operation]:
    return [
        requests.describe("s", {"agent": "old", "name": "S"}),
        requests.describe("🙂" * 200, {"agent": "old"}),
        say("s", "s3"),
        requests.rename_agent("old", "new"),
        requests.describe("s", {"agent": "old"}),
        say("🙂" * 200, "x", "y"),
    ]


def deletions() -> list[Operation]:
    return [
        say("s", "s3"),
        requests.describe("s", {"name": "S"}),
        requests.delete("s"),
        say("s", "again", "and again"),
        requests.describe("s", {"name": "Second"}),
        requests.delete("t"),
        requests.delete("a/b"),
        say("🙂" * 200, "x"),
        requests.delete("🙂" * 200),
        requests.delete("s"),
        say("s", "third"),
    ]


def imports() -> list[Operation]:
    said = requests.append("a/b", (ChatMessage.user("i1"), ChatMessage.user("i2")), None)
    attributes: dict[str, str | bool | None] = {"name": "Imported"}
    return [
        ImportSession("import", said.at, "a/b", said.stamped(), attributes, 5, 6),
        requests.rollback("a/b", None),
    ]


GROUPS = (appends, changes, descriptions, deletions, imports)


@pytest.mark.parametrize("group_of", GROUPS)
def test_a_group_killed_at_any_step_is_completed(
    tmp_path: Path, group_of: Callable[[], list[Operation]]
) -> None:
    step, was_killed = 0, True
    while was_killed:
        scene = Scene(tmp_path / str(step), group_of())
        was_killed = scene.killed_at(step)
        with scene.open() as store:
            scene.check_all_or_nothing(store)
            scene.check_end(store)
        step += 1
    assert step > 5


@pytest.mark.parametrize("group_of", GROUPS)
def test_a_group_that_meets_a_full_disk_at_any_step_is_completed(
    tmp_path: Path, group_of: Callable[[], list[Operation]]
) -> None:
    step, failed = 0, True
    while failed:
        scene = Scene(tmp_path / str(step), group_of())
        with scene.open() as store:
            failed = scene.fails_at(store, step)
            scene.check_all_or_nothing(store)
            scene.check_end(store)
        with scene.open() as store:
            scene.check_end(store)
        step += 1
    assert step > 5


def test_a_full_disk_is_named_with_the_file_and_what_to_do(tmp_path: Path) -> None:
    scene = Scene(tmp_path, appends())
    with scene.open() as store, failing(0), pytest.raises(StoreUnavailableError) as caught:
        store.apply(scene.group)
    assert str(tmp_path) in str(caught.value)
    assert "No space left on device. Free some space" in str(caught.value)


def test_a_rename_is_finished_by_the_next_process(tmp_path: Path) -> None:
    rename = requests.rename_agent("old", "new")
    assert isinstance(rename, RenameAgent)
    halves = set()
    for step in range(40):
        directory, clock = tmp_path / str(step), Clock()
        with open_tested(f"jsonl://{directory}", clock=clock) as store:
            for key in KEYS:
                store.describe(key, agent="old")
            with suppress(StoreUnavailableError), failing(step):
                store.apply([rename])
        with open_tested(f"jsonl://{directory}", clock=clock) as store:
            agents = {info.agent for info in store.sessions().sessions}
            assert len(agents) == 1
            halves |= agents
            assert apply_all(store, [rename])[0].affected == len(KEYS)
            assert len(store.sessions(agent="new").sessions) == len(KEYS)
    assert halves == {"old", "new"}


class Scene:
    """A store with some content, the next group, and what may be seen of it when."""

    def __init__(self, directory: Path, group: list[Operation]) -> None:
        self.directory = directory
        self.group = group
        self.clock = Clock()
        self.is_time_exact = True
        with self.open() as store:
            setting = before()
            apply_all(store, setting)
        model = Model()
        model.apply(setting, self.clock.now)
        self.clock.advance(seconds=1)
        self.states: list[State] = [model.state(KEYS)]
        self.outcomes = []
        for operation in group:
            self.outcomes += model.apply([operation], self.clock.now)
            self.states.append(model.state(KEYS))

    def open(self) -> StoreUnderTest:
        return open_tested(f"jsonl://{self.directory}", clock=self.clock)

    def killed_at(self, step: int) -> bool:
        """Apply the group in a process that dies at its `step`th call; whether it got that far."""
        # Killed between a write and the setting of its time, a file has the kernel's.
        self.is_time_exact = False
        with self.open() as store:
            return killed_at(step, lambda: store.apply(self.group))

    def fails_at(self, store: StoreUnderTest, step: int) -> bool:
        """Apply the group while the `step`th call fails; whether it got that far."""
        try:
            with failing(step):
                store.apply(self.group)
        except StoreUnavailableError:
            return True
        return False

    def check_all_or_nothing(self, store: StoreUnderTest) -> None:
        """The store is as it was before the group or as it is after it."""
        seen = _without_times(state_of(store, KEYS))
        assert seen in [_without_times(self.states[0]), _without_times(self.states[-1])]

    def check_end(self, store: StoreUnderTest) -> None:
        for _ in range(2):
            outcomes = apply_all(store, self.group)
            assert [outcome.affected for outcome in outcomes] == [
                outcome.affected for outcome in self.outcomes
            ]
            self._check_state(store)
        assert all(outcome.duplicate for outcome in outcomes)
        finish(store.compact(1_000))
        assert store.verify() == []
        self._check_state(store)
        assert all(outcome.duplicate for outcome in apply_all(store, self.group))

    def _check_state(self, store: StoreUnderTest) -> None:
        seen, expected = state_of(store, KEYS), self.states[-1]
        if not self.is_time_exact:
            seen, expected = _without_activity(seen), _without_activity(expected)
        assert seen == expected


def _without_activity(state: State) -> State:
    return {
        key: (messages, info and replace(info, last_activity=info.created_at))
        for key, (messages, info) in state.items()
    }


def _without_times(state: State) -> Any:
    return {
        key: (messages, info and (info.name, info.agent, len(messages)))
        for key, (messages, info) in state.items()
    }
