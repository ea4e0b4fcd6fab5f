"""A store beside the model, through arbitrary operations, groups and redelivery."""

from __future__ import annotations

import shutil
import tempfile
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from backscroll.contract.attachments import Attachment
from backscroll.contract.messages import ChatMessage, from_micros
from backscroll.contract.operations import Append, Replace, Write
from backscroll.contract.splicing import Pop
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.fixtures import UrlAt
from backscroll_worker.testing.model import Model, activity, state_of
from backscroll_worker.testing.stores import (
    HOUR,
    Clock,
    apply_all,
    open_tested,
    requests,
)

KEYS = ("s", "a/b", "🙂" * 200)
WORDS = ("apple", "pear", "日本", "語学", "été", "ete", "", "x\ny\0z")
AGENTS = ("ann", "bob")
PLATFORM_IDS = "pqrstu"

keys = st.sampled_from(KEYS)
texts = st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join)
attachments = st.lists(
    st.builds(Attachment, st.just("file"), data=st.none() | st.sampled_from([b"", b"cat", b"dog"])),
    max_size=2,
)
messages = st.builds(
    ChatMessage,
    st.sampled_from(["user", "tool"]),
    texts,
    platform_id=st.none() | st.sampled_from(PLATFORM_IDS),
    attachments=st.just(()) | attachments.map(tuple),
)
said = st.lists(messages, min_size=1, max_size=4)
attributes = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["one", None]),
        "agent": st.sampled_from([*AGENTS, None]),
        "state": st.sampled_from(["idle", "running", "error"]),
        "turn_id": st.just("turn"),
        "pinned": st.booleans(),
        "meta": st.dictionaries(st.sampled_from("ab"), st.sampled_from([1, True, "x", None])),
        "closed": st.booleans(),
        "ttl_hours": st.sampled_from([0, 0.5, 3, None]),
    },
).filter(bool)


class Operations(RuleBasedStateMachine):
    """Draws what adapters send, and redelivery; `take` says what becomes of each operation."""

    lease_seconds = 5_000, 10_000

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Write] = []
        self.message_ids = ["no-such-id"]
        self.turn_ids = ["turn"]

    @abstractmethod
    def take(self, operation: Write) -> None: ...

    def send(self, operation: Write) -> None:
        self.sent.append(operation)
        self.take(operation)

    @rule(
        key=keys,
        said=said,
        session=st.none() | attributes,
    )
    def append(self, key: str, said: list[ChatMessage], session: Any) -> None:
        operation = requests.append(key, tuple(said), None, session)
        self.message_ids += operation.message_ids
        self.send(operation)

    @rule(key=keys, data=st.data())
    def rollback(self, key: str, data: st.DataObject) -> None:
        self.send(requests.rollback(key, self._some_message(data)))

    @rule(key=keys, count=st.integers(1, 4))
    def pop(self, key: str, count: int) -> None:
        self.send(requests.pop(key, count))

    @rule(key=keys, platform_id=st.sampled_from(PLATFORM_IDS), edit=st.none() | messages)
    def change_by_platform_id(self, key: str, platform_id: str, edit: ChatMessage | None) -> None:
        if edit is None:
            self.send(requests.rollback(key, platform_id=platform_id))
        else:
            self.send(requests.replace(key, edit, platform_id=platform_id))

    @rule(key=keys, said=said, supersedes=st.booleans(), data=st.data())
    def begin_turn(
        self, key: str, said: list[ChatMessage], supersedes: bool, data: st.DataObject
    ) -> None:
        lease = data.draw(st.sampled_from(self.lease_seconds))
        operation = requests.begin_turn(
            key, tuple(said), lease_seconds=lease, supersedes=supersedes
        )
        self.message_ids += operation.message_ids
        self.turn_ids.append(operation.op_id)
        self.send(operation)

    @rule(key=keys, said=said, data=st.data())
    def append_under_a_condition(
        self, key: str, said: list[ChatMessage], data: st.DataObject
    ) -> None:
        tail = data.draw(st.none() | st.sampled_from(["", *self.message_ids[-4:]]))
        operation = requests.append(key, tuple(said), None, None, tail, self._some_turn(data))
        self.message_ids += operation.message_ids
        self.send(operation)

    @rule(
        key=keys,
        said=st.just([]) | said,
        session=st.none() | attributes,
        data=st.data(),
    )
    def splice(self, key: str, said: list[ChatMessage], session: Any, data: st.DataObject) -> None:
        some = st.lists(st.sampled_from(self.message_ids[-6:]), max_size=3)
        remove = data.draw(st.integers(0 if said else 1, 4) | st.just("all") | some.filter(bool))
        expect = data.draw(st.none() | some | st.sampled_from(["", *self.message_ids[-4:]]))
        operation = requests.splice(key, tuple(said), expect, remove, session)
        self.message_ids += operation.message_ids
        self.send(operation)

    @rule(
        key=keys,
        said=st.lists(st.tuples(messages, st.integers(0, 40)), min_size=1, max_size=5),
        ids=st.permutations(PLATFORM_IDS),
        session=st.none() | attributes,
    )
    def backfill(
        self, key: str, said: list[tuple[ChatMessage, int]], ids: list[str], session: Any
    ) -> None:
        earlier = tuple(
            replace(message, platform_id=id_, created_at=from_micros(Clock().now + hour * HOUR))
            for (message, hour), id_ in zip(said, ids, strict=False)
        )
        operation = requests.backfill(key, earlier, session)
        self.message_ids += operation.message_ids
        self.send(operation)

    @rule(key=keys, message=messages, data=st.data())
    def replace_in_a_turn(self, key: str, message: ChatMessage, data: st.DataObject) -> None:
        turn_id = self._some_turn(data)
        self.send(requests.replace(key, message, self._some_message(data), turn_id))

    @rule(key=keys, state=st.sampled_from(["idle", "error"]), data=st.data())
    def end_turn(self, key: str, state: Any, data: st.DataObject) -> None:
        remove = data.draw(st.lists(st.sampled_from(self.message_ids[-8:]), max_size=3))
        self.send(requests.end_turn(key, self._some_turn(data), state, tuple(remove)))

    @rule(key=keys, data=st.data())
    def rewind(self, key: str, data: st.DataObject) -> None:
        self.send(requests.rewind(key, data.draw(st.sampled_from(self.message_ids[-8:]))))

    @rule(keys=st.permutations(KEYS))
    def merge(self, keys: list[str]) -> None:
        self.send(requests.merge(*keys[:2]))

    @rule(key=keys)
    def reset(self, key: str) -> None:
        self.send(requests.reset(key))

    @rule(keys=st.permutations(KEYS))
    def rename(self, keys: list[str]) -> None:
        self.send(requests.rename(*keys[:2]))

    @rule(key=keys, message=messages, data=st.data())
    def replace(self, key: str, message: ChatMessage, data: st.DataObject) -> None:
        self.send(requests.replace(key, message, self._some_message(data)))

    @rule(key=keys, kind=st.sampled_from(["clear", "delete"]))
    def empty(self, key: str, kind: str) -> None:
        self.send(requests.clear(key) if kind == "clear" else requests.delete(key))

    @rule(key=keys, length=st.integers(1, 2))
    def delete_by_prefix(self, key: str, length: int) -> None:
        self.send(requests.delete(None, key[:length]))

    @rule(key=keys, given=attributes)
    def describe(self, key: str, given: dict[str, Any]) -> None:
        self.send(requests.describe(key, given))

    @rule(
        key=keys,
        value=st.sampled_from([None, 0, "x"]),
        name=st.sampled_from("ab"),
        expect=st.none() | st.integers(0, 2),
    )
    def set_state(self, key: str, value: Any, name: str, expect: int | None) -> None:
        self.send(requests.set_state(key, value, name, expect))

    @rule(old=st.sampled_from(AGENTS), new=st.sampled_from([*AGENTS, None]))
    def rename_agent(self, old: str, new: str | None) -> None:
        self.send(requests.rename_agent(old, new))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        self.take(data.draw(st.sampled_from(self.sent)))

    def _some_turn(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(self.turn_ids[-3:]))

    def _some_message(self, data: st.DataObject) -> str | None:
        return data.draw(st.none() | st.sampled_from(self.message_ids[-8:]))


class Beside(Operations):
    """Collects operations into groups and applies each group to both."""

    lease_seconds = 1, 5_000  # by this test's clock, which passes an hour at a time

    def __init__(self, url_at: UrlAt, lacking: frozenset[str]) -> None:
        super().__init__()
        self.url_at = url_at
        self.searches = "search" not in lacking
        self.attaches = "attachments" not in lacking

    @initialize()
    def open(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.model = Model()
        self.group: list[Write] = []
        self.store = open_tested(self.url_at(self.directory / "store"), clock=self.clock)

    def reopen(self) -> None:
        self.store.close()
        self.store = open_tested(self.url_at(self.directory / "store"), clock=self.clock)

    def teardown(self) -> None:
        self.commit(reopen=True)
        assert self.store.verify() == []
        self.store.close()
        shutil.rmtree(self.directory)

    def take(self, operation: Write) -> None:
        self.group.append(operation if self.attaches else _without_attachments(operation))

    @rule(key=keys, new_key=keys, text=texts, has_upto=st.booleans())
    def fork(self, key: str, new_key: str, text: str, has_upto: bool) -> None:
        """Fork what is there, as what is not is refused."""
        if self.group:
            self.commit(reopen=False)
        has_upto &= not self.model.is_closed(key)  # otherwise it is not appended
        said = requests.append(key, (ChatMessage.user(text),), None)
        self.send(said)
        if key != new_key:
            self.send(requests.fork(key, new_key, said.op_id if has_upto else None))

    @precondition(lambda self: self.group)
    @rule(reopen=st.booleans())
    def commit(self, reopen: bool) -> None:
        expected = self.model.apply(self.group, self.clock.now)
        given = apply_all(self.store, self.group)
        assert [replace(each, message_ids=None, messages=None) for each in given] == expected
        for operation, each in zip(self.group, given, strict=True):
            if each.messages or (isinstance(operation, Pop) and not each.duplicate):
                assert [*(each.messages or ())] == self.model.popped[operation.op_id]
        self.group = []
        if reopen:
            self.reopen()
        self.compare()

    @precondition(lambda self: self.sent and not self.group)
    @rule(first=st.integers(0, 30))
    def deliver_all_again(self, first: int) -> None:
        self.group = self.sent[first:]
        self.commit(reopen=False)

    @rule(micros=st.sampled_from([1, HOUR]))
    def time_passes(self, micros: int) -> None:
        if not self.group:
            self.clock.advance(micros=micros)

    @precondition(lambda self: not self.group)
    @rule()
    def compact(self) -> None:
        finish(self.store.compact(1_000))
        self.compare()

    @precondition(lambda self: not self.group)
    @rule(hours=st.sampled_from([1, 2]))
    def cleanup(self, hours: int) -> None:
        expected = self.model.cleanup(self.clock.now, hours)
        assert set(finish(self.store.cleanup(hours)).keys) == expected
        self.compare()

    def compare(self) -> None:
        store = self.store
        assert state_of(store, KEYS) == self.model.state(KEYS)
        for key in KEYS:
            assert store.states(key) == self.model.states(key)
        listed = store.sessions().sessions
        assert {info.key for info in listed} == set(self.model.sessions)
        assert [activity(info) for info in listed] == sorted(map(activity, listed), reverse=True)
        for query in ("apple", "日", "ete -pear", '"apple pear"') if self.searches else ():
            hits = {(hit.key, hit.message.content) for hit in store.search(query, limit=999)}
            assert hits == self.model.search(query)


def _without_attachments(operation: Write) -> Write:
    if isinstance(operation, Replace):
        return operation.changed(message=replace(operation.message, attachments=()))
    if not isinstance(operation, Append):
        return operation
    bare = [replace(each, attachments=()) for each in operation.messages]
    return operation.changed(messages=tuple(bare))


def test_a_store_is_as_the_model_says_whatever_is_applied(
    url_at: UrlAt, lacking: frozenset[str]
) -> None:
    run_state_machine_as_test(
        lambda: Beside(url_at, lacking),  # type: ignore[arg-type] # a factory does, too
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
