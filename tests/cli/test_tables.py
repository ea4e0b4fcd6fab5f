"""Tables on terminals of any width: no key and no name of a file is ever cut."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis

from backscroll import ChatMessage
from backscroll_worker.cli.output import cell, table
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import done, in_terminal, run, without_styles
from tests.processes import running_worker

KEY = "discord/chinese:" + "a_key_that_is_far_longer_than_the_column_it_gets" * 2


def first_column(shown: str) -> str:
    """What stands there, in one piece; or all of it, where it is no table."""
    lines = without_styles(shown).splitlines()
    header = next((line for line in lines if line.startswith("session")), None)
    if header is None:
        return "\n".join(lines)
    width = re.split(r"(?<=session) +", header, maxsplit=1)[1]
    return "".join(line[: header.index(width)].strip() for line in lines)


@pytest.mark.parametrize("columns", [0, 20, 40, 60, 80, 120])
@pytest.mark.parametrize(
    "name", [None, "a name of several words, one of them extraordinarily-long"]
)
def test_a_sessions_key_is_whole_however_narrow_the_terminal(
    settings: Settings, columns: int, name: str | None
) -> None:
    with open_tested(settings.store) as store:
        store.append(KEY, ChatMessage.user("hello"))
        store.describe(KEY, name=name)
    code, shown = in_terminal(settings, "sessions", columns=columns)
    assert code == 0
    assert "…" not in shown
    assert KEY in first_column(shown)


def test_at_40_columns_a_key_is_in_one_piece(settings: Settings) -> None:
    with open_tested(settings.store) as store:
        store.append(KEY, ChatMessage.user("hello"))
        store.describe(KEY, name="Trip to Italy", pinned=True)
    shown = without_styles(in_terminal(settings, "sessions", columns=40)[1])
    assert KEY in shown.splitlines()
    assert "  Trip to Italy  messages 1  20" in shown
    assert "pinned" in shown


def test_columns_with_nothing_in_them_take_no_room(settings: Settings) -> None:
    with open_tested(settings.store) as store:
        store.append("k", ChatMessage.user("hello"))
    header, row = done(settings, "sessions").splitlines()
    assert header.split() == ["session", "messages", "last", "activity"]
    assert row.split()[:2] == ["k", "1"]
    with open_tested(settings.store) as store:
        store.describe("k", name="Trip", pinned=True)
    header, row = done(settings, "sessions").splitlines()
    assert header.split() == ["session", "name", "messages", "last", "activity"]
    assert row.split()[-1] == "pinned"


def test_a_table_of_nothing_has_no_columns() -> None:
    assert table(("a", "b"), [(cell(""), "")]).columns == []


def test_what_a_cleanup_would_take_is_named_whole(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    with open_tested(settings.store) as store:
        store.append(KEY, ChatMessage.user("hello"))
    asked = ("cleanup", "--ttl-hours", "0", "--dry-run")
    with running_worker(settings, client, log):
        assert KEY in done(settings, *asked)
        for columns in (40, 80):
            assert KEY in first_column(in_terminal(settings, *asked, columns=columns)[1])


@pytest.mark.parametrize("columns", [40, 80])
def test_the_file_of_a_finding_is_named_whole(
    settings: Settings, tmp_path: Path, columns: int
) -> None:
    jsonl = settings.with_options(store=f"jsonl://{tmp_path / 'sessions'}")
    with open_tested(jsonl.store) as store:
        store.append(KEY, ChatMessage.user("hello"))
    (path,) = (tmp_path / "sessions").glob("discord*.jsonl")
    path.write_bytes(b"no message\n" + path.read_bytes())
    assert f"{path.name}:1" in run(jsonl, "check").stdout
    shown = without_styles(in_terminal(jsonl, "check", columns=columns)[1])
    assert "…" not in shown
    assert all(len(line) <= columns for line in shown.splitlines())
