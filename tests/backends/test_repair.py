"""Damage is found, mended as far as sound rows allow, and never made worse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from backscroll.contract.messages import ChatMessage
from backscroll_worker.stores import store_at
from backscroll_worker.testing.stores import StoreUnderTest, contents, found, keys, open_tested, say

Damage = Callable[[apsw.Connection], object]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A SQLite store with two sessions, one of them with a name."""
    path = tmp_path / "store.db"
    with open_tested(f"sqlite://{path}") as store:
        say(store, "a", *(f"apple {number}" for number in range(40)))
        say(store, "b", *(f"banana {number}" for number in range(40)))
        store.describe("a", name="Fruit")
    return path


def damage(path: Path, *statements: str) -> None:
    connection = apsw.Connection(str(path))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def repaired(store: StoreUnderTest, *, deep: bool = False) -> list[str]:
    """What a repair says, after which there is nothing left to find."""
    findings = store.verify(deep=deep)
    assert findings
    done: list[str] = store.repair(findings)
    assert store.verify(deep=True) == []
    return done


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ("DELETE FROM message_index WHERE rowid = 3", "index"),
        ("DELETE FROM messages WHERE id = 3", "index"),
        ("UPDATE messages SET content = 'cherry' WHERE id = 3", "index"),
        ("UPDATE message_index_data SET block = zeroblob(9) WHERE id > 1000", "index"),
        ("DELETE FROM name_index WHERE rowid = 1", "names"),
        ("UPDATE sessions SET message_count = 7 WHERE key = 'b'", "sessions"),
        ("INSERT INTO edits(message_id, role, content, replaced_at) VALUES (999, 'u', 'x', 1)",
         "edits"),
    ],
)  # fmt: skip
def test_indexes_and_counts_are_made_anew(path: Path, statement: str, where: str) -> None:
    damage(path, statement)
    with open_tested(f"sqlite://{path}") as store:
        findings = store.verify(deep=True)
        assert where in {finding.where for finding in findings}
        assert all("--repair" in finding.advice for finding in findings)
        assert repaired(store, deep=True)
        assert found(store, "banana") == {f"banana {number}" for number in range(40)}
        assert [info.message_count for info in store.sessions(name="fruit").sessions]


@pytest.mark.parametrize(
    "older", ["DROP TABLE folding", "UPDATE folding SET version = version - 1"]
)
def test_an_index_made_by_older_rules_is_reported_and_made_anew(path: Path, older: str) -> None:
    damage(
        path,
        older,
        "DELETE FROM message_index WHERE rowid = 1",
        "INSERT INTO message_index(rowid, text) VALUES (1, 'asitwasfolded 0')",
        "DELETE FROM name_index WHERE rowid = 1",
        "INSERT INTO name_index(rowid, name) VALUES (1, 'asitwasfolded')",
    )
    with open_tested(f"sqlite://{path}") as store:
        (finding,) = store.verify()
        assert finding.repairable
        assert "older rules" in finding.problem
        assert "check --repair" in finding.advice
        assert len(repaired(store)) == 2
        assert found(store, "apple") == {f"apple {number}" for number in range(40)}
        assert [info.key for info in store.sessions(name="fruit").sessions] == ["a"]


def test_a_wrong_word_in_the_index_is_found_in_a_sample_too(path: Path) -> None:
    damage(path, "UPDATE messages SET content = replace(content, 'banana', 'cherry')")
    with open_tested(f"sqlite://{path}", read_only=True) as reader:
        (finding,) = reader.verify()
    assert (finding.where, finding.problem[:2]) == ("index", "40")


def test_messages_without_a_session_get_one_again(path: Path) -> None:
    damage(path, "DELETE FROM sessions WHERE key = 'b'")
    with open_tested(f"sqlite://{path}") as store:
        (line,) = repaired(store)
        assert line.startswith("put 40 messages without a session into 1 new ones")
        (key,) = keys(store) - {"a"}
        assert contents(store, key) == [f"banana {number}" for number in range(40)]


def test_orphaned_messages_get_a_session_whatever_others_are_called(
    path: Path,
) -> None:
    with open_tested(f"sqlite://{path}") as store:
        for key in ("recovered/2", "recovered/2-2"):
            say(store, key, "mine")
    damage(path, "DELETE FROM sessions WHERE key = 'b'")
    with open_tested(f"sqlite://{path}") as store:
        repaired(store)
        assert contents(store, "recovered/2-3") == [f"banana {number}" for number in range(40)]
        assert contents(store, "recovered/2") == contents(store, "recovered/2-2") == ["mine"]


def test_a_table_index_that_lacks_an_entry_is_made_anew(path: Path) -> None:
    # A unique index without a row's entry: as a bug of SQLite or of a disk may leave it.
    damage(
        path,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = sql || ' WHERE id <> 3'"
        " WHERE name = 'messagerow_session_id'",
        "PRAGMA writable_schema = RESET",
        "REINDEX messagerow_session_id",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = replace(sql, ' WHERE id <> 3', '')"
        " WHERE name = 'messagerow_session_id'",
        "PRAGMA writable_schema = RESET",
    )
    with open_tested(f"sqlite://{path}") as store:
        assert "table index" in {finding.where for finding in store.verify()}
        assert any("indexes" in line for line in repaired(store))
        assert len(store.load("a")) == 40


def test_damaged_pages_are_said_plainly_and_nothing_is_touched(path: Path) -> None:
    connection = apsw.Connection(str(path))
    root = connection.execute(
        "SELECT pageno FROM dbstat WHERE name = 'messages' AND pagetype = 'leaf' LIMIT 1"
    ).get
    connection.close()
    assert isinstance(root, int)
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    with open_tested(f"sqlite://{path}") as store:
        findings = store.verify()
        assert findings
        assert any(
            "backup" in finding.advice and ".recover" in finding.advice for finding in findings
        )
        before = path.read_bytes()
        assert store.repair(findings) == []
    assert path.read_bytes() == before


@pytest.mark.parametrize("is_sound", [True, False])
def test_the_deep_look_tells_how_far_it_is(path: Path, is_sound: bool) -> None:
    if not is_sound:
        damage(path, "UPDATE messages SET content = content || ' pie'")
    seen: list[tuple[int, int]] = []
    with open_tested(f"sqlite://{path}", read_only=True) as reader:
        findings = reader.verify(deep=True, progress=lambda done, total: seen.append((done, total)))
    assert (findings == []) == is_sound
    assert seen[-1] == (80, 80)


def test_jsonl_what_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    url = f"jsonl://{tmp_path}"
    with open_tested(url) as store:
        store.describe("a", name="Fruit")
        say(store, "a", "one", "two")
        say(store, "b", "three")
        store.append("c", ChatMessage.user("four"))
    messages = tmp_path / "a.jsonl"
    first = messages.read_bytes().splitlines()[-1]
    messages.write_bytes(messages.read_bytes() + b"no json\n" + first + b"\n")
    (tmp_path / "b.meta.json").write_bytes(b"{")
    (tmp_path / "x%.jsonl").write_bytes(b"whose?\n")
    (tmp_path / "y.gone.json").write_bytes(b"[]")
    with open_tested(url) as store:
        done = repaired(store)
        assert sorted(done) == [
            "moved 2 lines of a.jsonl to a.jsonl.damaged",
            "moved b.meta.json to b.meta.json.damaged",
            "moved x%.jsonl to x%.jsonl.damaged",
            "moved y.gone.json to y.gone.json.damaged",
        ]
        assert contents(store, "a") == ["one", "two"]
        assert contents(store, "b") == ["three"]
        session = store.session("a")
        assert session is not None
        assert session.name == "Fruit"
    assert (tmp_path / "a.jsonl.damaged").read_bytes() == b"no json\n" + first + b"\n"
    assert store_at(url).path == tmp_path


def test_jsonl_what_cannot_be_read_is_set_aside_under_a_name_that_fits(tmp_path: Path) -> None:
    url, keys_of_all = f"jsonl://{tmp_path}", {"é" * 122, "a" * 240, "a" * 239 + "b"}
    with open_tested(url) as store:
        for key in keys_of_all:
            say(store, key, "one")
            store.describe(key, name="Fruit")
    for path in list(tmp_path.glob("*.json*")):
        path.write_bytes(path.read_bytes() + b"no json\n")
    (tmp_path / f"{'%' * 249}.jsonl").write_bytes(b"whose?\n")
    with open_tested(url) as store:
        assert repaired(store)
        assert keys(store) == keys_of_all
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("*.damaged"))
    assert kept.count(b"no json\n") == 6
    assert kept.count(b"whose?\n") == 1


def test_jsonl_what_was_set_aside_is_erased_with_its_session(tmp_path: Path) -> None:
    with open_tested(f"jsonl://{tmp_path}") as store:
        say(store, "a", "one")
        say(store, "b", "two")
        store.close()
    for name in ("a", "b"):
        with (tmp_path / f"{name}.jsonl").open("ab") as file:
            file.write(b'{"quagga\n')
        (tmp_path / f"{name}.jsonl.2.edited").write_bytes(b"quagga\n")
        (tmp_path / f"{name}.meta.json").write_bytes(b"{quagga")
    with open_tested(f"jsonl://{tmp_path}") as store:
        store.repair(store.verify())
        list(store.erase(key="a"))
    left = {file.name for file in tmp_path.iterdir() if b"quagga" in file.read_bytes()}
    assert left == {"b.jsonl.damaged", "b.jsonl.2.edited", "b.meta.json.damaged"}
    assert not [file.name for file in tmp_path.iterdir() if file.name.startswith("a.")]
