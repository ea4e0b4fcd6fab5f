"""Scrubbing changes no byte that means something, and leaves no deleted word in the file."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backscroll.contract.errors import StoreUnavailableError, StoreUnusableError
from backscroll_worker.contract.pacing import SliceClock, T, finish
from backscroll_worker.stores.sqlite import scrub as scrubbing
from backscroll_worker.stores.sqlite.access import Access
from backscroll_worker.stores.sqlite.scrub import scrub
from backscroll_worker.stores.sqlite.wal import WriteAheadLog
from backscroll_worker.testing.stores import open_tested, say
from tests.budget import tries

PAGE_SIZES: Final = (512, 1024, 2048, 4096, 8192, 65536)
SCHEMAS: Final[dict[str, str]] = {
    "rows": "CREATE TABLE t (id INTEGER PRIMARY KEY, word, size INT)",
    "indexed": "CREATE TABLE t (id INTEGER PRIMARY KEY, word, size INT);"
    "CREATE INDEX by_word ON t (word, size); CREATE INDEX by_size ON t (size) WHERE size > 100",
    "without rowid": "CREATE TABLE t (id, word, size INT, PRIMARY KEY (word, id)) WITHOUT ROWID",
    "searchable": "CREATE TABLE t (id INTEGER PRIMARY KEY, word, size INT);"
    "CREATE VIRTUAL TABLE found USING fts5(word, content='', contentless_delete=1)",
}


@st.composite
def sizes(draw: st.DrawFn, usable: int) -> int:
    """Sizes of a value, many of them about where a payload begins to overflow or fills a page."""
    chain = draw(st.integers(0, 3)) * (usable - 4)
    edge = draw(st.sampled_from((0, usable - 35, (usable - 12) * 64 // 255 - 23, usable - 4)))
    near = max(0, chain + edge + draw(st.integers(-30, 6)))
    return min(draw(st.one_of(st.just(near), st.integers(0, 300))), 100_000)


class Scribble:
    """A database in which words were written, replaced and deleted, and which of them are left."""

    def __init__(self, path: Path, page_size: int, reserved: int, mode: int, schema: str) -> None:
        self.connection = apsw.Connection(str(path))
        self.connection.execute(f"PRAGMA page_size = {page_size}")
        self.connection.reserve_bytes(reserve=reserved)
        self.connection.execute(f"PRAGMA auto_vacuum = {mode}")
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute(SCHEMAS[schema])
        self.is_searchable = schema == "searchable"
        self.words: dict[int, str] = {}
        self.gone: set[str] = set()
        self.count = 0

    def write(self, row: int, size: int) -> None:
        """Insert or replace a row."""
        self.delete(row)
        self.count += 1
        word = f"word{self.count:05d}x"
        self.words[row] = word
        text = (word * (size // len(word) + 1))[: max(size, len(word))]
        self.connection.execute("INSERT INTO t VALUES (?, ?, ?)", (row, text, size))
        if self.is_searchable:
            self.connection.execute("INSERT INTO found(rowid, word) VALUES (?, ?)", (row, word))

    def rewrite(self, row: int) -> None:
        """Replace a row by one of the same size, which SQLite may do in place."""
        self.connection.execute("UPDATE t SET word = word || '' WHERE id = ?", (row,))
        if not self.is_searchable:
            self.gone.add(old := self.words[row])
            self.count += 1
            self.words[row] = f"word{self.count:05d}x"
            self.connection.execute(
                "UPDATE t SET word = replace(word, ?, ?) WHERE id = ?", (old, self.words[row], row)
            )

    def delete(self, row: int) -> None:
        if row in self.words:
            self.gone.add(self.words.pop(row))
            self.connection.execute("DELETE FROM t WHERE id = ?", (row,))
            if self.is_searchable:
                self.connection.execute("DELETE FROM found WHERE rowid = ?", (row,))

    def settle(self) -> None:
        """An index has the words of deleted rows until its segments are merged."""
        if self.is_searchable:
            self.connection.execute("INSERT INTO found(found) VALUES ('optimize')")

    def access(self, path: Path) -> Access:
        @contextmanager
        def outside() -> Iterator[apsw.Connection]:
            yield self.connection

        log = WriteAheadLog(path, self.connection)
        return Access(outside, outside, outside, path, outside, log.watched, log.unbounded)

    def contents(self) -> list[Any]:
        """Every row of every table, those within indexes and shadow tables included."""
        names = self.connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE '%VIRTUAL%'"
        ).fetchall()
        return [
            self.connection.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608
            for (name,) in names
        ]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_row_changes_and_no_deleted_word_stays_whatever_was_written(data: st.DataObject) -> None:
    page_size = data.draw(st.sampled_from(PAGE_SIZES), "page size")
    reserved = data.draw(st.sampled_from((0, 0, 8, 32)), "reserved bytes")
    schema = data.draw(st.sampled_from(sorted(SCHEMAS)), "schema")
    mode = data.draw(st.sampled_from((1, 2, 2, 2)), "auto-vacuum")
    some_sizes = data.draw(st.lists(sizes(page_size - reserved), min_size=1, max_size=8), "sizes")
    steps = data.draw(st.integers(1, 80), "steps")
    seed = data.draw(st.integers(0, 2**32), "seed")
    _scribble_and_scrub(page_size, reserved, mode, schema, some_sizes, steps, seed)


def test_what_is_behind_a_short_entry_that_overflows_is_wiped() -> None:
    """With small pages, an index keeps even less of an entry than one byte's length says."""
    for seed in range(4):
        _scribble_and_scrub(512, 0, 2, "indexed", [0, 0, 0, 0, 96, 110], 31, seed)


def _scribble_and_scrub(
    page_size: int,
    reserved: int,
    mode: int,
    schema: str,
    some_sizes: list[int],
    steps: int,
    seed: int,
) -> None:
    choice = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "scribble.db")
        scribble = Scribble(path, page_size, reserved, mode, schema)
        with closing(scribble.connection):
            for _ in range(steps):
                _write_or_delete(scribble, choice, some_sizes)
            if choice.random() < 0.3:
                for row in list(scribble.words):
                    scribble.delete(row)
            scribble.settle()
            before = scribble.contents()
            assert finish(scrub(scribble.access(path), 5.0))
            assert scribble.contents() == before
            scribble.connection.execute("PRAGMA shrink_memory")
            found = scribble.connection.execute("PRAGMA integrity_check").fetchall()
            assert found == [("ok",)]
        with closing(apsw.Connection(str(path))) as anew:
            assert anew.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            texts = [text for (text,) in anew.execute("SELECT word FROM t")]
            assert sorted(text[:10] for text in texts) == sorted(scribble.words.values())
        held = path.read_bytes()
        assert [word for word in sorted(scribble.gone) if word.encode() in held] == []


class Meanwhile(NamedTuple):
    """What is written before a scrub and between its slices."""

    page_size: int
    schema: str
    sizes: list[int]
    steps: int
    pace: float
    """Writes per slice."""
    seed: int
    has_moves: bool
    has_thread: bool
    """Whether checkpoints run meanwhile; if not, the same is done each time."""
    read_slices: int
    """For so many of them, somebody reads what was there before half of the steps."""


@st.composite
def meanwhile(draw: st.DrawFn) -> Meanwhile:
    page_size = draw(st.sampled_from((512, 1024, 4096)))
    return Meanwhile(
        page_size,
        draw(st.sampled_from(sorted(SCHEMAS))),
        draw(st.lists(sizes(page_size), min_size=1, max_size=8)),
        draw(st.integers(1, 80)),
        draw(st.sampled_from((0.02, 0.3, 1.0))),
        draw(st.integers(0, 2**32)),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from((0, 0, 1, 10, 40))),
    )


@settings(max_examples=tries(40, 4_000), deadline=None)
@given(meanwhile())
@example(Meanwhile(512, "rows", [211, 96, 26], 72, 1.0, 1735352453, True, False, 0))
@example(Meanwhile(4096, "indexed", [8_162, 127], 34, 1.0, 1500619308, False, False, 0))
@example(Meanwhile(1024, "indexed", [4_083], 46, 0.02, 3117950110, True, False, 0))
def test_what_is_written_meanwhile_stays_and_what_was_deleted_goes(case: Meanwhile) -> None:
    """In the first examples a write copies what is unused into a page that was wiped; in the last
    one it frees an overflow page that the scrub has passed, and not yet its row.
    """
    choice = random.Random(case.seed)
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(scrubbing, "SliceClock", partial(SliceClock, 0.0))  # a page per slice
        if not case.has_thread:
            patch.setattr(scrubbing, "aside", _at_once)
        path = Path(directory, "scribble.db")
        scribble = Scribble(path, case.page_size, 0, 2, case.schema)
        with closing(apsw.Connection(str(path))) as reader, closing(scribble.connection):
            for step in range(case.steps):
                if case.read_slices and step == case.steps // 2:
                    reader.execute("BEGIN; SELECT count(*) FROM t").fetchall()
                _write_or_delete(scribble, choice, case.sizes)
            scribble.settle()
            gone = set(scribble.gone)
            for slices, _ in enumerate(scrub(scribble.access(path), 5.0), 1):
                if slices == case.read_slices:
                    reader.execute("ROLLBACK")
                if choice.random() < case.pace:
                    moves = case.has_moves and choice.random() < 0.4
                    (_move_pages if moves else _write_or_delete)(scribble, choice, case.sizes)
            found = scribble.connection.execute("PRAGMA integrity_check").fetchall()
            assert found == [("ok",)]
        with closing(apsw.Connection(str(path))) as anew:
            texts = [text for (text,) in anew.execute("SELECT word FROM t")]
            assert sorted(text[:10] for text in texts) == sorted(scribble.words.values())
        held = path.read_bytes()
        assert [word for word in sorted(gone) if word.encode() in held] == []


def test_a_scrub_ends_although_pages_are_written_after_each_slice(tmp_path: Path) -> None:
    choice, path = random.Random(1), tmp_path / "scribble.db"
    scribble = Scribble(path, 512, 0, 2, "indexed")
    some_sizes = [0, 20, 300, 700, 2_001]
    with closing(scribble.connection), pytest.MonkeyPatch.context() as patch:
        patch.setattr(scrubbing, "SliceClock", partial(SliceClock, 0.0))
        for _ in range(80):
            _write_or_delete(scribble, choice, some_sizes)
        gone = set(scribble.gone)
        for slices, _ in enumerate(scrub(scribble.access(path), 5.0)):
            assert slices < 1_000
            with scribble.connection:
                for _ in range(10):
                    _write_or_delete(scribble, choice, some_sizes)
    held = path.read_bytes()
    assert [word for word in sorted(gone) if word.encode() in held] == []


def test_nothing_is_called_wiped_when_the_log_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "scribble.db"
    scribble = Scribble(path, 4096, 0, 2, "rows")
    with closing(scribble.connection), pytest.MonkeyPatch.context() as patch:
        for row in range(40):
            scribble.write(row, 3_000)
        patch.setattr(os, "pread", lambda *_: b"")
        slices = scrub(scribble.access(path), 5.0)
        with pytest.raises(StoreUnavailableError, match="could not be read"):
            _write_after_each(slices, scribble)
        assert scribble.connection.execute("SELECT count(*) FROM t").get == 40


def _write_after_each(slices: Iterator[None], scribble: Scribble) -> None:
    for _ in slices:
        scribble.write(7, 3_000)


def _at_once(work: Callable[[], T]) -> Generator[None, None, T]:
    yield
    return work()


def _move_pages(scribble: Scribble, choice: random.Random, some_sizes: list[int]) -> None:
    """Free pages, use them again, and move others into them, in one transaction or several."""
    scribble.connection.execute(choice.choice(("BEGIN", "SELECT 1")))
    for _ in range(choice.randrange(1, 8)):
        what = choice.random()
        if what < 0.2:
            vacuum = f"PRAGMA incremental_vacuum({choice.randrange(1, 6)})"
            scribble.connection.execute(vacuum).fetchall()
        elif what < 0.3:
            for row in choice.sample(range(40), 12):
                scribble.delete(row)
        elif what < 0.35:  # the root of a new table takes the place of another page
            scribble.connection.execute("CREATE TABLE IF NOT EXISTS another (it)")
        elif what < 0.4:
            scribble.connection.execute("DROP TABLE IF EXISTS another")
        elif what < 0.5 and scribble.words:
            scribble.rewrite(choice.choice(sorted(scribble.words)))
        else:
            _write_or_delete(scribble, choice, some_sizes)
    if scribble.connection.in_transaction:
        scribble.connection.execute("COMMIT")


def _write_or_delete(scribble: Scribble, choice: random.Random, some_sizes: list[int]) -> None:
    row = choice.randrange(40)
    if choice.random() < 0.3:
        scribble.delete(row)
    else:
        scribble.write(row, choice.choice(some_sizes))


def test_a_file_without_a_pointer_map_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "scribble.db"
    scribble = Scribble(path, 4096, 0, 0, "rows")
    with closing(scribble.connection):
        for row in range(40):
            scribble.write(row, 3_000)
        scribble.delete(7)
        scribble.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        before = path.read_bytes()
        assert finish(scrub(scribble.access(path), 5.0))
    assert path.read_bytes() == before


def test_free_pages_and_slack_are_wiped_and_the_file_stays_sound(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with open_tested(f"sqlite://{path}") as store:
        say(store, "z", *("quagga " * size for size in (1, 700, 1_200, 5_000, 90_000)))
        say(store, "other", *("hay " * size for size in (1, 1_000, 2_000, 9_000)))
        store.delete("z")
        say(store, "other", "hay " * 1_100)  # its last page was the other's
        finish(store.compact(168))
        assert b"quagga" not in path.read_bytes()
        assert store.verify(deep=True) == []
        say(store, "z", "quagga")
        assert store.verify(deep=True) == []


def test_a_damaged_file_is_not_wiped(tmp_path: Path) -> None:
    """Nobody can tell what means something there."""
    path = tmp_path / "store.db"
    with open_tested(f"sqlite://{path}") as store:
        say(store, "k", *("quagga " * 500 for _ in range(40)))
    sound = path.read_bytes()
    page = sound.index(b"quagga quagga") // 4_096
    damaged = bytearray(sound)
    damaged[page * 4_096 + 5 : page * 4_096 + 7] = b"\x0f\xf0"  # where the page's cells begin
    path.write_bytes(damaged)
    with open_tested(f"sqlite://{path}") as store:
        with pytest.raises(StoreUnusableError, match="damaged"):
            finish(store.compact(168))
        with pytest.raises(StoreUnusableError, match="damaged"):
            finish(store.erase(key="another"))
    assert path.read_bytes()[page * 4_096 : (page + 1) * 4_096] == damaged[page * 4_096 :][:4_096]
