"""How far SQLite looks for what a listing's filter lets pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from backscroll.contract.messages import ChatMessage
from backscroll_worker.stores.sqlite import bound
from backscroll_worker.testing.conformance.message_listing import listed
from backscroll_worker.testing.stores import open_tested, say


def test_a_page_of_a_listing_ends_at_the_bound_and_its_cursor_leads_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bound, "MOST", 5)
    with open_tested(f"sqlite://{tmp_path / 'store.db'}") as store:
        store.append("s", ChatMessage("tool", "first"))
        say(store, "s", *map(str, range(17)))
        page = store.search("", role="tool")
        assert not page
        assert page.cursor is not None
        assert listed(store, role="tool") == "first"


def test_the_messages_of_an_author_are_found_by_their_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bound, "MOST", 5)
    with open_tested(f"sqlite://{tmp_path / 'store.db'}") as store:
        store.append("s", ChatMessage.user("first", author="42"))
        say(store, "s", *map(str, range(17)))
        page = store.search("", author="42")
        assert [hit.message.content for hit in page] == ["first"]
        assert page.cursor is None
