"""What every store promises of its totals: they are right, and cost little to be asked again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backscroll.contract.messages import ChatMessage
from backscroll_worker.contract.findings import Totals
from backscroll_worker.contract.pacing import finish
from backscroll_worker.ops.stats import StoreReader
from backscroll_worker.testing.stores import HOUR, Clock, StoreUnderTest, open_tested, say


def bytes_read(act: Callable[[], object]) -> int:
    """How much this process reads from files meanwhile, whether or not the kernel has it."""

    def so_far() -> int:
        fields = Path("/proc/self/io").read_text().split()
        return int(fields[fields.index("rchar:") + 1])

    before = so_far()
    act()
    return so_far() - before


def fill(store: StoreUnderTest, sessions: int, message_bytes: int = 10) -> None:
    for number in range(sessions):
        text = f"{number} " + "x" * message_bytes
        store.append(f"k{number}", ChatMessage.user(text), ChatMessage.user(text))


def counted(store: StoreUnderTest) -> tuple[int, int]:
    totals = store.totals()
    return totals.sessions, totals.messages


def test_an_empty_store_has_nothing(store: StoreUnderTest) -> None:
    totals = store.totals()
    assert totals == Totals(0, 0, store.size_bytes(), None, None)


@pytest.mark.needs("erasure")
def test_totals_follow_every_operation(store: StoreUnderTest, url: str) -> None:
    with open_tested(url, read_only=True) as reader:
        for act, expected in (
            (lambda: say(store, "a", "1", "2", "3"), (1, 3)),
            (lambda: store.append("b", *[ChatMessage.user("x")] * 3), (2, 6)),
            (lambda: store.remove_last("a"), (2, 5)),
            (lambda: store.replace("a", ChatMessage.user("longer than it was")), (2, 5)),
            (lambda: store.describe("c", pinned=True), (3, 5)),
            (lambda: say(store, "a", "4"), (3, 6)),
            (lambda: store.clear("b"), (3, 3)),
            (lambda: store.delete("b"), (2, 3)),
            (lambda: finish(store.erase(key="a")), (1, 0)),
        ):
            act()
            assert counted(reader) == counted(store) == expected


def test_totals_know_the_oldest_and_the_newest_activity(
    store: StoreUnderTest, clock: Clock
) -> None:
    first = clock.now
    say(store, "old", "1")
    clock.advance(hours=5)
    say(store, "new", "2")
    totals = store.totals()
    assert (totals.oldest_activity, totals.newest_activity) == (first, first + 5 * HOUR)
    assert totals.size_bytes == store.size_bytes() > 0


@pytest.mark.needs("files")
def test_a_poll_reads_none_of_the_messages(store: StoreUnderTest, url: str) -> None:
    fill(store, 40, message_bytes=50_000)
    with StoreReader(url) as reader:
        assert reader.read() is not None
        size = store.size_bytes()
        assert bytes_read(reader.read) < size / 50
        say(store, "k7", "one more")
        assert bytes_read(reader.read) < size / 50
        found = reader.read()
    assert found is not None
    assert (found.sessions, found.messages) == (40, 81)


@pytest.mark.needs("files")
def test_a_poll_finds_another_store_in_the_place_of_the_first(
    tmp_path: Path, url: str, store: StoreUnderTest
) -> None:
    fill(store, 3)
    place = Path(url.split("://")[1])
    with StoreReader(url) as reader:
        assert reader.read() is not None
        store.close()
        place.rename(tmp_path / "elsewhere")
        assert reader.read() is None
        with open_tested(url) as other:
            say(other, "k", "1")
            found = reader.read()
    assert found is not None
    assert (found.sessions, found.messages) == (1, 1)
