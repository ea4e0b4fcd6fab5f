"""Migration: every good line, once, whatever happens in between."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson
import pytest

from backscroll import ChatMessage, InvalidInputError, StoreUnavailableError
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.stores import StoreUnderTest, open_tested
from backscroll_worker.transfer import migrate as migration
from backscroll_worker.transfer import store as intake
from backscroll_worker.transfer.migrate import migrate

OLD_SECONDS = 1_700_000_000


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path / 'backscroll.db'}"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "sessions"
    directory.mkdir()
    return directory


def write(path: Path, *contents: str, extra_line: bytes | None = None) -> Path:
    """A file as the original writes it."""
    lines = [orjson.dumps({"role": "user", "content": content}) for content in contents]
    if extra_line is not None:
        lines.insert(1, extra_line)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    os.utime(path, (OLD_SECONDS, OLD_SECONDS))
    return path


def stored(store: str, look: Callable[[StoreUnderTest], object]) -> object:
    with open_tested(store, read_only=True) as backend:
        return look(backend)


def contents(store: str, key: str) -> object:
    return stored(store, lambda backend: [message.content for message in backend.load(key)])


def test_the_originals_files_come_over_with_their_times(directory: Path, store: str) -> None:
    path = write(directory / "telegram_user123.jsonl", "hello", "again")
    report = migrate(directory, store)
    assert (report.sessions, report.messages, report.refused) == (1, 2, [])
    assert contents(store, "telegram_user123") == ["hello", "again"]
    assert not path.exists()
    assert path.with_name(path.name + ".migrated").exists()
    with open_tested(store, read_only=True) as backend:
        session = backend.session("telegram_user123")
        assert session is not None
        assert session.last_activity.timestamp() == OLD_SECONDS
        assert session.message_count == 2
        assert [hit.key for hit in backend.search("hello")] == ["telegram_user123"]
        assert backend.verify() == []


def test_our_own_files_come_over_whole(directory: Path, store: str) -> None:
    key = "slack/thread:123/user"
    with open_tested(f"jsonl://{directory}") as ours:
        ids = ours.append(key, ChatMessage.user("a", ts="1"), ChatMessage.assistant("b"))
        ours.append(key, ChatMessage.user("gone"))
        ours.remove_last(key)
        ours.describe(key, name="Thread", channel="slack", pinned=True, ttl_hours=5)
        before = ours.load(key)
    assert migrate(directory, store).refused == []
    with open_tested(store, read_only=True) as backend:
        assert backend.load(key) == before
        assert [message.message_id for message in before] == ids
        session = backend.session(key)
        assert session is not None
        assert (session.name, session.channel, session.pinned) == ("Thread", "slack", True)
        assert session.ttl_hours == 5
    assert list(directory.glob("*.jsonl")) == []
    assert list(directory.glob("*.meta.json")) == []


def test_corrupt_lines_are_named_by_file_and_line(directory: Path, store: str) -> None:
    path = write(directory / "a.jsonl", "one", "two", extra_line=b'{"role":"us')
    report = migrate(directory, store)
    assert report.corrupt_lines == [f"{path}:2"]
    assert contents(store, "a") == ["one", "two"]


def test_a_second_run_finds_nothing_to_do(directory: Path, store: str) -> None:
    write(directory / "a.jsonl", "one")
    migrate(directory, store)
    again = migrate(directory, store)
    assert (again.sessions, again.messages) == (0, 0)
    assert contents(store, "a") == ["one"]


def test_killed_between_commit_and_rename_nothing_is_stored_twice(
    directory: Path, store: str
) -> None:
    path = write(directory / "a.jsonl", "one", "two")
    migrate(directory, store)
    path.with_name("a.jsonl.migrated").rename(path)  # as if the rename had never happened
    report = migrate(directory, store)
    assert (report.sessions, report.refused) == (1, [])
    assert contents(store, "a") == ["one", "two"]
    assert not path.exists()


def test_killed_between_two_groups_the_next_run_does_the_rest(
    directory: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MESSAGES_PER_GROUP", 1)
    for name in "abc":
        write(directory / f"{name}.jsonl", name)

    class Killed(BaseException):
        pass

    def die_after_two(paths: list[Path]) -> Iterable[Path]:
        yield from paths[:2]
        raise Killed  # while the second is on its way to the disk

    with pytest.raises(Killed):
        migrate(directory, store, die_after_two)
    assert not (directory / "a.jsonl").exists()
    assert migrate(directory, store).sessions == 2
    assert [contents(store, name) for name in "abc"] == [["a"], ["b"], ["c"]]


def test_a_session_with_another_history_is_refused_and_its_file_stays(
    directory: Path, store: str
) -> None:
    with open_tested(store) as backend:
        backend.append("a", ChatMessage.user("said here already"))
    path = write(directory / "a.jsonl", "one")
    write(directory / "b.jsonl", "two")
    report = migrate(directory, store)
    assert report.sessions == 1
    (refused,) = report.refused
    assert refused.startswith(f"{path}: ")
    assert "another history" in refused
    assert path.exists()
    assert contents(store, "a") == ["said here already"]


def test_a_file_set_aside_before_is_never_overwritten(directory: Path, store: str) -> None:
    kept = directory / "a.jsonl.migrated"
    kept.write_text("precious")
    write(directory / "a.jsonl", "one")
    migrate(directory, store)
    assert kept.read_text() == "precious"
    assert (directory / "a.jsonl.migrated.2").exists()


def test_empty_files_and_other_files_do_no_harm(directory: Path, store: str) -> None:
    write(directory / "empty.jsonl")
    (directory / "notes.txt").write_text("not ours")
    report = migrate(directory, store)
    assert (report.sessions, report.messages, report.refused) == (1, 0, [])
    assert (directory / "notes.txt").exists()


@pytest.mark.parametrize("which", ["target", "source"])
def test_while_a_worker_writes_it_refuses(directory: Path, store: str, which: str) -> None:
    url = f"jsonl://{directory}"
    with open_tested(url) as ours:
        ours.append("k", ChatMessage.user("a"))
    with (
        open_tested(store if which == "target" else url),
        pytest.raises(StoreUnavailableError, match="stop the worker"),
    ):
        migrate(directory, store)
    assert contents(url, "k") == ["a"]


def test_a_store_is_not_taken_over_by_itself(directory: Path, tmp_path: Path) -> None:
    path = write(directory / "a.jsonl", "one")
    link = tmp_path / "link"
    link.symlink_to(directory)
    for store in (directory, link):
        with pytest.raises(InvalidInputError, match="is the store itself"):
            migrate(directory, f"jsonl://{store}")
    assert path.exists()


def test_a_directory_that_is_none_is_refused(tmp_path: Path, store: str) -> None:
    with pytest.raises(InvalidInputError, match="is not a directory"):
        migrate(tmp_path / "nowhere", store)


def test_what_a_power_cut_left_only_in_the_journal_comes_over_too(
    directory: Path, store: str, tmp_path: Path
) -> None:
    ours = tmp_path / "ours"
    with open_tested(f"jsonl://{ours}") as backend:
        backend.append("k", ChatMessage.user("a"))
        size = (ours / "k.jsonl").stat().st_size
        backend.append("k", ChatMessage.user("b"))
        shutil.copytree(ours, directory, dirs_exist_ok=True)  # as if the machine stopped here
    os.truncate(directory / "k.jsonl", size)
    assert migrate(directory, store).messages == 2
    with open_tested(store) as backend:
        assert [message.content for message in backend.load("k")] == ["a", "b"]


def test_a_running_turn_comes_over_with_its_beginning(directory: Path, store: str) -> None:
    with open_tested(f"jsonl://{directory}") as ours:
        ours.append("k", ChatMessage.user("a"))
        ours.describe("k", state="running", turn_id="t1")
        before = ours.session("k")
    migrate(directory, store)
    with open_tested(store, read_only=True) as backend:
        assert backend.session("k") == before


def test_earlier_versions_come_over(directory: Path, store: str) -> None:
    with open_tested(f"jsonl://{directory}", keep_edits=True) as ours:
        ours.append("k", ChatMessage.user("a"))
        ours.replace("k", ChatMessage.user("b"))
        before = ours.load("k", include_edits=True)
    migrate(directory, store)
    with open_tested(store, read_only=True) as backend:
        assert backend.load("k", include_edits=True) == before


def test_many_files_are_taken_over_in_few_transactions(directory: Path, store: str) -> None:
    for number in range(300):
        write(directory / f"s{number}.jsonl", f"hello {number}")
    assert migrate(directory, store).sessions == 300
    with open_tested(store, read_only=True) as backend:
        assert {hit.key for hit in backend.search("hello", limit=1_000)} == {
            f"s{number}" for number in range(300)
        }
        assert backend.verify() == []


def test_one_bad_file_of_a_group_harms_no_other(directory: Path, store: str) -> None:
    line = b'{"role":"user","content":"x","message_id":"%032x","created_at":5}\n' % 7
    for name in ("b", "twice"):
        (directory / f"{name}.jsonl").write_bytes(line)
    for name in ("a", "z"):
        write(directory / f"{name}.jsonl", name)
    report = migrate(directory, store)
    assert report.sessions == 3
    assert len(report.refused) == 1
    assert report.refused[0].startswith(str(directory / "twice.jsonl"))
    assert [contents(store, key) for key in ("a", "twice", "z")] == [["a"], [], ["z"]]


def test_what_was_erased_from_the_store_does_not_come_back(directory: Path, store: str) -> None:
    with open_tested(store) as backend:
        backend.append("a", ChatMessage.user("said"))
        finish(backend.erase(key="a"))
    path = write(directory / "a.jsonl", "said")
    assert "was erased" in migrate(directory, store).refused[0]
    assert path.exists()
    assert contents(store, "a") == []


def test_a_message_whose_id_another_one_has_comes_over_with_its_own(
    directory: Path, store: str
) -> None:
    line = b'{"role":"user","content":"x","message_id":"same","created_at":5}\n'
    (directory / "s.jsonl").write_bytes(line * 2)
    assert migrate(directory, store).refused == []
    with open_tested(store, read_only=True) as backend:
        first, second = backend.load("s")
        assert (first.message_id, second.extra) == ("same", {"message_id": "same"})
        assert first.message_id != second.message_id


def test_ids_of_another_program_need_only_be_different_in_a_session(
    directory: Path, store: str
) -> None:
    line = b'{"role":"user","content":"x","message_id":"17"}\n'
    for name in "ab":
        (directory / f"{name}.jsonl").write_bytes(line)
    assert migrate(directory, store).refused == []
    (directory / "b.jsonl").write_bytes(line + line.replace(b"17", b"18"))  # it has grown
    assert migrate(directory, store).refused == []
    with open_tested(store, read_only=True) as backend:
        (first,), (second, third) = backend.load("a"), backend.load("b")
    assert [first.message_id, second.extra, third.extra] == [
        "17", {"message_id": "17"}, {"message_id": "18"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("told", "seconds"), [(OLD_SECONDS + 7, OLD_SECONDS + 7), (2**32, OLD_SECONDS)]
)
def test_a_session_is_as_young_as_its_messages_whatever_the_files_time(
    directory: Path, store: str, told: int, seconds: int
) -> None:
    path = directory / "s.jsonl"
    path.write_text(f'{{"role":"user","content":"x","timestamp":{told}}}\n')
    os.utime(path, (OLD_SECONDS, OLD_SECONDS))
    migrate(directory, store)
    with open_tested(store, read_only=True) as backend:
        session = backend.session("s")
    assert session is not None
    assert session.last_activity.timestamp() == seconds


FOREIGN = (
    b'\xef\xbb\xbf{"role":"user","content":"first","timestamp":"2026-03-24T15:17:14+03:00"}\n'
    b'{"role":"assistant","content":null,"tool_calls":[{"id":"c"}],"ts":1774354634}\n'
    b'{"role":"tool","content":"3","name":"sum","tool_call_id":"c","created_at":1774354634000}\n'
    b'{"role":"user","content":"torn {"role":"user","content":"after it"}\n'
)


def test_a_foreign_file_comes_over_whole_and_what_cannot_is_in_a_report(
    directory: Path, store: str
) -> None:
    path = directory / "s.jsonl"
    path.write_bytes(FOREIGN)
    report = migrate(directory, store)
    with open_tested(store, read_only=True) as backend:
        messages = backend.load("s")
    assert [message.content for message in messages] == ["first", "", "3", "after it"]
    assert [message.extra for message in messages] == [
        None, {"tool_calls": [{"id": "c"}]}, {"name": "sum", "tool_call_id": "c"}, None,
    ]  # fmt: skip
    times = {message.created_at.timestamp() for message in messages[:3] if message.created_at}
    assert times == {1774354634}
    assert report.corrupt_lines == [f"{path}:4"]
    assert report.reports == [f"{path}.migrated.report"]
    assert f"{path}:4: " in Path(report.reports[0]).read_text()
    assert (directory / "s.jsonl.migrated").read_bytes() == FOREIGN


def test_a_source_stays_when_its_report_cannot_be_written(directory: Path, store: str) -> None:
    path = directory / "s.jsonl"
    path.write_bytes(FOREIGN)
    (directory / ".report").mkdir()  # where it is written first
    report = migrate(directory, store)
    assert path.exists()
    assert "could not be set aside" in report.refused[0]
    (directory / ".report").rmdir()
    assert migrate(directory, store).refused == []
    assert not path.exists()
    assert len(stored(store, lambda backend: backend.load("s"))) == 4  # type: ignore[arg-type]


def test_a_source_that_grows_meanwhile_stays_and_its_rest_comes_over_next(
    directory: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(directory / "s.jsonl", "one")

    class Growing(intake.Groups):  # type: ignore[type-arg]
        def __next__(self) -> list[object]:
            group = super().__next__()
            if path.stat().st_mtime == OLD_SECONDS:
                with path.open("ab") as file:
                    file.write(b'{"role":"user","content":"two"}\n')
            return group

    monkeypatch.setattr(migration, "Groups", Growing)
    assert "written to meanwhile" in migrate(directory, store).refused[0]
    assert path.exists()
    assert migrate(directory, store).refused == []
    assert contents(store, "s") == ["one", "two"]
    assert not path.exists()


def test_what_is_no_file_or_has_another_ending_is_named(directory: Path, store: str) -> None:
    (directory / "d.jsonl").mkdir()
    os.mkfifo(directory / "p.jsonl")
    (directory / "dangling.jsonl").symlink_to(directory / "nowhere")
    write(directory / "upper.JSONL", "x")
    (directory / "packed.jsonl.gz").write_bytes(b"x")
    (directory / "sub").mkdir()
    write(directory / "sub" / "x.jsonl", "x")
    write(directory / f"{'n' * 240}.jsonl", "long")
    report = migrate(directory, store)
    assert report.sessions == 1
    names = ("d.jsonl", "dangling.jsonl", "p.jsonl", "packed.jsonl.gz", "sub", "upper.JSONL")
    assert len(report.refused) == len(names)
    assert all(name in line for name, line in zip(names, report.refused, strict=True))
    assert migrate(directory, store).sessions == 0
