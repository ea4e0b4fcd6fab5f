"""A database of an older version, migrated, is the same as a new one."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw

from backscroll_worker.stores.sqlite import schema
from backscroll_worker.testing.stores import contents, found, open_tested, say

OLDER = sorted(Path(__file__).parent.glob("schema_*.sql"))


def shape(path: Path) -> set[tuple[object, ...]]:
    """Everything the database is made of, in no order."""
    with closing(apsw.Connection(str(path))) as connection:
        return set(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema"))


def test_there_is_a_database_of_each_older_version() -> None:
    assert [path.stem for path in OLDER] == [f"schema_{n}" for n in range(1, schema.VERSION)]


def test_a_migrated_database_is_made_like_a_new_one_and_works_like_it(tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    open_tested(f"sqlite://{new}").close()
    for script in OLDER:
        old = tmp_path / f"{script.stem}.db"
        with closing(apsw.Connection(str(old))) as connection:
            connection.execute(script.read_text()).fetchall()
        with open_tested(f"sqlite://{old}", keep_edits=True) as store:
            assert contents(store, "s") == ["hello"]
            say(store, "s", "again")
            store.describe("s", ttl_hours=1)
            store.replace("s", store.load("s")[0])
            assert found(store, "hello") == {"hello"}
            assert [each.ttl_hours for each in store.sessions()] == [1]
            (finding,) = store.verify()
            assert (finding.where, finding.repairable) == ("index", True)
            assert "older rules" in finding.problem
            store.repair([finding])
            assert store.verify(deep=True) == []
        assert shape(old) == shape(new)
