"""One format: import takes an archive's files, an archive reads exports, and both read old ones."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import orjson
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backscroll.contract.messages import ChatMessage
from backscroll_worker.archive.directory import Archive
from backscroll_worker.archive.disk import ArchiveError
from backscroll_worker.archive.file import ArchiveFile
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.retention import Retention, Rule
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.testing.stores import bring_back, open_tested
from backscroll_worker.transfer.chats.conversation import Options
from backscroll_worker.transfer.import_files import ImportReport, import_files
from tests.test_archive import erase
from tests.transfer.sessions import Everything, everything, export, fill, several, take

KINDS = ("sqlite", "jsonl")


def import_archive(store: str, archive: Archive) -> ImportReport:
    return import_files([file.data for file in archive.files()], store, Options(), lambda _: None)


def restored(store: str, archive: Archive, keys: set[str]) -> Everything:
    """What `backscroll restore` makes of an empty store."""
    with open_tested(store) as backend:
        for key in keys:
            bring_back(backend, archive, key)
    return everything(store)


@pytest.mark.parametrize(("kind", "other"), [(a, b) for a in KINDS for b in KINDS])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations=several, keep=st.none() | st.integers(1, 2))
def test_import_of_an_archive_file_gives_what_restore_gives(
    kind: str, other: str, operations: list[ImportSession], keep: int | None
) -> None:
    with tempfile.TemporaryDirectory() as name:
        source, archive = f"{kind}://{name}/a", Archive(Path(name) / "archive")
        fill(source, operations)
        before = everything(source)
        retention = Retention(Rule("r", -3_600_000_000 if keep is None else None, keep))
        with open_tested(source) as backend:
            finish(backend.cleanup(retention, archive=archive))
        left = everything(source)
        keys = {key for file in archive.files() for key in file.check().keys}
        expected = restored(f"{other}://{name}/b", archive, keys)
        imported = f"{other}://{name}/c"
        report = import_archive(imported, archive)
        assert (report.sessions, report.refused, report.left_out) == (len(keys), [], [])
        assert everything(imported) == expected
        for key, (_, messages) in before.items():
            assert expected.get(key, (None, []))[1] + left.get(key, (None, []))[1] == messages
        again = import_archive(imported, archive)
        assert (again.sessions, again.known, again.refused) == (0, len(keys), [])


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path / 'store.db'}"


def packed(content: bytes) -> bytes:
    """What `zstd` makes of it."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


def spoken(store: str, *keys: str) -> bytes:
    """An export of a new store with these sessions."""
    with open_tested(store) as backend:
        for key in keys:
            backend.append(key, *(ChatMessage.user(f"{n} in {key}") for n in range(3)))
            backend.describe(key, name=key.upper())
    return export(store, "jsonl")


def put(archive: Archive, content: bytes, manifest: dict[str, object]) -> ArchiveFile:
    """A file of the archive with this content, and what the manifest says besides its checksum."""
    file = archive.file("2026-11/20261121T070000Z-0")
    file.data.parent.mkdir(parents=True)
    file.data.write_bytes(content)
    said = {"version": 1, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    file.manifest.write_bytes(orjson.dumps({**said, **manifest}) + b"\n")
    return file


def test_an_export_under_zstd_is_imported_as_it_is(store: str, tmp_path: Path) -> None:
    content = spoken(f"jsonl://{tmp_path / 'source'}", "a", "b")
    halves = content.split(b'{"session":{"key":"b"')
    two_frames = packed(halves[0]) + packed(b'{"session":{"key":"b"' + halves[1])
    report = take(store, tmp_path / "export.jsonl.zst", two_frames)
    assert (report.sessions, report.messages, report.refused) == (2, 6, [])
    assert export(store, "jsonl") == content
    assert take(store, tmp_path / "export.jsonl", content).known == 2


def test_of_a_cut_zst_file_only_whole_sessions_are_taken(store: str, tmp_path: Path) -> None:
    source = f"sqlite://{tmp_path / 'source.db'}"
    keys = [f"{number} {os.urandom(200).hex()}" for number in range(100)]
    content = packed(spoken(source, *keys))  # of two blocks
    report = take(store, tmp_path / "x", content[: len(content) * 3 // 4])
    assert 0 < report.sessions < 100
    assert "cut off" in report.refused[-1] or "is missing" in report.refused[-1]
    assert everything(store).items() <= everything(source).items()
    assert take(store, tmp_path / "x", content).sessions == 100 - report.sessions


def test_a_damaged_zst_file_is_refused_by_name(store: str, tmp_path: Path) -> None:
    content = bytearray(packed(spoken(f"jsonl://{tmp_path / 'source'}", "a", "b")))
    content[-1] ^= 1  # of the checksum
    report = take(store, tmp_path / "x.zst", bytes(content))
    assert f"{tmp_path / 'x.zst'} is damaged: " in report.refused[-1]


@pytest.mark.parametrize("is_packed", [True, False])
def test_an_export_is_read_in_the_place_of_an_archive_file(
    archive: Archive, store: str, tmp_path: Path, is_packed: bool
) -> None:
    source = f"jsonl://{tmp_path / 'source'}"
    content = spoken(source, "a", "b")
    keys = {"sessions": 2, "messages": 6, "keys": {"a": 3, "b": 3}}
    file = put(archive, packed(content) if is_packed else content, keys)
    assert {session.removed_at for session, *_ in file.lines()} == {
        int(info.last_activity.timestamp() * 1e6) for info, _ in everything(source).values() if info
    }
    assert restored(store, archive, {"a", "b"}) == everything(source)
    assert erase(archive, lambda session: session.info.key == "a") == 1
    assert [session.info.key for session, *_ in file.lines()] == ["b"] * 4
    assert archive.verify() == []


OLD_ARCHIVE = (
    b'{"session":{"key":"s","created_at":1759000000000000,"last_activity":1759000000000001,'
    b'"message_count":2,"channel":"slack","state":"idle","pinned":false},'
    b'"removed_at":1763000000000000,"rule":"room=x","part":"oldest"}\n'
    b'{"role":"user","content":"hello","message_id":"01a1fe80000070008000000000000001",'
    b'"created_at":1759000000000000}\n'
    b'{"session":{"key":"t","created_at":1759000000000002,"last_activity":1759000000000003,'
    b'"message_count":1,"state":"idle","pinned":false},'
    b'"removed_at":1763000000000000,"rule":"default","part":"whole"}\n'
    b'{"role":"tool","content":"5","extra":{"n":1},"message_id":"m1","created_at":1759000000000003,'
    b'"edits":[{"role":"tool","content":"4","replaced_at":1759000000000004}]}\n'
)
OLD_MANIFEST = {
    "sessions": 2, "messages": 2, "since": 1759000000000000, "until": 1759000000000003,
    "keys": {"s": 1, "t": 1},
}  # fmt: skip
OLD_EXPORT = (
    b'{"backscroll_export":1}\n'
    b'{"session":{"key":"s","created_at":1759000000000000,"last_activity":1759000000000001,'
    b'"channel":"slack","state":"idle","pinned":false}}\n'
    b'{"role":"user","content":"hello","message_id":"01a1fe80000070008000000000000001",'
    b'"created_at":1759000000000000}\n'
    b'{"end":1}\n'
    b'{"session":{"key":"t","created_at":1759000000000002,"last_activity":1759000000000003,'
    b'"state":"idle","pinned":false}}\n'
    b'{"role":"tool","content":"5","extra":{"n":1},"message_id":"m1","created_at":1759000000000003,'
    b'"edits":[{"role":"tool","content":"4","replaced_at":1759000000000004}]}\n'
    b'{"end":1}\n'
)


def test_what_was_written_before_the_two_formats_became_one_is_read(
    archive: Archive, store: str, tmp_path: Path
) -> None:
    file = put(archive, packed(OLD_ARCHIVE), OLD_MANIFEST)
    assert archive.verify() == []
    said = [(session.rule, session.is_whole) for session, _, message in file.lines() if message]
    assert said == [("room=x", False), ("default", True)]
    expected = restored(store, archive, {"s", "t"})
    assert [message.content for _, said in expected.values() for message in said] == ["hello", "5"]
    for name, content in (("a", file.data.read_bytes()), ("b", OLD_ARCHIVE), ("c", OLD_EXPORT)):
        other = f"sqlite://{tmp_path / name}.db"
        report = take(other, tmp_path / name, content)
        assert (report.sessions, report.refused) == (2, [])
        assert everything(other) == expected
        assert export(other, "jsonl") == OLD_EXPORT


def test_an_old_archive_file_gets_the_new_format_when_it_is_rewritten(archive: Archive) -> None:
    file = put(archive, packed(OLD_ARCHIVE), OLD_MANIFEST)
    erase(archive, lambda session: session.info.key == "t")
    (session,) = {session for session, *_ in file.lines()}
    assert (session.info.key, session.removed_at, session.is_whole) == (
        "s",
        1763000000000000,
        False,
    )
    content = zstandard.ZstdDecompressor().decompressobj().decompress(file.data.read_bytes())
    assert content.startswith(b'{"backscroll_export":1}\n')
    assert content.endswith(b'{"end":1}\n')
    assert archive.verify() == []


def test_a_cut_off_session_of_an_archive_file_is_damage(archive: Archive) -> None:
    content = packed(OLD_EXPORT.removesuffix(b'{"end":1}\n'))
    file = put(archive, content, OLD_MANIFEST)
    with pytest.raises(ArchiveError, match="line 5: the end of this session is missing"):
        list(file.lines())


def test_of_an_export_by_a_newer_version_nothing_is_taken(store: str, tmp_path: Path) -> None:
    newer = OLD_EXPORT.replace(b'"backscroll_export":1', b'"backscroll_export":2')
    report = take(store, tmp_path / "x", newer)
    assert (report.sessions, len(report.refused)) == (0, 1)
    assert "written by a newer one" in report.refused[0]
    assert take(store, tmp_path / "x", newer + OLD_EXPORT).sessions == 2
