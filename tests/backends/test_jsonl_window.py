"""How much of a JSONL session is read: as much as requested, however long it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.messages import ChatMessage, SessionFilter
from backscroll_worker.stores.jsonl import window
from backscroll_worker.stores.jsonl.lines import note_platform_ids
from backscroll_worker.stores.jsonl.transcript import parse, tally
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import StoreUnderTest, open_tested, say
from tests.backends.jsonl_files import write_as_the_original


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"jsonl://{tmp_path / 'store'}"


def read_bytes() -> int:
    """The number of bytes that this process has read so far."""
    first = Path("/proc/self/io").read_text().splitlines()[0]
    return int(first.removeprefix("rchar: "))


def fill(store: StoreUnderTest, count: int) -> list[str]:
    ids = []
    for start in range(0, count, 1_000):
        texts = (ChatMessage.user(f"{start + n} " + "x" * 80) for n in range(1_000))
        ids += store.append("s", *texts)
    return ids


def loading(
    directory: Path, *, read_only: bool = True, **options: Any
) -> tuple[list[str | None], int]:
    """The answer to a load by a fresh reader, and the number of bytes that it reads."""
    with open_tested(f"jsonl://{directory}", read_only=read_only) as reader:
        before = read_bytes()
        found = [message.message_id for message in reader.load("s", 50, **options)]
        return found, read_bytes() - before


@pytest.mark.parametrize("read_only", [False, True])
def test_the_bytes_read_for_the_newest_do_not_grow_with_the_session(
    open_store: Open, tmp_path: Path, read_only: bool
) -> None:
    taken, ids = [], list[str]()
    for count in (4_000, 12_000):
        with open_store() as store:
            ids += fill(store, count)
        found, size = loading(tmp_path / "store", read_only=read_only)
        assert found == ids[-50:]
        taken.append(size)
    assert taken[1] < taken[0] * 1.5


def test_the_bytes_read_for_the_newest_follow_from_their_number(
    open_store: Open, tmp_path: Path
) -> None:
    with open_store() as store:
        say(store, "s", *["x" * 500] * 300)
    _, for_50 = loading(tmp_path / "store")
    with open_tested(f"jsonl://{tmp_path / 'store'}", read_only=True) as reader:
        before = read_bytes()
        assert len(reader.load("s", 1)) == 1
        assert read_bytes() - before < for_50 / 4


def test_a_page_before_or_around_a_message_reads_no_further_than_to_it(
    open_store: Open, tmp_path: Path
) -> None:
    with open_store() as store:
        ids = fill(store, 10_000)
    (file,) = (tmp_path / "store").glob("s.jsonl")
    place = 9_000
    found, size = loading(tmp_path / "store", before=ids[place])
    assert found == ids[place - 50 : place]
    assert size < file.stat().st_size
    found, size = loading(tmp_path / "store", around=ids[place])
    assert found == ids[place - 25 : place + 25]
    assert size < file.stat().st_size


@pytest.mark.parametrize("field", ["reply_to", "message_id"])
def test_an_id_that_many_messages_contain_is_searched_once(
    open_store: Open, tmp_path: Path, field: str
) -> None:
    with open_store() as store:
        first, gone = fill(store, 1_000)[:2]
        store.remove("s", gone)
        for id_ in (first, gone):
            replies = [ChatMessage.user("x" * 80, extra={field: id_})] * 500
            store.append("s", *replies)
    (file,) = (tmp_path / "store").glob("s.jsonl")
    found, size = loading(tmp_path / "store", around=first)
    assert found[0] == first
    assert size < 8 * file.stat().st_size
    with open_tested(f"jsonl://{tmp_path / 'store'}") as reader:
        before = read_bytes()
        with pytest.raises(OperationRefusedError, match="it may be rolled back"):
            reader.load("s", 5, before=gone)
        assert read_bytes() - before < 8 * file.stat().st_size


def test_a_page_beside_a_message_without_an_id_reads_a_part(
    tmp_path: Path, open_store: Open
) -> None:
    (tmp_path / "store").mkdir()
    file = tmp_path / "store" / "s.jsonl"
    write_as_the_original(file, *(f"{n} " + "x" * 200 for n in range(4_000)))
    with open_store() as store:
        (place,) = [each.message_id for each in store.load("s")[2_000:2_001]]
    found, size = loading(tmp_path / "store", around=place)
    assert found[25] == place
    assert size < file.stat().st_size / 2


@pytest.mark.parametrize(
    "options",
    [
        {"legal": True},
        {"max_tokens": 2_000},
        {"role": "user"},
        {"active": True},
        {"active": True, "max_tokens": 500},
    ],
    ids=str,
)
def test_the_bytes_read_for_a_model_do_not_grow_with_the_session(
    open_store: Open, tmp_path: Path, options: dict[str, Any]
) -> None:
    taken, ids = [], list[str]()
    for count in (4_000, 8_000):
        with open_store() as store:
            ids += fill(store, count)
            store.append("s", ChatMessage.summary("x", upto=ids[-60]))
        found, size = loading(tmp_path / "store", **options)
        assert ids[-20:] == found[-21:-1] or ids[-20:] == found[-20:]
        taken.append(size)
    assert taken[1] < taken[0] * 1.5


def test_the_bytes_read_for_a_page_forward_do_not_grow_with_the_session(
    open_store: Open, tmp_path: Path
) -> None:
    taken, ids = [], list[str]()
    for count in (4_000, 8_000):
        with open_store() as store:
            ids += fill(store, count)
        found, size = loading(tmp_path / "store", after=ids[-900])
        assert found == ids[-899:-849]
        taken.append(size)
        found, size = loading(tmp_path / "store", oldest=True)
        assert found == ids[:50]
        taken.append(size)
    assert taken[2] < taken[0] * 1.5
    assert taken[3] < taken[1] * 1.5


def test_paging_forward_gives_each_message_once(open_store: Open) -> None:
    with open_store() as store:
        ids = fill(store, 2_000)
    store, seen = open_store(), ids[:1]
    while page := store.load("s", 170, after=seen[-1]):
        seen += [str(message.message_id) for message in page]
    assert seen == ids


def test_paging_back_gives_each_message_once(open_store: Open) -> None:
    with open_store() as store:
        ids = fill(store, 2_000)
    store, before, seen = open_store(), None, list[str | None]()
    while page := store.load("s", 170, before=before):
        seen = [*(message.message_id for message in page), *seen]
        before = page[0].message_id
    assert seen == ids
    with pytest.raises(OperationRefusedError, match="has no message"):
        store.load("s", 5, before="nobody's")


def test_messages_of_the_original_are_paged_too(tmp_path: Path, open_store: Open) -> None:
    (tmp_path / "store").mkdir()
    write_as_the_original(tmp_path / "store" / "s.jsonl", *map(str, range(3_000)))
    store, before, seen = open_store(), None, list[str]()
    while page := store.load("s", 400, before=before):
        seen = [*(message.content for message in page), *seen]
        before = page[0].message_id
    assert seen == list(map(str, range(3_000)))


def test_what_a_group_has_appended_so_far_is_loaded_with_what_was_there(open_store: Open) -> None:
    with open_store() as store:
        say(store, "s", "a", "b")
    store = open_store()
    say(store, "s", "c")
    assert [message.content for message in store.load("s", 2)] == ["b", "c"]
    store.remove_last("s")
    assert [message.content for message in store.load("s", 2)] == ["a", "b"]


LINES = st.sampled_from(
    [
        b'{"role":"user","content":"\xc3\xa9"}',
        b'{"role":"user","content":"id","message_id":"q","created_at":5,"extra":{"message_id":"m"}}',
        b'{"role":"user","content":"a","message_id":"m","created_at":5,"part":[0,2]}',
        b'{"role":"user","content":"b","message_id":"m-1","created_at":5,"part":[1,2]}',
        b'{"role":"user","content":"p","message_id":"%032x","created_at":5,"platform_id":"p"}' % 8,
        b'{"role":"user","content":"p","platform_id":"p"}',
        b'{"applied":[["op",5,0]]}',
        b'{"applied":[["m",5,2],["q",5,3]]}',
        b'{"role":"user","content":"c","message_id":"%032x","created_at":5}' % 7,
        b'{"applied":[["%032x",5,4]]}' % 7,
        b'{"role":"user","content":"torn',
        b'"role":"x","content":"y"}',
        b"{",
        b'{"role":"user","content":"x"}{"role":"user","content":"y"}',
        b"\0\0",
        b"",
    ]
)


@given(st.lists(LINES, max_size=24), st.booleans(), st.integers(1, 6), st.integers(8, 300))
@settings(deadline=None, max_examples=200)
def test_a_part_of_a_file_is_read_as_the_whole_is(
    tmp_path_factory: pytest.TempPathFactory,
    raws: list[bytes],
    ends: bool,
    count: int,
    part_bytes: int,
) -> None:
    content = b"\n".join(raws) + (b"\n" if ends else b"")
    whole = parse(content, "k", 7)
    messages = [line.message for line in whole.lines]
    counted = whole.known(), len(messages), note_platform_ids(whole.lines, {})
    assert tally(content.splitlines(keepends=True), "k", 7) == counted
    path = tmp_path_factory.getbasetemp() / "window.jsonl"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch, path.open("rb") as file:
        patch.setattr(window, "_PART_BYTES", part_bytes)
        patch.setattr(window, "_BYTES_PER_SEARCH", part_bytes)
        part = window.PartReader(file.fileno(), "k", 7)
        newest = part.newest(count)
        if newest is not None:
            assert [line.message for line in newest.lines][-count:] == messages[-count:]
        ids = [message.message_id for message in messages]
        if (back := part.back(None)) is not None:
            assert [line.message for line in back] == messages[::-1]
        if (onward := part.onward(None)) is not None:
            assert [line.message for line in onward] == messages
        for place, message in enumerate(messages):
            id_ = str(message.message_id)
            for lines, rest in (
                (part.back(id_), messages[:place][::-1]),
                (part.onward(id_), messages[place + 1 :]),
            ):
                assert lines is None or ids.count(id_) > 1 or [x.message for x in lines] == rest
            beside = part.beside(str(message.message_id), count, count)
            if beside is None or ids.count(message.message_id) > 1:  # which is damage
                continue
            found = [line.message for line in beside.lines]
            first = beside.position - min(count, place)
            assert (
                found[first : beside.position + count]
                == messages[max(0, place - count) : place + count]
            )


def test_a_page_of_a_listing_reads_no_more_sessions_than_it_has(tmp_path: Path) -> None:
    with open_tested(f"jsonl://{tmp_path / 'store'}") as store:
        for number in range(300):
            store.append(f"s{number}", ChatMessage.user("x"))
            store.describe(f"s{number}", channel="c", name="x" * 400)
        taken = []
        for limit in (10, 300):
            before = read_bytes()
            page = store.sessions(SessionFilter(channel="c"), limit=limit)
            taken.append(read_bytes() - before)
            assert [info.key for info in page.sessions] == [f"s{299 - n}" for n in range(limit)]
        assert taken[0] < taken[1] / 10
