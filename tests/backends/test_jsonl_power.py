"""JSONL sessions survive a power cut at every single step: all that was acknowledged is there."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from backscroll.contract.errors import StoreUnavailableError
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Operation
from backscroll_worker.contract.pacing import finish
from backscroll_worker.stores.jsonl import writer
from backscroll_worker.testing.model import Model, State, state_of
from backscroll_worker.testing.stores import Clock, StoreUnderTest, apply_all, open_tested, requests
from tests.backends.power import Disk, PowerCutError, disk_of

KEYS = ("s", "t", "a/b", "u", "v", "w")
VARIANTS = 2

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small_journals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals that are full after a few groups, and are emptied one or two files at a time."""
    monkeypatch.setattr(writer, "JOURNAL_BYTES", 2_000)
    monkeypatch.setattr(writer, "FILES_PER_STEP", 2)


def say(key: str, *texts: str) -> Operation:
    return requests.append(key, tuple(ChatMessage.user(text) for text in texts), None)


def groups() -> list[list[Operation]]:
    """Appends to many, then all the rest; some files are written in every journal."""
    appends = [
        [say(key, f"{key}{number}", "x" * 80) for key in KEYS[: 2 + number % 4]]
        for number in range(5)
    ]
    return [
        *appends,
        [requests.rollback("s", None), say("t", "after")],
        [say("s", "back"), requests.describe("t", {"agent": "old", "name": "T"})],
        [requests.replace("t", ChatMessage.user("T"), None), requests.rollback("s", None)],
        [requests.delete("a/b"), say("s", "on"), requests.rename_agent("old", "new")],
        [say("a/b", "again", "and again"), requests.clear("s"), say("s", "anew")],
        [requests.delete("s"), say("t", "last"), say("a/b", "z" * 900)],
        [say("t", "x" * 900), say("s", "once more")],
        [say("t", "y"), say("a/b", "y"), say("u", "y")],
    ]


class Story:
    """The groups in order, and the store's content after each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.groups = groups()
        self.acknowledged = 0
        self._clock = Clock()
        self._opened: list[StoreUnderTest] = []
        model = Model()
        self._states: list[State] = [model.state(KEYS)]
        for number, group in enumerate(self.groups):
            model.apply(group, self._clock.now + number)
            self._states.append(model.state(KEYS))

    def open(self, directory: Path | None = None) -> StoreUnderTest:
        store = open_tested(f"jsonl://{directory or self.directory}", clock=self._now)
        self._opened.append(store)
        return store

    def close(self) -> None:
        """Close the files of stores whose process the power cut has ended, too."""
        for store in self._opened:
            with suppress(StoreUnavailableError):
                store.close()

    def apply_rest(self, store: StoreUnderTest) -> None:
        """Apply the groups that were not acknowledged; a failing disk is tried again."""
        while self.acknowledged < len(self.groups):
            try:
                apply_all(store, self.groups[self.acknowledged])
            except StoreUnavailableError:
                self._check(store)
            else:
                self.acknowledged += 1

    def check_after_cut(self, directory: Path, number: int) -> None:
        """Everything acknowledged is there; the group under way is there whole or not at all.

        After every third cut all is sent again, too.
        """
        acknowledged = self.acknowledged
        with self.open(directory) as store:
            self._check(store)
            self.apply_rest(store)
            assert _plain(state_of(store, KEYS)) == _plain(self._states[-1])
            assert store.verify() == []
        assert not list(directory.glob(".*.edited*")) + list(directory.glob(".journal*"))
        if number % 3 == 0:
            self._send_again(directory)
        self.acknowledged = acknowledged

    def _send_again(self, directory: Path) -> None:
        with self.open(directory) as store:
            for group in self.groups:
                assert all(outcome.duplicate for outcome in apply_all(store, group))
            finish(store.compact(1_000))
            assert _plain(state_of(store, KEYS)) == _plain(self._states[-1])

    def _check(self, store: StoreUnderTest) -> None:
        states = self._states[self.acknowledged : self.acknowledged + 2]
        assert _plain(state_of(store, KEYS)) in [_plain(state) for state in states]

    def _now(self) -> int:
        return self._clock.now + self.acknowledged


def _plain(state: State) -> State:
    """Times told apart by microseconds belong to the group they were given by, but created_at
    of a group that is sent again is that of the second time."""
    return {
        key: (messages, info and replace(info, created_at=info.last_activity))
        for key, (messages, info) in state.items()
    }


def steps() -> Iterator[int]:
    return itertools.count()


def test_a_power_cut_at_any_step_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    for step in steps():
        story = Story(tmp_path / f"{step}")
        story.directory.mkdir()
        with closing(story), disk_of(story.directory) as disk:
            if not _cut_at(story, disk, step):
                break
            for variant in range(VARIANTS):
                found = tmp_path / f"{step}-{variant}"
                disk.after_power_cut(found, random.Random(1_000 * step + variant))
                story.check_after_cut(found, step + variant)
    assert step > 150


def test_a_power_cut_during_recovery_loses_nothing_either(tmp_path: Path) -> None:
    for first in range(12, 180, 24):
        story = Story(tmp_path / f"{first}")
        story.directory.mkdir()
        found = tmp_path / f"{first} cut"
        with disk_of(story.directory) as disk:
            assert _cut_at(story, disk, first)
            disk.after_power_cut(found, random.Random(first))
        with closing(story):
            _cut_the_recovery_at_any_step(story, found, first)


def _cut_the_recovery_at_any_step(story: Story, found: Path, seed: int) -> None:
    for step in steps():
        chance = random.Random(1_000 * seed + step)
        again, end = (found.with_name(f"{seed} {step}{word}") for word in ("", " cut"))
        with disk_of(found) as disk:
            disk.after_power_cut(again, chance)  # a copy: all of it is durable
        with disk_of(again) as disk:
            try:
                with disk.watching(stop_at=step):
                    story.open(again).close()
            except PowerCutError:
                disk.after_power_cut(end, chance)
            else:
                return
        story.check_after_cut(end, step)


def test_an_io_error_at_any_step_and_then_a_power_cut_lose_nothing(tmp_path: Path) -> None:
    """Above all: what a failed sync dropped is written again, though the kernel shows it."""
    for step in steps():
        story = Story(tmp_path / f"{step}")
        story.directory.mkdir()
        with closing(story), disk_of(story.directory) as disk:
            store = story.open()
            with disk.watching(fail_at=step) as calls:
                story.apply_rest(store)
            _let_go(store)
            if len(calls) <= step:
                break
            found = tmp_path / f"{step} cut"
            disk.after_power_cut(found, random.Random(step))
            story.check_after_cut(found, step)
    assert step > 150


def _cut_at(story: Story, disk: Disk, step: int) -> bool:
    """Run the story until the power is cut; returns whether it got that far."""
    store = story.open()
    try:
        with disk.watching(stop_at=step):
            story.apply_rest(store)
            store.close()
    except PowerCutError:
        _let_go(store)
        return True
    return False


def _let_go(store: StoreUnderTest) -> None:
    """Close its files without a write, as the end of its process does."""
    store._writer.shut_down()
    store._release()
