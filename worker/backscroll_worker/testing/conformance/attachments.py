"""What every store promises of attachments: their bytes, once each, while a message has them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backscroll.contract.attachments import Attachment
from backscroll.contract.errors import (
    InvalidInputError,
    OperationRefusedError,
    StoreUnavailableError,
)
from backscroll.contract.filters import SearchFilter
from backscroll.contract.messages import ChatMessage
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import Slices, finish
from backscroll_worker.testing.fixtures import Open, Rules
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    bring_back,
    contents,
    requests,
)

NEEDS = "attachments"

CAT, DOG = b"\x89PNG cat \0\xff" * 50, b"dog"
OF_CAT, OF_DOG = (hashlib.sha256(data).hexdigest() for data in (CAT, DOG))
LINK = Attachment("video", None, None, 7, "https://example.org/v", platform_id="f1")


def picture(data: bytes = CAT, name: str = "cat.png") -> Attachment:
    return Attachment("image", name, "image/png", data=data)


def with_data(*data: bytes, content: str = "look", author: str | None = None) -> ChatMessage:
    return ChatMessage.user(content, author=author, attachments=[*map(picture, data)])


def blobs(store: StoreUnderTest) -> int:
    """How many the store has, each of which it can give."""
    assert store.verify(deep=True) == []
    return int(store.totals().blobs)


def test_a_message_comes_back_with_what_is_attached(open_store: Open) -> None:
    said = ChatMessage.user("", attachments=[picture(), LINK, picture(b"", "empty")])
    with open_store() as store:
        store.append("s", ChatMessage.user("plain"))
        (id_,) = store.append("s", said)
    store = open_store()
    plain, message = store.load("s")
    assert plain.attachments == ()
    first = replace(picture(), data=None, size=len(CAT), sha256=OF_CAT)
    empty = hashlib.sha256(b"").hexdigest()
    third = replace(picture(name="empty"), data=None, size=0, sha256=empty)
    assert message.attachments == (first, LINK, third)
    assert store.load("s", around=id_, limit=1) == [message]
    assert store.load("s", legal=True, include_edits=True) == [plain, message]
    assert list(store.stream("s")) == [plain, message]
    assert store.attachment("s", OF_CAT) == CAT
    assert store.attachment("s", empty) == b""
    assert blobs(store) == 2


def test_only_a_session_with_the_attachment_gives_its_bytes(store: StoreUnderTest) -> None:
    store.append("a", with_data(CAT))
    store.append("b", with_data(DOG))
    assert store.attachment("b", OF_CAT) is None
    assert store.attachment("nobody", OF_CAT) is None
    assert store.attachment("a", "0" * 64) is None
    store.remove_last("a")
    assert store.attachment("a", OF_CAT) is None
    with pytest.raises(InvalidInputError, match="sha256"):
        store.attachment("b", "../" + OF_DOG)


def test_the_same_bytes_are_kept_once_until_no_message_has_them(store: StoreUnderTest) -> None:
    operation = requests.append("a", (with_data(CAT, CAT, DOG), with_data(CAT)))
    store.apply([operation, operation])
    store.append("b", with_data(CAT))
    assert blobs(store) == 2
    store.remove_last("a")
    store.delete("b")
    assert finish(store.compact(1)).blobs_removed == 0
    assert store.attachment("a", OF_CAT) == CAT
    store.remove_last("a")
    assert finish(store.compact(1)).blobs_removed == 2
    assert blobs(store) == 0


REMOVALS: list[Callable[[StoreUnderTest, str], object]] = [
    lambda store, first: store.remove_last("s"),
    lambda store, first: store.clear("s"),
    lambda store, first: store.delete("s"),
    lambda store, first: store.rewind("s", first),
    lambda store, first: store.replace("s", with_data(DOG)),
]


@pytest.mark.parametrize("remove", REMOVALS)
def test_a_compaction_removes_the_bytes_of_what_was_removed(
    store: StoreUnderTest, remove: Callable[[StoreUnderTest, str], object]
) -> None:
    (first,) = store.append("s", ChatMessage.user("first"))
    store.append("s", with_data(CAT))
    remove(store, first)
    assert store.attachment("s", OF_CAT) is None
    finish(store.compact(1))
    left = [each.sha256 for message in store.load("s") for each in message.attachments]
    assert blobs(store) == len(left)


def test_an_edit_keeps_the_attachments_unless_it_has_some(open_keeping: Open) -> None:
    store = open_keeping()
    store.append("s", with_data(CAT))
    store.replace("s", ChatMessage.user("edited"))
    (message,) = store.load("s")
    assert (message.content, message.attachments[0].sha256) == ("edited", OF_CAT)
    store.replace("s", with_data(DOG, content="another"))
    assert store.attachment("s", OF_DOG) == DOG
    assert store.attachment("s", OF_CAT) is None
    assert len(store.load("s", include_edits=True)[0].edits) == 2


def test_an_edit_that_waits_brings_its_attachments(store: StoreUnderTest) -> None:
    store.replace("s", with_data(CAT), platform_id="p")
    finish(store.compact(1))
    store.append("s", ChatMessage.user("late", platform_id="p"))
    assert contents(store, "s") == ["look"]
    assert store.attachment("s", OF_CAT) == CAT


def test_a_loaded_message_is_appended_with_the_bytes_that_are_there(store: StoreUnderTest) -> None:
    store.append("a", with_data(CAT))
    (message,) = store.load("a")
    elsewhere = Attachment("file", "x", size=3, sha256="0" * 64)
    store.append("b", replace(message, attachments=(*message.attachments, elsewhere)))
    store.delete("a")
    finish(store.compact(1))
    assert store.attachment("b", OF_CAT) == CAT
    (again,) = store.load("b")
    assert again.attachments == (*message.attachments, replace(elsewhere, sha256=None))


def test_a_session_that_lives_on_keeps_its_attachments(store: StoreUnderTest) -> None:
    store.append("s", with_data(CAT))
    store.fork("s", "copy")
    store.rename("s", "renamed")
    past = store.reset("renamed") or ""
    finish(store.compact(1))
    assert store.attachment("copy", OF_CAT) == CAT == store.attachment(past, OF_CAT)
    assert store.attachment("renamed", OF_CAT) is store.attachment("s", OF_CAT) is None
    store.delete(past)
    finish(store.compact(1))
    assert store.attachment("copy", OF_CAT) == CAT
    store.delete("copy")
    finish(store.compact(1))
    assert blobs(store) == 0


@pytest.mark.needs("erasure")
@pytest.mark.parametrize("subject", [{"key": "s"}, {"sender": "zoe"}, {"author": "zoe"}])
def test_an_erasure_removes_the_bytes_that_nobody_else_has(
    store: StoreUnderTest, subject: dict[str, str]
) -> None:
    store.append("s", with_data(CAT, b"shared", author="zoe"), session={"sender": "zoe"})
    store.append("other", with_data(b"shared", DOG, author="bob"))
    finish(store.store.erase(requests.erase(**subject)))
    assert blobs(store) == 2
    assert store.attachment("other", OF_DOG) == DOG
    assert store.attachment("s", OF_CAT) is None


@pytest.mark.needs("archive")
def test_what_a_cleanup_archives_has_its_bytes_with_it(
    store: StoreUnderTest, archive: Archive, rules: Rules, clock: Clock
) -> None:
    retention = rules(
        '[default]\nttl = "1h"\n[[rule]]\nkey = "cap"\nttl = "none"\nkeep_messages = 1'
    )
    for key, data in (("s", CAT), ("cap", DOG)):
        store.append(key, with_data(data))
        store.append(key, ChatMessage.user("last"))
    before = {key: store.load(key) for key in ("s", "cap")}
    clock.advance(hours=2)
    report = finish(store.cleanup(retention, archive=archive))
    assert (report.sessions, report.capped) == (1, 1)
    assert blobs(store) == 0
    for key, messages in before.items():
        bring_back(store, archive, key)
        assert store.load(key) == messages
    assert blobs(store) == 2
    assert (store.attachment("s", OF_CAT), store.attachment("cap", OF_DOG)) == (CAT, DOG)


def test_a_cleanup_removes_the_bytes_of_what_goes(
    store: StoreUnderTest, rules: Rules, clock: Clock
) -> None:
    store.append("s", with_data(CAT))
    store.append("deleted", with_data(DOG))
    store.delete("deleted")
    clock.advance(hours=2)
    finish(store.cleanup(rules('[default]\nttl = "1h"'), dry_run=True))
    assert blobs(store) == 2
    finish(store.cleanup(rules('[default]\nttl = "1h"')))
    assert blobs(store) == 0


@pytest.mark.parametrize("work", ["compact", "erase"])
def test_what_arrives_during_a_sweep_is_not_removed_by_it(
    open_store: Open, clock: Clock, work: str
) -> None:
    store, data = open_store(), [b"%d" % number for number in range(120)]
    for number in range(12):
        store.append(f"k{number}", with_data(*data[number * 10 : number * 10 + 10]))
        store.delete(f"k{number}")
    slices: Slices[object] = (
        store.compact(1) if work == "compact" else store.store.erase(requests.erase("k1"))
    )
    said = 0
    for _ in slices:
        clock.advance(seconds=1)
        store.append(f"new{said % 7}", with_data(data[said * 7 % 120]))
        if said % 3 == 2:  # what refers to it moves from one file or row to another
            (message, *_) = store.load(f"new{said % 7}")
            store.delete(f"new{said % 7}")
            store.append(f"a{said}", message)
        said += 1
    assert said > 3
    assert store.verify(deep=True) == []
    finish(store.compact(1))
    assert store.verify(deep=True) == []


def test_names_of_attachments_are_searched_when_asked(store: StoreUnderTest) -> None:
    for name, key in (("Übersicht Mai.pdf", "a"), ("cat.png", "a"), ("cat 2.png", "b")):
        store.append(key, ChatMessage.user(name[::-1], attachments=[picture(name=name), LINK]))
    store.append("a", ChatMessage.user("cat.png"), ChatMessage.user("x", cat="png"))

    def found(query: str, key: str | None = None) -> list[str]:
        page = store.search(query, SearchFilter(key), within="attachments")
        return [hit.highlighted() for hit in page]

    assert found("ubersicht pdf") == ["[Übersicht] Mai.[pdf]"]
    assert sorted(found("cat png")) == ["[cat] 2.[png]", "[cat].[png]"]
    assert found("cat -2") == ["[cat].png"]
    assert found("cat", key="b") == ["[cat] 2.png"]
    assert found("example") == []


@pytest.mark.needs("files")
def test_lost_and_damaged_bytes_are_reported(store: StoreUnderTest) -> None:
    store.append("s", with_data(CAT, DOG, b"fine"))
    place = store.blobs.path
    (place / OF_CAT[:2] / OF_CAT).unlink()
    (place / OF_DOG[:2] / OF_DOG).write_bytes(b"dig")
    for sha256, problem in ((OF_CAT, "missing"), (OF_DOG, "damaged")):
        with pytest.raises(OperationRefusedError, match=problem):
            store.attachment("s", sha256)
    assert [OF_CAT in finding.problem for finding in store.verify()] == [True]
    assert [finding.problem[-67:-64] for finding in store.verify(deep=True)] == ["g: ", "d: "]
    store.append("s", with_data(CAT))
    assert store.attachment("s", OF_CAT) == CAT


@pytest.mark.needs("files")
def test_nothing_is_stored_where_the_bytes_cannot_be(store: StoreUnderTest) -> None:
    place: Path = store.blobs.path
    place.write_text("in the way")
    group = [
        requests.append("s", (ChatMessage.user("one"),)),
        requests.append("s", (with_data(CAT),)),
    ]
    with pytest.raises(StoreUnavailableError, match=place.name):
        store.apply(group)
    assert store.load("s") == []
    place.unlink()
    store.apply(group)
    assert contents(store, "s") == ["one", "look"]
    assert blobs(store) == 1
