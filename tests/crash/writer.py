"""An adapter that writes down what it asks for before it asks, and afterwards what it was told.

It asks for everything the contract has: in sessions of its own anything, in the shared ones only
what commutes with other writers' operations, so that its own part of them is determined. With
`is_mixed` it also erases, in sessions that are there for it, and asks for answers nobody waits for.
A line of the journal is `> op_id payload` (asked for), `+ op_id` (acknowledged), or `! words` (it
read something else than it had written).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from backscroll import (
    ConflictError,
    NotConfirmedError,
    Producer,
    QueueFullError,
    ServerRefusedError,
    ServerUnavailableError,
)
from backscroll.contract.codec import encode
from backscroll.contract.filters import SearchFilter
from backscroll.contract.lifecycle import DeleteSessions
from backscroll.contract.message_checks import Limits
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Append, Operation, Read, RenameAgent, Write
from backscroll.contract.requests import Requests
from backscroll.transport.acks import Ack
from backscroll_worker.testing.model import Model
from tests.crash.async_client import AsyncClient
from tests.crash.attached import attached
from tests.crash.conversations import SECRET, Conversations
from tests.crash.lifecycles import Lifecycles

SHARED_SESSIONS: Final = tuple(f"shared/{number}" for number in range(3))
_OWN_SESSIONS: Final = 4
_READ_EVERY: Final = 40
_LARGE_BYTES: Final = 4_000_000
"""What a server with low limits may refuse; the journal has it as asked for."""
_OF_MANY: Final = (RenameAgent, DeleteSessions)
_FILLERS: Final = ("", "x" * 10, "x" * 10, "x" * 200, "x" * 4_000)


class Stop(Protocol):
    """What ends a writer's work; a multiprocessing Event is one."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class WriterPlan:
    """Who writes where, and how. `patience` is how often a failed call is sent again.

    With a `spool`, what is in it counts as acknowledged.
    """

    name: str
    seed: int
    url: str
    journal: Path
    acks: tuple[Ack, ...] = ("queued",)
    operations_per_second: float = 0.0
    patience: int = 1_000
    reads: bool = False
    timeout_seconds: float = 5.0
    spool: Path | None = None
    is_async: bool = False
    is_mixed: bool = False
    fillers: tuple[str, ...] = _FILLERS


class Writer:
    """One adapter, one thread; see the module's docstring."""

    def __init__(self, plan: WriterPlan) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._requests = Requests(Limits())
        self._model = Model()
        drawn = self._requests, self._random, self._model
        self._conversations = Conversations(plan.name, *drawn)
        self._lifecycles = Lifecycles(*drawn)
        client = AsyncClient if plan.is_async else Producer
        self._producer = client(
            plan.url, retries=1, timeout_seconds=plan.timeout_seconds, spool=plan.spool
        )
        self._journal = plan.journal.open("ab", buffering=0)
        self._sent: list[Write] = []
        self._message_ids: dict[str, list[str]] = {}
        self._count = 0
        self._generation = 0
        self._name_sessions()

    def close(self) -> None:
        """Give connection and journal back, when the spool is empty."""
        self.wait_until_sent()
        self._producer.close()
        self._journal.close()

    @property
    def has_spool(self) -> bool:
        return self._plan.spool is not None

    def wait_until_sent(self) -> None:
        """Until nothing is left in the spool."""
        while self._producer.spooled:
            time.sleep(0.01)

    def read_back(self) -> None:
        """Compare each of its own sessions with what it wrote; a worker has to be there."""
        for key in self._own:
            self._read_back(key)

    def write(self, count: int) -> None:
        """Ask for `count` operations, one after the other."""
        for _ in range(count):
            self._ask(self._next_operation())

    def write_until(self, stop: Stop) -> None:
        """Write until told to stop, at most as fast as planned."""
        pace = self._plan.operations_per_second
        started, asked = time.monotonic(), 0
        while not stop.is_set():
            self._ask(self._next_operation())
            asked += 1
            if self._plan.reads and asked % _READ_EVERY == 0:
                self._read_back(self._random.choice(self._own))
            if pace and (ahead := asked / pace - (time.monotonic() - started)) > 0:
                time.sleep(min(ahead, 0.5))

    def _name_sessions(self) -> None:
        """Sessions that nobody has written to."""
        prefix = f"{self._plan.name}/{self._generation}/"
        self._own = [f"{prefix}{number}" for number in range(_OWN_SESSIONS)]
        self._lifecycles.prefix = prefix
        self._shared = list(SHARED_SESSIONS)

    def _ask(self, operation: Operation) -> None:
        """Send until it is acknowledged. Whoever gives up does not know what became of it."""
        if isinstance(operation, Read):
            self._producer.send(operation, "queued")
            return
        self._journal.write(b"> %b %b\n" % (operation.op_id.encode(), encode(operation)))
        if isinstance(operation, Write):
            self._sent.append(operation)
        ack = self._random.choice(self._plan.acks)
        for _ in range(self._plan.patience):
            try:
                with suppress(ConflictError):  # which is an answer, and follows from the journal
                    self._producer.send(operation, ack)
            except (ServerUnavailableError, NotConfirmedError):
                continue
            except QueueFullError:
                time.sleep(0.05)
            except ServerRefusedError:
                if len(encode(operation)) < _LARGE_BYTES:
                    raise
                return  # it is for the store to say that nothing came of it
            else:
                self._journal.write(b"+ %b\n" % operation.op_id.encode())
                self._model.apply([operation], now=1)
                return
        self._retire(operation)

    def _retire(self, operation: Operation) -> None:
        """An operation may come late that nobody waits for: nothing may follow it there."""
        key = getattr(operation, "key", None)
        if key in self._shared:
            self._shared.remove(key)
        else:
            self._generation += 1
            self._name_sessions()

    def _read_back(self, key: str) -> None:
        """An adapter reads its own writes."""
        try:
            seen = self._producer.load(key)
        except (ServerUnavailableError, NotConfirmedError):
            return
        ((expected, _),) = self._model.state([key]).values()
        if seen != expected:
            told = f"{key} has {_texts(seen)} instead of {_texts(expected)}"
            self._journal.write(b"! %b\n" % told.encode())

    def _next_operation(self) -> Operation:
        self._count += 1
        if self._plan.is_mixed and self._random.random() < 0.2:
            groups = self._conversations
            kinds = (
                self._read, self._erasable, self._erase, groups.in_a_group, groups.erase_author,
            )  # fmt: skip
            return self._random.choices(kinds, (4, 5, 1, 9, 2))[0]()
        if self._shared and self._random.random() < 0.25:
            return self._shared_operation(self._random.choice(self._shared))
        return self._own_operation(self._random.choice([*self._own, *self._lifecycles.aside()]))

    def _shared_operation(self, key: str) -> Write:
        dice = self._random.random()
        if dice < 0.8:
            return self._append(key)
        message_id = self._some_message(key, must_be_one=True)
        if dice < 0.9:
            return self._requests.rollback(key, message_id)
        return self._requests.replace(key, self._message("edited"), message_id)

    def _own_operation(self, key: str) -> Write:
        draw = self._random.choices(_OWN_OPERATIONS, _SHARES)[0]
        return draw(self, key)

    def _rollback(self, key: str) -> Write:
        return self._requests.rollback(key, self._some_message(key))

    def _rewind(self, key: str) -> Write:
        known = self._message_ids.get(key) or ["no-such-message"]
        return self._requests.rewind(key, self._random.choice(known[-3:]))

    def _pop(self, key: str) -> Write:
        known = tuple(self._message_ids.get(key, [])[-3:]) if self._random.random() < 0.3 else ()
        count = len(known) or self._random.choice((1, 1, 3))
        return self._requests.pop(key, count, known or None)

    def _splice(self, key: str) -> Write:
        known = (self._message_ids.get(key) or ["no-such-message"])[-4:]
        remove = self._random.choice((1, 2, "all", known, known[:1]))
        expect = self._random.choice((None, None, known[-1], known[-2:]))
        messages = self._batch(key) if self._random.random() < 0.7 else ()
        return self._note(self._requests.splice(key, messages, expect, remove))

    def _replace(self, key: str) -> Write:
        return self._requests.replace(key, self._message("edited"), self._some_message(key))

    def _set_state(self, key: str) -> Write:
        return self._requests.set_state(key, self._count)  # touches as many as its version

    def _describe(self, key: str) -> Write:
        return self._requests.describe(key, self._attributes())

    def _clear(self, key: str) -> Write:
        return self._requests.clear(key)

    def _delete(self, key: str) -> Write:
        return self._requests.delete(key)

    def _rename_agent(self, _key: str) -> Write:
        return self._requests.rename_agent(self._agent(), self._agent())

    def _live_on(self, key: str) -> Write:
        return self._lifecycles.draw(key) or self._append(key)

    def _backfill(self, key: str) -> Write:
        return self._note(self._conversations.backfill(key, self._batch(key)))

    def _append_batch(self, key: str) -> Write:
        return self._note(self._requests.append(key, self._batch(key)))

    def _change_by_platform_id(self, key: str) -> Write:
        return self._conversations.change(key, self._message("edited"))

    def _begin_turn(self, key: str) -> Write:
        return self._note(self._conversations.begin_turn(key, self._batch(key)))

    def _append_in_turn(self, key: str) -> Write:
        return self._note(self._conversations.append_in_turn(key, self._batch(key)))

    def _append_after(self, key: str) -> Write:
        tail = self._random.choice(["", *self._message_ids.get(key, [])[-2:]])
        return self._note(self._conversations.append_after(key, self._batch(key), tail))

    def _replace_in_turn(self, key: str) -> Write:
        message_id = self._some_message(key)
        return self._conversations.replace_in_turn(key, self._message("edited"), message_id)

    def _end_turn(self, key: str) -> Write:
        return self._conversations.end_turn(key, self._message_ids.get(key, []))

    def _batch(self, key: str) -> tuple[ChatMessage, ...]:
        messages = [self._message("said") for _ in range(self._random.choice((1, 1, 3)))]
        return self._conversations.batch(key, messages)

    def _append(self, key: str) -> Append:
        messages = tuple(self._message("said") for _ in range(self._random.choice((1, 1, 1, 3))))
        session: Any = None
        if key in self._own and self._random.random() < 0.25:
            session = self._attributes()
        return self._note(self._requests.append(key, messages, None, session))

    def _note(self, operation: Append) -> Append:
        self._message_ids.setdefault(operation.key, []).extend(operation.message_ids)
        return operation

    def _read(self) -> Operation:
        """Something that is carried out though nobody waits for its answer."""
        key, requests = self._random.choice(self._own), self._requests
        return self._random.choice(
            (
                requests.load(key, None, None),
                requests.session(key),
                requests.sessions({}, 1_000, None),
                requests.search("said OR edited", None, 1_000),
                requests.search("said", SearchFilter(key=key), 1_000),
                requests.search("x*", None, 1_000, by_session=True),
            )
        )

    def _erasable(self) -> Operation:
        return self._requests.append(self._erased_session(), (self._message(SECRET),), None)

    def _erase(self) -> Operation:
        return self._requests.erase(self._erased_session(), None, None)

    def _erased_session(self) -> str:
        return f"{self._plan.name}/erased/{self._random.randrange(3)}"

    def _again(self, key: str) -> Write:
        """A platform delivers something a second time."""
        recent = [
            sent
            for sent in self._sent[-50:]
            if getattr(sent, "key", None) in self._own or isinstance(sent, _OF_MANY)
        ]
        return self._random.choice(recent) if recent else self._append(key)

    def _message(self, verb: str) -> ChatMessage:
        filler = self._random.choice(self._plan.fillers)
        number = f"{verb}{self._plan.seed}n{self._count}z" if verb == SECRET else self._count
        text = f"{self._plan.name} {verb} {number} {filler}"
        make = self._random.choice((ChatMessage.user, ChatMessage.assistant))
        return make(text, attachments=attached(self._random, str(number), verb == SECRET))

    def _some_message(self, key: str, *, must_be_one: bool = False) -> str | None:
        """None is the last one; in a shared session that may be anybody's."""
        known = (self._message_ids.get(key) or ["no-such-message"])[-6:]
        return self._random.choice(known if must_be_one else [*known, None, None])

    def _agent(self) -> str:
        return f"{self._plan.name}/{self._generation}/{self._random.choice('abc')}"

    def _attributes(self) -> dict[str, Any]:
        return self._random.choice(
            (
                {"name": f"chat {self._count}"},
                {"agent": self._agent(), "channel": "web", "meta": {"count": self._count}},
                {"state": "running", "turn_id": f"turn {self._count}"},
                {"state": "idle", "pinned": self._random.random() < 0.5},
                {"ttl_hours": self._random.choice((0, 1e6, None))},
            )
        )


_OWN_SHARES: Final[dict[Callable[[Writer, str], Write], int]] = {
    Writer._append: 40,
    Writer._rollback: 8,
    Writer._rewind: 1,
    Writer._splice: 3,
    Writer._pop: 2,
    Writer._replace: 8,
    Writer._set_state: 2,
    Writer._describe: 3,
    Writer._clear: 2,
    Writer._delete: 2,
    Writer._rename_agent: 2,
    Writer._again: 6,
    Writer._append_batch: 10,
    Writer._change_by_platform_id: 8,
    Writer._begin_turn: 5,
    Writer._append_in_turn: 5,
    Writer._replace_in_turn: 3,
    Writer._end_turn: 4,
    Writer._append_after: 2,
    Writer._backfill: 4,
    Writer._live_on: 16,
}
"""What is done in a writer's own sessions, and how often. A new operation of the contract has its
line here or in `tests.crash.lifecycles`, and its case in `backscroll_worker.testing.model`, from
which follows what it must do.
"""
_OWN_OPERATIONS: Final = tuple(_OWN_SHARES)
_SHARES: Final = tuple(_OWN_SHARES.values())


def write_until(plan: WriterPlan, stop: Stop) -> None:
    """A writer's whole life, for a process of its own."""
    logging.basicConfig(filename=plan.journal.with_suffix(".log"), force=True)
    writer = Writer(plan)
    try:
        writer.write_until(stop)
    finally:
        writer.close()


def _texts(messages: list[ChatMessage]) -> list[str]:
    return [message.content[:30].strip() for message in messages]
