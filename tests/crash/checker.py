"""Compares server and store with the ledger, and names what is wrong with either.

The store is looked at first as it is. Then every operation is delivered once more: one that was
applied is recognised, and says what it touched; so it also comes out what became of those whose
acknowledgement was lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import redis

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.filters import SearchFilter
from backscroll.contract.messages import ChatMessage, SessionInfo
from backscroll.contract.operations import Write
from backscroll.contract.results import Outcome
from backscroll_worker.contract.turns import outcome
from backscroll_worker.testing.model import Model
from backscroll_worker.testing.stores import StoreUnderTest, open_tested
from tests.crash.conversations import is_group, word_of
from tests.crash.disk import SPARES
from tests.crash.ledger import Ledger, WriterRecord

QUEUE: Final = "rq:queue:backscroll"
IN_FLIGHT: Final = f"{QUEUE}:intermediate"
FAILED: Final = "rq:failed:backscroll"
FINISHED: Final = "rq:finished:backscroll"

_ATTRIBUTES: Final = (
    "name", "agent", "channel", "room", "sender", "state", "turn_id", "pinned",
    "meta", "closed", "forked_from", "forked_upto", "continued_from", "ttl_hours",
)  # fmt: skip
_A_GROUP: Final = 1_000

Loaded = dict[str, tuple[SessionInfo, list[ChatMessage]]]


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise: what kind, where, and what was seen.

    Kinds: lost, doubled, reordered, altered, index, damaged, left behind, failed job, stale read,
    ended (a process did as it should not).
    """

    kind: str
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.detail}"


def check_server(client: redis.Redis) -> list[Violation]:
    """Nothing waits, is in flight or has failed, and no job is left lying about."""
    found: list[Violation] = []
    for key, what in ((QUEUE, "queue"), (IN_FLIGHT, "intermediate list")):
        left: Any = client.lrange(key, 0, -1)
        if left:
            found.append(Violation("left behind", what, f"{len(left)} jobs"))
    failed: Any = client.zrange(FAILED, 0, -1)
    if failed:
        found.append(Violation("failed job", "failed registry", f"{len(failed)}: {failed[:3]}"))
    kept: Any = client.zrange(FINISHED, 0, -1)  # maintenance, for operators to look at
    known = {b"rq:job:" + job_id for job_id in (*kept, *failed)}
    hashes = [key for key in client.scan_iter("rq:job:*", count=1_000) if key not in known]
    if hashes:
        found.append(Violation("left behind", "job hashes", f"{len(hashes)}: {hashes[:3]}"))
    return found


def check_store(url: str, ledger: Ledger, *, prefix: bool = False) -> list[Violation]:
    """The store holds exactly what the ledger says, and would refuse all of it a second time.

    With `prefix`, of what was never acknowledged a first part is there and the rest is not; in a
    JSONL store that holds for each session.
    """
    with open_tested(url) as store:
        loaded = _load_all(store)
        states = {key: store.states(key) for key in loaded}
        found = [Violation("damaged", finding.where, finding.problem) for finding in store.verify()]
        found += _check_search(store, loaded)
        found += _check_attachments(store, loaded)
        applied = _applied_of(store, ledger.unsure)  # which changes the store
        found += _check_sessions(loaded, states, ledger, applied)
        if prefix:
            found += _check_prefix(ledger, applied, by_session=url.startswith("jsonl"))
        for writer in ledger.writers:
            found += _check_once(store, writer, applied)
            found += _check_erased(url, store, writer, loaded)
            found += [Violation("stale read", writer.name, what) for what in writer.complaints]
        return found


def _load_all(store: StoreUnderTest) -> Loaded:
    loaded: Loaded = {}
    cursor = None
    while True:
        page = store.sessions(limit=1_000, cursor=cursor)
        for info in page.sessions:
            loaded[info.key] = (info, store.load(info.key))
        cursor = page.cursor
        if cursor is None:
            return loaded


def _check_search(store: StoreUnderTest, loaded: Loaded) -> Iterator[Violation]:
    """In each session the words find exactly the messages that hold them."""
    for key, (_, messages) in loaded.items():
        for word in ("said", "edited"):
            found = sorted(_found(store, word, key))
            there = sorted(str(each.message_id) for each in messages if f" {word} " in each.content)
            if found != there:
                detail = f"{word!r} finds {len(found)} messages of {len(there)}"
                yield Violation("index", key, detail)


def _found(store: StoreUnderTest, word: str, key: str) -> Iterator[str]:
    """Page by page, as one ends early where messages are large."""
    cursor = None
    while True:
        page = store.search(word, SearchFilter(key=key), limit=1_000, cursor=cursor)
        yield from (str(hit.message.message_id) for hit in page)
        cursor = page.cursor
        if cursor is None:
            return


def _applied_of(store: StoreUnderTest, unsure: Sequence[Write]) -> set[str]:
    """The op ids of those that had been applied; from now on all of them are."""
    outcomes = store.apply(unsure) if unsure else []
    return {
        each.op_id
        for each, outcome in zip(unsure, outcomes, strict=True)
        if isinstance(outcome, Outcome) and outcome.duplicate
    }


def _check_prefix(ledger: Ledger, applied: set[str], *, by_session: bool) -> Iterator[Violation]:
    for writer in ledger.writers:
        missing: dict[str, Write] = {}
        for operation in writer.asked:
            session = str(getattr(operation, "key", "")) if by_session else ""
            if operation.op_id not in applied | writer.acknowledged:
                missing.setdefault(session, operation)
            elif session in missing:
                detail = f"{operation.op_id} is there, {missing[session].op_id} before it is not"
                yield Violation("reordered", f"{writer.name} {session}", detail)
                return


def _check_attachments(store: StoreUnderTest, loaded: Loaded) -> Iterator[Violation]:
    """The bytes of what messages have are there, and intact."""
    for key, (_, messages) in loaded.items():
        for sha256 in {each.sha256 for message in messages for each in message.attachments}:
            try:
                is_there = sha256 is None or store.attachment(key, sha256) is not None
            except OperationRefusedError as error:
                yield Violation("lost", key, str(error))
            else:
                if not is_there:
                    yield Violation("lost", key, f"what is attached as {sha256} cannot be read")


def _check_sessions(
    loaded: Loaded, states: Mapping[str, Any], ledger: Ledger, applied: set[str]
) -> Iterator[Violation]:
    writer_of = ledger.writer_of()
    expected: dict[str, Model] = {"": _given(ledger)}
    expected |= {writer.name: writer.model(applied)[0] for writer in ledger.writers}
    for name, model in expected.items():
        for key, session in model.sessions.items():
            if key not in loaded:
                yield Violation("lost", key, "there is no such session")
                continue
            info, messages = loaded[key]
            own = messages if not key.startswith("shared/") else _of(messages, name, writer_of)
            yield from _compare(key, session.messages, own)
            if not key.startswith("shared/"):
                yield from _compare_attributes(key, session.attributes, info)
                if states[key] != session.states:
                    yield Violation("altered", key, f"{states[key]} instead of {session.states}")
    keys = {key for model in expected.values() for key in model.sessions}
    for key, (info, messages) in loaded.items():
        if key not in keys:
            yield Violation("doubled", key, "nobody should have such a session (any more)")
        if info.message_count != len(messages):
            detail = f"{info.message_count} messages counted, {len(messages)} there"
            yield Violation("damaged", key, detail)
        strangers = [each for each in messages if _op_id(each) not in writer_of]
        if strangers and key.startswith("shared/"):
            yield Violation("doubled", key, f"{len(strangers)} messages nobody has sent")


def _given(ledger: Ledger) -> Model:
    """What was there before any writer, less what the cleanup takes away."""
    model = Model()
    model.apply([*ledger.pinned, *ledger.restored], now=1)
    return model


def _of(messages: list[ChatMessage], name: str, writer_of: dict[str, str]) -> list[ChatMessage]:
    return [each for each in messages if writer_of.get(_op_id(each)) == name]


def _op_id(message: ChatMessage) -> str:
    return str(message.message_id).partition("-")[0]


def _compare(
    key: str, expected: Sequence[ChatMessage], seen: Sequence[ChatMessage]
) -> Iterator[Violation]:
    if expected == seen:
        return
    wanted = [str(each.message_id) for each in expected]
    there = [str(each.message_id) for each in seen]
    detail = f"{len(there)} messages instead of {len(wanted)}"
    if missing := set(wanted) - set(there):
        yield Violation("lost", key, f"{detail}; the first missing is {min(missing)}")
    if len(set(there)) < len(there) or set(there) - set(wanted):
        yield Violation("doubled", key, f"{detail}; some are there twice, or should be gone")
    both = [each for each in wanted if each in there]
    if both != [each for each in there if each in wanted]:
        yield Violation("reordered", key, detail)
    contents = {each.message_id: each for each in expected}
    changed = [each for each in seen if contents.get(each.message_id, each) != each]
    if changed:
        first = changed[0]
        was = contents[first.message_id].content
        yield Violation("altered", key, f"{first.content[:40]!r} instead of {was[:40]!r}")


def _compare_attributes(
    key: str, attributes: dict[str, Any], info: SessionInfo
) -> Iterator[Violation]:
    defaults: dict[str, Any] = {"state": "idle", "pinned": False, "meta": {}, "closed": False}
    for name in _ATTRIBUTES:
        expected, seen = attributes.get(name, defaults.get(name)), getattr(info, name)
        if seen != expected:
            yield Violation("altered", key, f"{name} is {seen!r} instead of {expected!r}")


def _check_once(
    store: StoreUnderTest, writer: WriterRecord, applied: set[str]
) -> Iterator[Violation]:
    """Delivered again, each operation is known, and touched as much as it should have."""
    model, affected = writer.model(applied)
    done = [each for each in writer.asked if each.op_id in affected]
    for start in range(0, len(done), _A_GROUP):
        group = done[start : start + _A_GROUP]
        for operation, said in zip(group, store.apply(group), strict=True):
            where = f"{writer.name}, {operation.kind} {operation.op_id}"
            expected = outcome(affected[operation.op_id], duplicate=True)
            if not isinstance(said, Outcome) or not said.duplicate:
                yield Violation("doubled", where, f"delivered again it would be: {said}")
            elif replace(said, message_ids=None, messages=None) != expected:
                yield Violation("altered", where, f"{said} instead of {expected}")
            elif said.messages and [*said.messages] != model.popped[operation.op_id]:
                yield Violation("altered", where, "it returns other messages than it removed")


def _check_erased(
    url: str, store: StoreUnderTest, writer: WriterRecord, loaded: Loaded
) -> Iterator[Violation]:
    """No file has a word of it; what was asked for before and comes again changes nothing."""
    if not (writer.erased or writer.erased_authors):
        return
    place = Path(url.partition("://")[2])
    yield from _check_words(place, writer)
    again = [
        each
        for each in writer.asked
        if writer.is_erased(each) or (is_group(each) and writer.erased_authors)
    ]
    store.apply(again)
    for key in {*writer.erased, *(getattr(each, "key", "") for each in again)}:
        before = loaded[key][1] if key in loaded else []
        if store.load(key) != before or store.exists(key) != (key in loaded):
            yield Violation("doubled", key, "delivered again, what was erased comes back")
    yield from _check_words(place, writer)


def _check_words(place: Path, writer: WriterRecord) -> Iterator[Violation]:
    roots = [place] if place.is_dir() else place.parent.glob(f"{place.name}*")
    files = (file for root in roots for file in (root, *root.rglob("*")) if file.is_file())
    contents = b"".join(file.read_bytes() for file in files if SPARES not in str(file))
    for key, message in writer.erased_texts():
        if word_of(message).encode() in contents:
            yield Violation("left behind", key, f"{word_of(message)} was erased")
