"""An index that older folding rules have made keeps finding, and is made anew a slice at a time."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from backscroll.contract.messages import ChatMessage
from backscroll_worker.contract.pacing import Pace, finish
from backscroll_worker.stores.search.text import FOLDING, formerly_folded
from backscroll_worker.stores.sqlite import folding
from backscroll_worker.testing.stores import StoreUnderTest, found, open_tested, say

SAID = ("カタカナ の話", "हिन्दी में", "ёлка и мяч", "Łódź -Łask", "plain text", "๑๒๓ บาท")
AS_TYPED = ("カタカナ", "हिन्दी", "ёлка", "łódź OR nothing", "plain", "๑๒๓", '"हिन्दी में"', "カタカ*")
OTHERWISE = ("かたかな", "हिंदी", "елка", "lodz", "123")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store as the version before left it."""
    path = tmp_path / "store.db"
    with open_tested(f"sqlite://{path}") as store:
        for number in range(5):
            say(store, f"s{number}", *SAID)
            store.describe(f"s{number}", name="ネコ")
    _fold_formerly(path)
    return path


def _fold_formerly(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        connection.create_scalar_function("formerly_folded", _formerly_folded, 1)
        for statement in (
            "DELETE FROM message_index",
            "INSERT INTO message_index(rowid, text)"
            " SELECT id, formerly_folded(content) FROM messages",
            "DELETE FROM name_index",
            "INSERT INTO name_index(rowid, name) SELECT id, formerly_folded(name) FROM sessions",
        ):
            connection.execute(statement)
        connection.execute("UPDATE folding SET version = ?", (FOLDING - 1,))


def _formerly_folded(*texts: Any) -> str:
    return formerly_folded(*texts)


def _finds(store: StoreUnderTest, *queries: str) -> bool:
    return all(len(store.search(query, limit=100)) >= 5 for query in queries)


def _is_rebuilt(store: StoreUnderTest) -> bool:
    return not store.verify(deep=True)


@pytest.mark.parametrize("read_only", [True, False])
def test_an_older_index_finds_what_was_typed(path: Path, read_only: bool) -> None:
    with open_tested(f"sqlite://{path}", read_only=read_only) as store:
        assert _finds(store, *AS_TYPED)
        for by_session in (True, False):
            hits = store.search("カタカナ -plain", by_session=by_session)
            assert {hit.highlighted() for hit in hits} == {"[カタカナ] の話"}
        assert len(store.sessions(name="ネ").sessions) == 5
        assert store.search("plain -łask").excluded == ("lask",)
        assert not store.search("łódź -łask")


def test_the_worker_rebuilds_an_older_index_while_it_is_idle(path: Path) -> None:
    with open_tested(f"sqlite://{path}") as store:
        assert not _finds(store, *OTHERWISE)
        say(store, "new", *SAID)
        while store.maintain_while_idle():
            assert _finds(store, *AS_TYPED)
        assert _finds(store, *AS_TYPED, *OTHERWISE)
        assert len(store.sessions(name="ねこ").sessions) == 5
        assert _is_rebuilt(store)
        assert not store.maintain_while_idle()


class FourRows(Pace):
    """Always four rows in a slice."""

    def __init__(self, amount: int, most: int) -> None:
        super().__init__(min(amount, 4), min(most, 4), 4)


@pytest.mark.parametrize("version", [FOLDING - 1, 1, None])
def test_a_compaction_rebuilds_an_older_index(path: Path, version: int | None) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        if version is None:
            connection.execute("DROP TABLE folding")
        else:
            connection.execute("UPDATE folding SET version = ?", (version,))
    with open_tested(f"sqlite://{path}") as store:
        finish(store.compact(1.0))
        assert _is_rebuilt(store)
        assert _finds(store, *AS_TYPED, *OTHERWISE)


def test_rebuilding_goes_on_wherever_it_was_stopped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "Pace", FourRows)
    for number in range(30):
        with open_tested(f"sqlite://{path}") as store:
            is_left = store.maintain_while_idle()
            say(store, f"later{number}", SAID[number % 6])
            store.replace("s0", ChatMessage.user(SAID[-1]))
            assert _finds(store, *AS_TYPED)
            if not is_left:
                break
    else:
        pytest.fail("it never ends")
    with open_tested(f"sqlite://{path}") as store:
        assert _is_rebuilt(store)
        assert found(store, "lodz") == {SAID[3]}
