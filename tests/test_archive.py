"""The archive's files: what is in them, damage, erasure, and a kill at every step."""

from __future__ import annotations

import errno
import functools
import hashlib
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
import zstandard

from backscroll.contract.messages import ChatMessage, SessionInfo, from_micros
from backscroll_worker.archive.directory import ALL, NOTHING, Archive
from backscroll_worker.archive.disk import ArchiveError
from backscroll_worker.archive.file import ArchiveFile
from backscroll_worker.contract.archiving import ArchivedSession
from backscroll_worker.contract.interchange import session_line
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.interruptions import failing, killed_at


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "deep" / "archive")


def write(archive: Archive, *keys: str, sender: str | None = None) -> ArchiveFile:
    """A file with these sessions, two messages each."""
    writer = archive.begin()
    try:
        for key in keys:
            info = SessionInfo(key, from_micros(1), from_micros(20), 2, sender=sender)
            writer.begin(ArchivedSession(info, 30, "default"))
            for number in (10, 20):
                message = ChatMessage(
                    "user",
                    f"from {key} é\n",
                    {"n": [1.5, None]},
                    f"{key}-{number}",
                    from_micros(number),
                )
                writer.add(message)
        writer.publish()
    finally:
        writer.abandon()
    return writer.file


def held(archive: Archive) -> dict[str, list[str]]:
    """What the archive says of each session."""
    found: dict[str, list[str]] = {}
    for file in archive.files():
        manifest = file.check()
        for session, _, message in file.lines():
            messages = found.setdefault(session.info.key, [])
            if message is not None:
                messages.append(message.message_id or "")
        assert manifest.keys.keys() <= found.keys()
    return found


def traces(archive: Archive, text: bytes) -> list[Path]:
    """Files with the text anywhere in them, compressed or not."""
    paths = [path for path in archive.directory.rglob("*") if path.is_file()]
    return [path for path in paths if text in path.read_bytes() or text in _unpacked(path)]


def _unpacked(path: Path) -> bytes:
    with suppress(zstandard.ZstdError):
        return zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    return b""


def erase(archive: Archive, matches: Callable[[ArchivedSession], bool]) -> int:
    """How many sessions were erased."""
    return finish(archive.erase_slices(lambda session, _: ALL if matches(session) else NOTHING))


def _is_gone(session: ArchivedSession) -> bool:
    return session.info.key == "gone"


def damage(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def test_an_archive_file_is_json_lines_and_its_manifest_describes_it(
    archive: Archive,
) -> None:
    file = write(archive, "b", "a")
    text = _unpacked(file.data).decode()
    lines = [orjson.loads(line) for line in text.splitlines()]
    assert [line["session"]["key"] for line in lines if "session" in line] == ["b", "a"]
    assert lines[:2] == [{"backscroll_export": 1}, {
        "session": {"key": "b", "created_at": 1, "last_activity": 20, "state": "idle",
                    "pinned": False},
        "removed_at": 30, "rule": "default", "part": "whole",
    }]  # fmt: skip
    assert lines[2] == {
        "role": "user", "content": "from b é\n", "extra": {"n": [1.5, None]},
        "message_id": "b-10", "created_at": 10,
    }  # fmt: skip
    assert lines[4] == lines[-1] == {"end": 2}
    manifest = orjson.loads(file.manifest.read_bytes())
    content = file.data.read_bytes()
    assert manifest == {
        "version": 1, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content),
        "sessions": 2, "messages": 4, "since": 10, "until": 20, "keys": {"b": 2, "a": 2},
    }  # fmt: skip
    assert archive.verify() == []
    assert file.data.parent.parent == archive.directory


def test_nobody_else_may_read_it(archive: Archive) -> None:
    file = write(archive, "a")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (file.data, file.manifest)} == {0o600}
    assert stat.S_IMODE(archive.directory.stat().st_mode) == 0o700


def test_files_are_in_the_order_in_which_they_were_written(archive: Archive) -> None:
    names = [write(archive, str(number)).name for number in range(20)]
    assert [file.name for file in archive.files()] == names


def test_a_clock_that_was_set_back_puts_no_file_before_those_there(archive: Archive) -> None:
    first, later = write(archive, "a"), "2100-12/21001231T235959Z-0"
    (archive.directory / "2100-12").mkdir()
    for path, suffix in ((first.data, ".jsonl.zst"), (first.manifest, ".manifest.jsonl")):
        path.rename(archive.directory / f"{later}{suffix}")
    again = Archive(archive.directory)
    names = [write(again, key).name for key in "bc"]
    names += [write(Archive(archive.directory), key).name for key in "de"]
    assert [file.name for file in archive.files()] == [later, *names]
    assert list(held(archive)) == list("abcde")


def test_every_flipped_bit_and_every_cut_is_found(archive: Archive) -> None:
    sound, file = write(archive, "sound"), write(archive, "a", "b")
    for path in (file.data, file.manifest):
        content = path.read_bytes()
        for place in range(len(content)):
            damage(path, place)
            assert [finding.where for finding in archive.verify()] == ["archive"], (path, place)
            path.write_bytes(content)
        for size in (0, 1, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:size])
            assert len(archive.verify()) == (
                0 if path == file.manifest and size + 1 == len(content) else 1
            )
        path.unlink()
        assert len(archive.verify()) == 1
        path.write_bytes(content)
    assert archive.verify() == []
    assert sound.check().sessions == 1


def test_erasing_leaves_no_trace_and_keeps_the_others(archive: Archive) -> None:
    write(archive, "a", "gone", "b")
    write(archive, "gone")
    write(archive, "c", sender="gone")
    write(archive, "d")
    untouched = archive.files()[3].data.stat()
    assert erase(archive, lambda s: "gone" in (s.info.key, s.info.sender)) == 3
    assert held(archive) == {key: [f"{key}-10", f"{key}-20"] for key in "abd"}
    assert archive.verify() == []
    assert traces(archive, b"gone") == []
    assert archive.files()[-1].data.stat().st_ino == untouched.st_ino
    assert len(list(archive.directory.rglob("*.*"))) == 4, "two files with their manifests"
    assert erase(archive, _is_gone) == 0


def test_erasing_goes_on_past_a_damaged_file_and_names_it(archive: Archive) -> None:
    damaged = write(archive, "gone", "x")
    write(archive, "gone", "y")
    damage(damaged.data, 40)
    with pytest.raises(ArchiveError, match=damaged.data.name):
        erase(archive, _is_gone)
    assert traces(archive, b"from gone") in ([], [damaged.data])
    assert {"y": ["y-10", "y-20"]}.items() <= held_where_sound(archive).items()


def held_where_sound(archive: Archive) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in archive.files():
        with suppress(ArchiveError):
            file.check()
            for session, _, message in file.lines():
                if message is not None:
                    found.setdefault(session.info.key, []).append(message.message_id or "")
    return found


def test_an_erasure_killed_at_any_step_loses_nothing_and_the_next_ends_it(
    tmp_path: Path,
) -> None:
    for step in range(100):
        archive = Archive(tmp_path / str(step))
        write(archive, "a", "gone", "b")
        write(archive, "gone")
        was_killed = killed_at(step, functools.partial(erase, archive, _is_gone))
        assert archive.verify() == []
        assert {key: held(archive)[key] for key in "ab"} == {
            key: [f"{key}-10", f"{key}-20"] for key in "ab"
        }
        erase(archive, _is_gone)
        assert held(archive).keys() == {"a", "b"}
        assert traces(archive, b"gone") == []
        if not was_killed:
            break
    assert step > 10


def test_writing_that_is_killed_at_any_step_leaves_all_or_nothing(tmp_path: Path) -> None:
    for step in range(100):
        archive = Archive(tmp_path / str(step))
        write(archive, "before")
        was_killed = killed_at(step, functools.partial(write, archive, "a", "b"))
        assert archive.verify() == []
        whole = ["a", "b", "before"]
        assert sorted(held(archive)) in (["before"], whole)
        archive.sweep()
        assert sorted(held(archive)) in (["before"], whole)
        assert not list(archive.directory.rglob(".*"))
        assert traces(archive, b"from a") == [] or sorted(held(archive)) == whole
        if not was_killed:
            assert sorted(held(archive)) == whole
            break
    assert step > 5


def failures_of(archive: Archive, step: int, error: int) -> list[str]:
    """What is said when the disk fails at this step of writing; nothing if it came to its end."""
    with failing(step, error):
        try:
            write(archive, "a")
        except ArchiveError as caught:
            return [str(caught)]
    return []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_is_an_error_that_names_the_path_and_leaves_nothing(
    tmp_path: Path, error: int
) -> None:
    for step in range(100):
        archive = Archive(tmp_path / str(step))
        write(archive, "before")
        failures = failures_of(archive, step, error)
        for failure in failures:
            assert str(archive.directory) in failure
            assert ("Free some space" in failure) == (error == errno.ENOSPC)
        assert archive.verify() == []
        archive.sweep()
        assert archive.verify() == []
        assert "before" in held(archive)
        if not failures:
            break
    assert step > 5


def test_a_name_from_outside_leads_nowhere_else(archive: Archive) -> None:
    for name in ("../x", "/etc/passwd", "2026-11/../../x", "2026-11/.writing-x", "", "2026-11/"):
        with pytest.raises(ArchiveError, match="not a valid name"):
            archive.file(name)
    file = write(archive, "a")
    assert archive.file(f"{file.name}.jsonl.zst").check().sessions == 1


def test_what_others_put_there_is_left_alone(archive: Archive) -> None:
    write(archive, "a")
    for name in ("README", "2026-11/notes.txt", "2026-11/x y.jsonl.zst", "old/x.jsonl.zst"):
        path = archive.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("theirs")
    archive.sweep()
    erase(archive, lambda _: True)
    assert (archive.directory / "2026-11/notes.txt").read_text() == "theirs"
    assert archive.files() == []


def test_an_archive_that_is_not_there_is_empty(archive: Archive) -> None:
    assert (archive.files(), archive.verify()) == ([], [])
    archive.sweep()
    assert erase(archive, lambda _: True) == 0


def test_sessions_are_dropped_by_their_places(archive: Archive) -> None:
    file = write(archive, "a", "b", "a", "c")
    finish(archive.drop_slices(file, {0, 3}))
    assert held(archive) == {"b": ["b-10", "b-20"], "a": ["a-10", "a-20"]}
    finish(archive.drop_slices(file, {0, 1}))
    assert archive.files() == []


def test_content_that_is_no_archive_is_damage_whatever_the_manifest_says(
    archive: Archive,
) -> None:
    for content in _strange_contents():
        file = write(archive, "a")
        packed = zstandard.ZstdCompressor().compress(content)
        manifest = orjson.loads(file.manifest.read_bytes())
        manifest |= {"sha256": hashlib.sha256(packed).hexdigest(), "size_bytes": len(packed)}
        file.data.write_bytes(packed)
        file.manifest.write_bytes(orjson.dumps(manifest))
        assert len(archive.verify()) == 1, content
        file.remove()


def _strange_contents() -> Iterator[bytes]:
    yield b""
    yield b'{"role":"user","content":"x"}\n'
    yield b'{"session":{"key":"a"}}\n'
    yield b'{"session":7}\n'
    yield b"\xff\xfe\n" * 3
    yield b"[" * 5_000
    yield b'{"session":null,\n'
    info = SessionInfo("a", from_micros(1), from_micros(1), 1)
    first = session_line(info, ArchivedSession(info, 1, "r"))
    for message in (b"{}", b"[]", b'{"role":"u","content":"c","message_id":"a","created_at":1e30}'):
        yield first + message + b"\n"
