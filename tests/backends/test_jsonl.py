"""The JSONL store's files, which people and the original can read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest

from backscroll.contract.messages import ChatMessage
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
    requests,
    say,
)
from tests.backends.jsonl_files import as_the_original_reads, lines, names, write_as_the_original


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"jsonl://{tmp_path / 'store'}"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


def test_a_message_is_a_line_that_begins_with_role_and_content(
    directory: Path, store: StoreUnderTest
) -> None:
    operation = requests.append("s", (ChatMessage.user("日本\n", tags=[1]),), None)
    apply_all(store, [operation])
    text = (directory / "s.jsonl").read_text()
    assert text == (
        '{"role":"user","content":"日本\\n","extra":{"tags":[1]},'
        f'"message_id":"{operation.op_id}","created_at":{operation.at}}}\n'
    )


def test_an_append_only_ever_adds_bytes_at_the_end(directory: Path, store: StoreUnderTest) -> None:
    path, before = directory / "s.jsonl", b""
    for number in range(5):
        store.append("s", ChatMessage.user(f"m{number}"), ChatMessage.assistant("ok"))
        content = path.read_bytes()
        assert content.startswith(before)
        assert content.count(b"\n") == 2 * (number + 1)
        before = content


def test_a_group_is_synced_once_and_writes_each_file_once(
    directory: Path, store: StoreUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(store, "s", "a")
    say(store, "t", "a")
    calls: list[tuple[str, str]] = []

    def count(name: str) -> None:
        def counted(descriptor: int, *args: Any) -> Any:
            calls.append((name, Path(f"/proc/self/fd/{descriptor}").readlink().name))
            return real(descriptor, *args)

        real = getattr(os, name)
        monkeypatch.setattr(os, name, counted)

    for name in ("write", "fsync", "fdatasync"):
        count(name)
    apply_all(
        store,
        [
            requests.append(key, (ChatMessage.user(str(number)),), None)
            for number in range(100)
            for key in ("s", "t")
        ],
    )
    assert calls == [
        ("write", ".journal.1"),
        ("fdatasync", ".journal.1"),
        ("write", "s.jsonl"),
        ("write", "t.jsonl"),
    ]


def test_the_original_can_read_what_we_write(directory: Path, store: StoreUnderTest) -> None:
    store.append("s", ChatMessage.user("a"), ChatMessage.assistant("b", n=1), ChatMessage.user("c"))
    store.remove_last("s")
    store.replace("s", ChatMessage.assistant("B"))
    store.remove("s", "no-such-id")
    assert as_the_original_reads(directory / "s.jsonl") == [("user", "a"), ("assistant", "B")]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("telegram_user123", "telegram_user123.jsonl"),
        ("discord-Bob", "discord-Bob.jsonl"),
        ("Zoë_日本語_हिन्दी_Ⓐ_Ⅷ", "Zoë_日本語_हिन्दी_Ⓐ_Ⅷ.jsonl"),
        ("slack/thread:123/user", "slack%2Fthread%3A123%2Fuser.jsonl"),
        ("a.b c%", "a%2Eb%20c%25.jsonl"),
        ("🙂", "%F0%9F%99%82.jsonl"),
        ("..", "%2E%2E.jsonl"),
        ("x" * 249, "x" * 249 + ".jsonl"),
    ],
)
def test_plain_keys_are_file_names_and_others_are_percent_encoded(
    directory: Path, store: StoreUnderTest, key: str, name: str
) -> None:
    say(store, key, "a")
    assert name in names(directory)
    assert keys(store) == {key}


@pytest.mark.parametrize("key", ["x" * 250, "/" * 84, "🙂" * 512, "日" * 100, "日" * 512])
def test_names_too_long_are_cut_and_marked_and_the_sidecar_has_the_key(
    directory: Path, store: StoreUnderTest, key: str
) -> None:
    say(store, key, "a")
    assert all(len(os.fsencode(name)) <= 255 for name in names(directory))
    (name,) = (name for name in names(directory) if name.endswith(".jsonl"))
    assert "%~" in name
    sidecar = orjson.loads((directory / name.replace(".jsonl", ".meta.json")).read_bytes())
    assert sidecar["key"] == key


def test_the_originals_files_are_read_in_place(directory: Path, open_store: Open) -> None:
    write_as_the_original(directory / "telegram_alice.jsonl", "hello", "world")
    os.utime(directory / "telegram_alice.jsonl", ns=(0, 5 * HOUR * 1000))
    store = open_store()
    assert contents(store, "telegram_alice") == ["hello", "world"]
    info = store.session("telegram_alice")
    assert info is not None
    assert (info.message_count, info.created_at) == (2, info.last_activity)
    assert store.load("telegram_alice")[0].created_at == info.created_at
    assert found(store, "world") == {"world"}
    assert names(directory) == {"telegram_alice.jsonl"}


def test_the_originals_sessions_go_on_as_ours(
    directory: Path, open_store: Open, clock: Clock
) -> None:
    write_as_the_original(directory / "s.jsonl", "a", "b", "c")
    os.utime(directory / "s.jsonl", ns=(0, 5 * HOUR * 1000))
    with open_store() as store:
        old = store.load("s")
        say(store, "s", "d")
        assert store.load("s")[:3] == old
        (page,) = store.load("s", limit=1, before=old[1].message_id)
        assert page.content == "a"
        assert store.remove("s", old[1].message_id or "")
        assert store.load("s")[:2] == [old[0], old[2]]
    store = open_store()
    assert store.load("s")[:2] == [old[0], old[2]]
    info = store.session("s")
    assert info is not None
    assert info.created_at == old[0].created_at
    assert info.last_activity > info.created_at
    assert store.verify() == []


def test_fields_we_do_not_know_survive_a_rewrite(directory: Path, open_store: Open) -> None:
    (directory / "s.jsonl").write_text('{"role":"user","content":"a","mood":"good"}\n')
    with open_store() as store:
        say(store, "s", "b")
        store.remove_last("s")
    (first,) = (line for line in lines(directory / "s.jsonl") if "role" in line)
    assert first["mood"] == "good"
    assert list(first)[:2] == ["role", "content"]


def test_lines_added_by_the_original_meanwhile_are_seen(
    directory: Path, store: StoreUnderTest
) -> None:
    say(store, "s", "ours")
    with (directory / "s.jsonl").open("a") as file:
        file.write('{"role":"user","content":"theirs"}\n')
    assert contents(store, "s") == ["ours", "theirs"]
    say(store, "s", "ours again")
    info = store.session("s")
    assert info is not None
    assert info.message_count == 3


def test_a_rewrite_keeps_the_files_permissions(directory: Path, store: StoreUnderTest) -> None:
    say(store, "s", "a", "b")
    (directory / "s.jsonl").chmod(0o660)
    store.remove_last("s")
    assert stat.S_IMODE((directory / "s.jsonl").stat().st_mode) == 0o660


def test_what_is_deleted_is_not_on_the_disk_afterwards(
    directory: Path, store: StoreUnderTest, clock: Clock
) -> None:
    say(store, "s", "secret one")
    store.describe("s", name="secret two")
    store.delete("s")
    say(store, "t", "secret three")
    clock.advance(hours=2)
    finish(store.cleanup(1))
    assert not any(b"secret" in path.read_bytes() for path in directory.iterdir())
    assert names(directory) == {"s.gone.json", "t.gone.json"}
    clock.advance(hours=200)
    finish(store.compact(168))
    assert names(directory) == set()


def test_old_records_leave_the_file_with_a_compaction(
    directory: Path, store: StoreUnderTest, clock: Clock
) -> None:
    ids = say(store, "s", "a", "b")
    store.remove_last("s")
    assert lines(directory / "s.jsonl")[0]["applied"][0][0] == ids[1]
    clock.advance(hours=168)
    finish(store.compact(168))
    assert "applied" in lines(directory / "s.jsonl")[0]
    clock.advance(micros=1)
    report = finish(store.compact(168))
    assert report.op_ids_purged == 2
    assert as_the_original_reads(directory / "s.jsonl") == [("user", "a")]
    assert len(lines(directory / "s.jsonl")) == 1


def test_hits_are_sorted_by_score_then_newest_first(store: StoreUnderTest) -> None:
    say(store, "a", "needle 1")
    say(store, "b", "needle and needle")
    say(store, "a", "needle 3")
    hits = store.search("needle", limit=3)
    assert [hit.message.content for hit in hits] == ["needle and needle", "needle 3", "needle 1"]


def test_attributes_are_in_a_readable_sidecar(
    directory: Path, store: StoreUnderTest, clock: Clock
) -> None:
    operation = requests.describe("a/b", {"name": "Größe", "state": "running", "pinned": True})
    apply_all(store, [operation])
    assert orjson.loads((directory / "a%2Fb.meta.json").read_bytes()) == {
        "version": 1,
        "key": "a/b",
        "created_at": clock.now,
        "name": "Größe",
        "state": "running",
        "pinned": True,
        "turn_started_at": clock.now,
        "applied": [[operation.op_id, clock.now, 1]],
    }
