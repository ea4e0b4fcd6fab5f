"""What only SQLite's erasure can get wrong: its record and its op id have times of their own."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.conformance.erasure import erase
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import HOUR, Clock, apply_all, say


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path / 'store'}"


def test_an_erasure_whose_record_is_forgotten_leaves_a_later_one_its_own(
    open_store: Open, clock: Clock
) -> None:
    store = open_store()
    for key, text in (("horse", "hay"), ("zebra", "quagga")):
        say(store, key, text)
    first, second = erase(key="horse"), erase(key="zebra")
    apply_all(store, [first])
    clock.advance(hours=1.5)  # its op id is recorded anew, as by a clock that was ahead
    with closing(apsw.Connection(str(store.path))) as connection:
        connection.execute("UPDATE applied SET applied_at = ?", (clock.now,))
    clock.advance(hours=1)
    finish(store.compact(2))
    apply_all(store, [second])
    assert finish(store.store.erase(first)).messages == 0
    assert finish(store.store.erase(second)).messages == 1


def test_an_erasure_by_a_clock_ahead_is_noted_no_later_than_all_else(
    open_store: Open, clock: Clock
) -> None:
    store = open_store()
    clock.advance(hours=5)
    say(store, "horse", "hay")
    latest = clock.now
    clock.advance(hours=-5)
    say(store, "zebra", "quagga")
    apply_all(store, [replace(erase(key="zebra"), at=latest + 5 * HOUR)])
    assert store.tombstones().of("key", "zebra") == (latest, latest)
