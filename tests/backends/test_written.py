"""What our stores do not write or look at, though they could."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw
import pytest

from backscroll.contract.messages import ChatMessage
from backscroll_worker.testing.conformance.session import HI, OF_ANN
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import Clock, StoreUnderTest, requests


def test_attributes_that_are_there_already_are_not_written(
    open_store: Open, url: str, clock: Clock
) -> None:
    with open_store() as store:
        store.append("s", HI, session=OF_ANN)
        before = written(url)
        clock.advance(seconds=1)
        for _ in range(3):
            store.append("s", HI, session=OF_ANN)
        assert written(url) == before
        store.describe("s", **OF_ANN)
        assert written(url) != before


def written(url: str) -> object:
    """What is another one whenever a name is written: the sidecar, or the index of names."""
    scheme, _, path = url.partition("://")
    if scheme == "jsonl":
        (sidecar,) = Path(path).glob("*.meta.json")
        return sidecar.stat().st_ino
    with closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        return connection.execute("SELECT id, block FROM name_index_data").fetchall()


@pytest.mark.parametrize("url_at", ["sqlite"], indirect=True)
def test_a_deep_check_takes_as_long_for_a_message_of_a_large_store(
    store: StoreUnderTest,
) -> None:
    """Steps of SQLite's machine for each message: asked word by word, they were thousands."""

    def steps() -> int:
        count = 0

        def step() -> bool:
            nonlocal count
            count += 1
            return False

        store._connection.set_progress_handler(step, 10)
        try:
            assert store.verify(deep=True) == []
        finally:
            store._connection.set_progress_handler(None)
        return 10 * count

    words = " ".join(f"word{number}" for number in range(200))

    def more(sessions: int) -> None:
        store.apply(
            [
                requests.append(f"k{n}", (ChatMessage.user(words),) * 10, None)
                for n in range(sessions)
            ]
        )

    more(5)
    few = steps()
    more(35)
    assert steps() < 12 * few
    assert few / 50 < 200 * 12  # twelve for each word
