"""What every store promises of what comes back from the archive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.ids import new_op_id
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Restore
from backscroll_worker.archive.directory import Archive
from backscroll_worker.archive.disk import ArchiveError
from backscroll_worker.archive.file import ArchivedLine, ArchiveFile
from backscroll_worker.contract.pacing import SliceClock, finish
from backscroll_worker.maintenance.restore import restore
from backscroll_worker.testing.fixtures import Open, Rules
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    bring_back,
    contents,
    found,
    keys,
    open_tested,
    requests,
    say,
)

NEEDS = "archive"


def full_session(store: StoreUnderTest, clock: Clock) -> None:
    """A session with all there is to one."""
    ids = store.append("s", ChatMessage.user("a", n=[1, None]), ChatMessage("odd role", ""))
    say(store, "s", "日本語", "gone", "last")
    store.remove_last("s")
    store.replace("s", ChatMessage.assistant("replaced"), ids[0])
    clock.advance(seconds=7)
    store.describe(
        "s", name="N", agent="A", channel="C", room="R", sender="S", meta={"m": 0.5, "n": True}
    )
    store.describe("s", state="running", turn_id="T")


@pytest.mark.needs("search")
def test_what_comes_back_is_exactly_what_went(
    open_store: Open, clock: Clock, archive: Archive
) -> None:
    with open_store() as store:
        full_session(store, clock)
        say(store, "other", "x")
        before = store.load("s"), store.session("s")
        clock.advance(hours=2)
        assert finish(store.cleanup(1, archive=archive)).sessions == 2
        assert keys(store) == set()
        assert found(store, "日本語") == set()
        report = bring_back(store, archive, "s")
        assert (report.key, report.messages, report.present) == ("s", 4, 0)
        assert (store.load("s"), store.session("s")) == before
        assert found(store, "日本語") == {"日本語"}
    with open_store() as store:
        assert (store.load("s"), store.session("s")) == before
        assert store.verify() == []
        say(store, "s", "next")
        assert contents(store, "s") == ["replaced", "", "日本語", "gone", "next"]


@pytest.mark.needs("edits")
def test_earlier_versions_of_messages_come_back_too(
    url: str, clock: Clock, archive: Archive
) -> None:
    with open_tested(url, clock=clock, keep_edits=True) as store:
        say(store, "s", "first")
        store.replace("s", ChatMessage.user("second", n=1))
        store.replace("s", ChatMessage.user("third"))
        before = store.load("s", include_edits=True)
        assert len(before[0].edits) == 2
        clock.advance(hours=2)
        finish(store.cleanup(1, archive=archive))
        bring_back(store, archive, "s")
        assert store.load("s", include_edits=True) == before
        say(store, "s", "fourth")
        clock.advance(hours=2)
        finish(store.cleanup(1, archive=archive))
        say(store, "s", "fifth")
        bring_back(store, archive, "s")
        assert store.load("s", include_edits=True)[:1] == before
        assert store.verify() == []


def test_a_session_without_messages_comes_back(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    store.describe("s", name="N")
    before = store.session("s")
    clock.advance(hours=2)
    finish(store.cleanup(1, archive=archive))
    assert store.session("s") is None
    bring_back(store, archive, "s")
    assert store.session("s") == before


def bring_back_once(store: StoreUnderTest, clock: Clock, archive: Archive) -> None:
    """A session that is both in the store and in the archive."""
    say(store, "s", "a", "b")
    clock.advance(hours=2)
    finish(store.cleanup(1, archive=archive))
    bring_back(store, archive, "s")


def test_coming_back_twice_doubles_nothing(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    bring_back_once(store, clock, archive)
    again = bring_back(store, archive, "s")
    assert (again.messages, again.present) == (0, 2)
    say(store, "s", "c")
    store.remove_last("s")
    bring_back(store, archive, "s")
    assert contents(store, "s") == ["a", "b"]
    operation = Restore(new_op_id(), 0, "s")
    store.clear("s")
    assert finish(restore(store.store, archive, operation)).messages == 2
    store.clear("s")
    finish(restore(store.store, archive, operation))
    assert contents(store, "s") == [], "the job came again, after it had been carried out"


@pytest.mark.needs("search")
def test_what_comes_back_stands_before_what_was_said_since(
    open_store: Open, clock: Clock, archive: Archive
) -> None:
    with open_store() as store:
        say(store, "s", "a", "b")
        store.describe("s", name="Old", channel="C")
        began = store.session("s")
        clock.advance(hours=2)
        finish(store.cleanup(1, archive=archive))
        ids = say(store, "s", "c", "d")
        store.describe("s", name="New")
        live = store.session("s")
        assert bring_back(store, archive, "s").messages == 2
        assert contents(store, "s") == ["a", "b", "c", "d"]
        store.remove("s", ids[0])
        assert store.remove_last("s")
    with open_store() as store:
        say(store, "s", "e")
        assert contents(store, "s") == ["a", "b", "e"]
        assert found(store, "d") == set()
        session = store.session("s")
        assert began is not None
        assert live is not None
        assert session is not None
        assert (session.name, session.channel) == ("New", None)
        assert session.created_at == began.created_at
        assert session.last_activity == live.last_activity
        assert store.verify() == []


def test_it_can_come_back_as_another_session_and_pinned(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    say(store, "s", "a", "b")
    clock.advance(hours=2)
    finish(store.cleanup(1, archive=archive))
    say(store, "s", "c")
    assert bring_back(store, archive, "s", into="s/old", pin=True).key == "s/old"
    assert (contents(store, "s"), contents(store, "s/old")) == (["c"], ["a", "b"])
    clock.advance(hours=2)
    assert finish(store.cleanup(1)).keys == ("s",)
    bring_back(store, archive, "s")
    assert contents(store, "s/old") == ["a", "b"]


def test_messages_that_are_still_there_do_not_come_to_another_session(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    bring_back_once(store, clock, archive)
    report = bring_back(store, archive, "s", into="copy", pin=True)
    assert (report.messages, report.present) == (0, 2)
    assert keys(store) == {"s"}
    store.describe("copy", name="N")
    bring_back(store, archive, "s", into="copy", pin=True)
    copy = store.session("copy")
    assert copy is not None
    assert (copy.name, copy.pinned, copy.message_count) == ("N", True, 0)
    assert store.verify() == []


@pytest.mark.parametrize("is_reopened", [False, True])
def test_what_came_back_as_another_session_does_not_come_back_once_more(
    open_store: Open, clock: Clock, archive: Archive, is_reopened: bool
) -> None:
    store = open_store()
    say(store, "s", "a", "b")
    clock.advance(hours=2)
    finish(store.cleanup(1, archive=archive))
    bring_back(store, archive, "s", into="copy")
    store.describe("copy", name="Copy")
    if is_reopened:
        store.close()
        store = open_store()
    for into in (None, "copy 2"):
        report = bring_back(store, archive, "s", into=into)
        assert (report.messages, report.present) == (0, 2)
    assert keys(store) == {"copy"}
    say(store, "s", "c")
    bring_back(store, archive, "s")
    assert (contents(store, "s"), contents(store, "copy")) == (["c"], ["a", "b"])
    store.delete("copy")
    assert bring_back(store, archive, "s").messages == 2
    assert contents(store, "s") == ["a", "b", "c"]


def test_a_restoration_that_brought_nothing_is_not_carried_out_later(
    open_store: Open, clock: Clock, archive: Archive
) -> None:
    operation = Restore(new_op_id(), 0, "s", into="copy")
    with open_store() as store:
        say(store, "s", "a")
        clock.advance(hours=2)
        finish(store.cleanup(1, archive=archive))
        bring_back(store, archive, "s")
        assert finish(restore(store.store, archive, operation)).messages == 0
        store.delete("s")
    with open_store() as store:
        finish(restore(store.store, archive, operation))
        assert keys(store) == set()


@pytest.mark.needs("files")
def test_what_went_at_different_times_comes_back_in_order(
    store: StoreUnderTest, clock: Clock, archive: Archive, rules: Rules
) -> None:
    capped = rules('[default]\nttl = "1h"\nkeep_messages = 2')
    for first in (1, 4):
        say(store, "s", *map(str, range(first, first + 3)))
        finish(store.cleanup(capped, archive=archive))
    clock.advance(hours=2)
    finish(store.cleanup(capped, archive=archive))
    say(store, "s", "7")
    clock.advance(hours=2)
    finish(store.cleanup(capped, archive=archive))
    assert len(archive.files()) == 4
    assert bring_back(store, archive, "s").messages == 7
    assert contents(store, "s") == list("1234567")


def test_what_was_rolled_back_after_it_came_back_stays_away(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    ids = say(store, "s", "a", "b", "c")
    clock.advance(hours=2)
    finish(store.cleanup(1, archive=archive))
    bring_back(store, archive, "s")
    store.remove("s", ids[1])
    store.replace("s", ChatMessage.user("C"), ids[2])
    clock.advance(hours=2)
    finish(store.cleanup(1, archive=archive))
    bring_back(store, archive, "s")
    assert contents(store, "s") == ["a", "C"]


def test_a_session_that_no_file_has_is_refused(store: StoreUnderTest, archive: Archive) -> None:
    with pytest.raises(OperationRefusedError, match="restore --list"):
        bring_back(store, archive, "nobody")
    with pytest.raises(OperationRefusedError, match="BACKSCROLL_ARCHIVE"):
        finish(restore(store.store, None, Restore(new_op_id(), 0, "s")))
    with pytest.raises(ArchiveError, match="not a valid name"):
        bring_back(store, archive, "s", file="../../etc/passwd")


@pytest.mark.needs("erasure")
def test_what_was_erased_does_not_come_back_from_a_file_that_was_elsewhere(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    say(store, "s", "a")
    store.describe("s", sender="somebody")
    clock.advance(hours=2)
    finish(store.cleanup(1, archive=archive))
    clock.advance(hours=2)
    finish(store.erase(sender="somebody"))
    with pytest.raises(OperationRefusedError, match="has no session"):
        bring_back(store, archive, "s")


@pytest.mark.needs("files")
def test_a_damaged_file_is_an_error_and_changes_nothing(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    say(store, "s", "a", "b")
    clock.advance(hours=2)
    finish(store.cleanup(1, archive=archive))
    (file,) = archive.files()
    content = bytearray(file.data.read_bytes())
    content[len(content) // 2] ^= 1
    file.data.write_bytes(content)
    with pytest.raises(ArchiveError, match="is damaged: its SHA-256"):
        bring_back(store, archive, "s")
    assert store.session("s") is None


@pytest.mark.needs("erasure")
@pytest.mark.parametrize(("subject", "left"), [({"author": "ann"}, ["b"]), ({"sender": "S"}, [])])
def test_what_is_erased_while_a_restoration_reads_it_does_not_come_back(
    store: StoreUnderTest,
    clock: Clock,
    archive: Archive,
    monkeypatch: pytest.MonkeyPatch,
    subject: dict[str, str],
    left: list[str],
) -> None:
    said = ChatMessage.user("a", author="ann"), ChatMessage.user("b")
    store.append("s", *said, session={"sender": "S"})
    clock.advance(hours=2)
    finish(store.cleanup(1, archive=archive))
    erase, lines = requests.erase(**subject), ArchiveFile.lines
    read, erased = list[ArchiveFile](), 0

    def noted_lines(file: ArchiveFile) -> Iterator[ArchivedLine]:
        yield from lines(file)
        read.append(file)

    with monkeypatch.context() as patched, suppress(OperationRefusedError):  # nothing may be left
        patched.setattr(SliceClock, "is_over", True)
        patched.setattr(ArchiveFile, "lines", noted_lines)
        for _ in restore(store.store, archive, Restore(new_op_id(), clock.now, "s")):
            if read:
                apply_all(store, [erase])
                erased += 1
    assert (len(read), erased) == (1, 1)
    finish(store.store.erase(erase))
    assert contents(store, "s") == left
