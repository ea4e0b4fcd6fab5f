"""What every store promises of an erasure: nothing is left, and nothing comes back."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from backscroll.contract.errors import StoreUnusableError
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import (
    Append,
    Clear,
    Delete,
    Describe,
    Erase,
    Operation,
    Replace,
    Rollback,
)
from backscroll.contract.results import ErasureReceipt
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    HOUR,
    Clock,
    StoreUnderTest,
    apply_all,
    contents,
    found,
    keys,
    open_tested,
    requests,
    say,
)

NEEDS = "erasure"

EARLY, LATE = 1_000, 3_000
ASKED = 2_000
_NUMBERS = iter(range(1, 10_000))


def op_id() -> str:
    """A fresh one, as old as the operations here say they are."""
    return f"000000000000{0x7000000000000000_8000 + next(_NUMBERS):020x}"


def erase(key: str | None = None, sender: str | None = None, room: str | None = None) -> Erase:
    return Erase(op_id(), ASKED, key, sender, room)


def append(key: str, text: str, at: int) -> Append:
    return Append(op_id(), at, key, (ChatMessage.user(text),))


def sha256(ids: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def files(store: StoreUnderTest) -> Iterator[Path]:
    """All that the store has on the disk."""
    path = store.store.path
    assert path is not None
    yield from path.iterdir() if path.is_dir() else path.parent.glob(f"{path.name}*")


def traces(store: StoreUnderTest, *words: str) -> set[tuple[str, str]]:
    """Where the words are to be found in the files, or in their names."""
    return {
        (file.name, word)
        for file in files(store)
        if file.is_file()
        for word in words
        if word.encode() in file.read_bytes() or word in file.name
    }


def _fill(store: StoreUnderTest) -> list[str]:
    """Sessions of zebra in a zoo, and one of somebody else; the ids of zebra's messages."""
    ids = []
    for key in ("z1", "z2"):
        store.describe(key, sender="zebra", room="zoo", name="Stripes", pinned=True)
        ids += say(store, key, *(f"quagga {number}" for number in range(30)))
    store.describe("other", sender="horse", room="farm")
    say(store, "other", "hay")
    return ids


@pytest.mark.needs("search")
@pytest.mark.parametrize("subject", [{"sender": "zebra"}, {"room": "zoo"}])
def test_an_erasure_takes_all_of_a_subject_pinned_or_not_and_nobody_elses(
    store: StoreUnderTest, clock: Clock, subject: dict[str, str]
) -> None:
    clock.now = time.time_ns() // 1000 + HOUR  # what is said here is of the real time
    ids = _fill(store)
    receipt = finish(store.erase(**subject))
    assert (receipt.sessions, receipt.messages, receipt.op_ids) == (2, 60, 60)
    assert receipt.messages_sha256 == sha256(ids)
    ((name, value),) = subject.items()
    assert (receipt.subject, receipt.subject_sha256) == (
        name,
        hashlib.sha256(f"{name}\0{value}".encode()).hexdigest(),
    )
    assert not receipt.log_is_held
    assert keys(store) == {"other"}
    assert contents(store, "other") == ["hay"]
    assert found(store, "quagga") == set()
    assert store.verify() == []


def test_an_erasure_of_one_session_leaves_the_senders_others(store: StoreUnderTest) -> None:
    ids = _fill(store)
    receipt = finish(store.erase(key="z1"))
    assert (receipt.sessions, receipt.messages) == (1, 30)
    assert receipt.messages_sha256 == sha256(ids[:30])
    assert keys(store) == {"z2", "other"}
    assert store.verify() == []


def test_erasing_nothing_gives_a_receipt_of_zeros(store: StoreUnderTest) -> None:
    say(store, "other", "hay")
    receipt = finish(store.erase(sender="nobody"))
    assert (receipt.sessions, receipt.messages, receipt.op_ids) == (0, 0, 0)
    assert receipt.messages_sha256 == sha256([])
    assert keys(store) == {"other"}


def _mixed(numbers: range) -> list[Operation]:
    """Zebra's operations among others', of every size."""
    chance, operations = random.Random(1), list[Operation]()
    for number in numbers:
        zebra, other = f"zebra{number % 7}", f"horse{number % 11}"
        said = append(zebra, f"quagga{number} " + "stripe " * chance.randint(1, 1_200), EARLY)
        attributes = {"sender": "zebrasender", "name": "Zebraname " * (number % 40 + 1)}
        operations += [
            append(other, "hay " * chance.randint(1, 1_500), EARLY),
            Describe(op_id(), EARLY, other, {"name": f"name {number}", "agent": "hay" * 90}),
            said,
            Describe(op_id(), EARLY, zebra, attributes),
        ]
        if number % 3 == 0:
            shorter = ChatMessage.user("quagga", tool="zebraextra" * (number % 30))
            operations.append(Replace(op_id(), EARLY, zebra, shorter, said.op_id))
        if number % 10 == 0:
            operations.append(Rollback(op_id(), EARLY, zebra, said.op_id))
        if number % 50 == 0:
            operations.append(Clear(op_id(), EARLY, zebra))
        if number % 90 == 0:
            operations.append(Delete(op_id(), EARLY, zebra))
    return operations


@pytest.mark.needs("files", "edits")
def test_no_file_has_a_word_of_it_whatever_became_of_the_messages(url: str, clock: Clock) -> None:
    words = ("quagga", "stripe", "zebra", "Zebraname", "zebraextra")
    with open_tested(url, clock=clock, keep_edits=True) as store:
        for start in range(0, 400, 10):
            apply_all(store, _mixed(range(start, start + 10)))
        assert {word for _, word in traces(store, *words)} == set(words)
        slices = store.erase(sender="zebrasender")
        for number, _ in enumerate(slices):  # with others writing meanwhile
            apply_all(store, [append(f"horse{number % 11}", "hay " * number, LATE)])
        assert traces(store, *words) == set()
        assert len(keys(store)) == 11
        assert store.verify(deep=True) == []
    assert traces(store, *words) == set()


def test_what_was_asked_for_before_and_arrives_later_is_dropped(store: StoreUnderTest) -> None:
    apply_all(store, [append("z", "said before", EARLY), erase(key="z")])
    late = [
        append("z", "late", EARLY),
        Replace(op_id(), EARLY, "z", ChatMessage.user("late")),
        Describe(op_id(), EARLY, "z", {"name": "late"}),
        Delete(op_id(), EARLY, "z"),
    ]
    assert [outcome.affected for outcome in apply_all(store, late)] == [0, 0, 0, 0]
    assert keys(store) == set()
    apply_all(store, [append("z", "said after", LATE), append("other", "late", EARLY)])
    assert contents(store, "z") == ["said after"]
    assert contents(store, "other") == ["late"]


@pytest.mark.parametrize("is_reopened", [False, True])
def test_the_sessions_of_an_erased_sender_keep_out_what_is_late_too(
    open_store: Open, is_reopened: bool
) -> None:
    store = open_store()
    store.describe("z", sender="zebra")
    say(store, "z", "said before")
    finish(store.store.erase(erase(sender="zebra")))
    if is_reopened:
        store.close()
        store = open_store()
    apply_all(store, [append("z", "late", ASKED)])
    assert keys(store) == set()


def test_a_late_description_names_the_sender_and_erases_what_came_before(
    store: StoreUnderTest,
) -> None:
    apply_all(store, [erase(sender="zebra")])
    apply_all(store, [append("z", "late", EARLY), append("y", "late", EARLY)])
    apply_all(store, [append("y", "said after", LATE)])
    tell = [Describe(op_id(), EARLY, key, {"sender": "zebra"}) for key in ("z", "y")]
    apply_all(store, tell)
    assert keys(store) == {"y"}
    assert contents(store, "y") == ["said after"]
    session = store.session("y")
    assert session is not None
    assert session.sender is None
    apply_all(store, [append("z", "later", EARLY)])
    assert keys(store) == {"y"}
    assert store.verify() == []


def test_an_erased_message_that_a_platform_redelivers_does_not_come_back(
    store: StoreUnderTest,
) -> None:
    store.append("z", ChatMessage.user("quagga"), dedup_key="update 1")
    receipt = finish(store.erase(key="z"))
    assert (receipt.messages, receipt.op_ids) == (1, 0)
    store.append("z", ChatMessage.user("quagga"), dedup_key="update 1")
    assert keys(store) == set()
    store.append("z", ChatMessage.user("new"), dedup_key="update 2")
    assert contents(store, "z") == ["new"]


@pytest.mark.needs("files")
def test_an_erasure_has_its_place_in_the_order(store: StoreUnderTest) -> None:
    operation = erase(sender="zebra")
    store.describe("z", sender="zebra")
    apply_all(
        store,
        [
            append("z", "before", EARLY),
            append("y", "before", EARLY),
            Describe(op_id(), EARLY, "y", {"sender": "zebra"}),
            operation,
            append("z", "after", LATE),
            Describe(op_id(), LATE, "y", {"sender": "zebra"}),
            append("y", "after", LATE),
        ],
    )
    assert {key: contents(store, key) for key in keys(store)} == {"z": ["after"], "y": ["after"]}
    receipt = finish(store.store.erase(operation))
    assert (receipt.sessions, receipt.messages) == (2, 2)
    assert {key: contents(store, key) for key in keys(store)} == {"z": ["after"], "y": ["after"]}
    assert traces(store, "before") == set()
    assert store.verify() == []


@pytest.mark.needs("files")
@pytest.mark.parametrize("slices", [0, 1, 2, 3, 5, 8])
def test_an_erasure_killed_half_way_goes_on_and_tells_of_all(open_store: Open, slices: int) -> None:
    store, ids = open_store(), []
    for number in range(40):
        store.describe(f"z{number}", sender="zebra")
        ids += say(store, f"z{number}", *("quagga" for _ in range(5)))
    operation = erase(sender="zebra")
    apply_all(store, [operation])
    under_way = store.store.erase(operation)
    for _ in range(slices):
        next(under_way, None)
    apply_all(store, [append("z1", "after", LATE)])
    store.close()  # and it is not told to finish
    store = open_store()
    receipt = finish(store.store.erase(operation))
    assert (receipt.sessions, receipt.messages) == (40, 200)
    assert receipt.messages_sha256 == sha256(ids)
    assert keys(store) == {"z1"}
    assert contents(store, "z1") == ["after"]
    assert traces(store, "quagga", "zebra") == set()
    assert store.verify() == []


def fresh(at: int) -> str:
    """An op id made at that time."""
    return f"{at // 1000:012x}{0x7000_8000_0000_0000_0000:020x}"


def test_what_an_erasure_by_a_slow_clock_took_does_not_come_back(
    store: StoreUnderTest, clock: Clock
) -> None:
    finish(store.store.erase(Erase(op_id(), clock.now, sender="zebra")))
    at = clock.now - 10_000_000
    said = Append(fresh(at), at, "z", (ChatMessage.user("quagga"),))
    apply_all(store, [said, Describe(op_id(), clock.now + 1, "z", {"sender": "zebra"})])
    finish(store.store.erase(Erase(op_id(), at - 10_000_000, sender="zebra")))
    apply_all(store, [said])
    assert keys(store) == set()


@pytest.mark.parametrize("subject", [{"key": "z"}, {"sender": "zebra"}])
def test_what_an_adapter_whose_clock_is_ahead_resends_does_not_come_back(
    store: StoreUnderTest, clock: Clock, subject: dict[str, str]
) -> None:
    at = clock.now + HOUR
    said = Append(fresh(at), at, "z", (ChatMessage.user("quagga"),), {"sender": "zebra"})
    apply_all(store, [said])
    finish(store.store.erase(Erase(op_id(), at + 1, **subject)))
    for _ in range(2):
        apply_all(store, [said])
        assert keys(store) == set()
        clock.advance(hours=2)


def test_a_finished_erasure_requested_again_only_returns_its_receipt(
    store: StoreUnderTest,
) -> None:
    _fill(store)
    operation = erase(key="z1")
    first = finish(store.store.erase(operation))
    apply_all(store, [append("z1", "after", LATE)])
    second = finish(store.store.erase(operation))
    assert (first.messages, first.messages_sha256) == (second.messages, second.messages_sha256)
    assert contents(store, "z1") == ["after"]


def test_a_tombstone_stays_for_as_long_as_op_ids_do(store: StoreUnderTest, clock: Clock) -> None:
    apply_all(store, [append("z", "quagga", EARLY), erase(key="z")])
    clock.advance(hours=4)
    finish(store.compact(5))
    apply_all(store, [append("z", "late", EARLY)])
    assert keys(store) == set()
    clock.advance(hours=2)
    finish(store.compact(5))
    apply_all(store, [append("z", "very late", EARLY)])
    assert contents(store, "z") == ["very late"]


def test_a_clock_that_is_ahead_shuts_nobody_out(store: StoreUnderTest, clock: Clock) -> None:
    ahead = Erase(op_id(), clock() + 3_600_000_000, "z")
    apply_all(store, [append("z", "before", EARLY), ahead])
    apply_all(store, [append("z", "after", clock() + 1)])
    assert contents(store, "z") == ["after"]


def test_a_store_open_for_reading_erases_nothing(store: StoreUnderTest) -> None:
    say(store, "z", "quagga")
    with (
        open_tested(store.url, read_only=True) as reader,
        pytest.raises(StoreUnusableError),
    ):
        finish(reader.erase(key="z"))
    assert contents(store, "z") == ["quagga"]


def test_two_erasures_of_one_session_share_it_out(store: StoreUnderTest) -> None:
    ids = _fill(store)
    by_key, by_sender = erase(key="z1"), erase(sender="zebra")
    apply_all(store, [by_key, by_sender])
    receipts: list[ErasureReceipt] = [
        finish(store.store.erase(operation)) for operation in (by_key, by_sender)
    ]
    assert [receipt.messages for receipt in receipts] == [30, 30]
    assert [receipt.messages_sha256 for receipt in receipts] == [sha256(ids[:30]), sha256(ids[30:])]
    assert requests.erase("z1", None, None).subject == ("key", "z1")
