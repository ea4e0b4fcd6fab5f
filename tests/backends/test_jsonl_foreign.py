"""Files damaged by crashes, editors and other programs: what is read, and that nothing is lost."""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path

import pytest

from backscroll.contract.messages import ChatMessage
from backscroll_worker.contract.pacing import finish
from backscroll_worker.stores.jsonl.transcript import parse, stream
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import contents, say

ONE = b'{"role":"user","content":"one"}'
TWO = b'{"role":"assistant","content":"two","extra":{"n":[1]}}'
BOM = b"\xef\xbb\xbf"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"jsonl://{tmp_path / 'store'}"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


WHOLE = {
    "mark": BOM + ONE + b"\n" + TWO,
    "mark inside": ONE + b"\n" + BOM + TWO + b"\n",
    "marks glued": BOM + ONE + BOM + TWO,
    "carriage returns": ONE + b"\r" + TWO + b"\r",
    "both ends": ONE + b"\r\n\r\n" + TWO + b"\r\n",
    "on one line": ONE + TWO + b"\n",
    "a list": b"[" + ONE + b",\n" + TWO + b"]",
    "UTF-16": (ONE + b"\n" + TWO).decode().encode("utf-16"),
    "UTF-16 unmarked": (ONE + b"\n" + TWO + b"\n").decode().encode("utf-16-be"),
    "UTF-32": (ONE + b"\n" + TWO).decode().encode("utf-32"),
    "over lines": ONE.replace(b",", b",\n  ") + b"\n" + TWO.replace(b"{", b"{\n"),
}
LEFT_OVER = {
    "zeros before": (b"\0" * 99 + ONE + b"\n" + TWO, b"\0" * 99),
    "zeros behind": (ONE + b"\n" + TWO + b"\0" * 99, b"\0" * 99),
    "zeros between": (ONE + b"\0\0" + TWO, b"\0\0"),
    "garbage behind": (ONE + b"garbage\n" + TWO, b"garbage"),
    "torn": (ONE + b'\n{"role":"us' + TWO, b'{"role":"us'),
    "a record of more": (ONE + b'\n{"applied":[],"n":1}\n' + TWO, b'{"applied":[],"n":1}'),
    "two records": (ONE + b'\n{"applied":7,"applied":[]}\n' + TWO, b'{"applied":7,"applied":[]}'),
}


@pytest.mark.parametrize("name", [*WHOLE, *LEFT_OVER])
def test_what_can_be_read_is_loaded_and_no_compaction_loses_any(
    directory: Path, open_store: Open, name: str
) -> None:
    content, left = LEFT_OVER.get(name) or (WHOLE[name], None)
    path = directory / "s.jsonl"
    path.write_bytes(content)
    with open_store() as store:
        assert contents(store, "s") == ["one", "two"]
        assert [message.content for message in store.stream("s")] == ["one", "two"]
        assert len(store.verify()) == (left is not None)
        finish(store.compact(0))
        assert store.verify() == []
        say(store, "s", "three")
    store = open_store()
    assert contents(store, "s") == ["one", "two", "three"]
    store.remove_last("s")
    assert contents(store, "s") == ["one", "two"]
    aside = directory / "s.jsonl.damaged"
    assert (aside.read_bytes() if left is not None else None) == (left and left + b"\n")


@pytest.mark.parametrize("change", ["rollback", "replace", "repair"])
def test_every_rewrite_of_a_file_sets_aside_what_it_cannot_read(
    directory: Path, open_store: Open, change: str
) -> None:
    (directory / "s.jsonl").write_bytes(ONE + b"\nlost?\n" + TWO + b"\n")
    store = open_store()
    if change == "rollback":
        store.remove_last("s")
    elif change == "replace":
        store.replace("s", ChatMessage.user("new"))
    else:
        store.repair(store.verify())
    assert b"lost?" not in (directory / "s.jsonl").read_bytes()
    assert (directory / "s.jsonl.damaged").read_bytes() == b"lost?\n"


@pytest.mark.parametrize("cut", range(1, len(TWO)))
def test_a_record_behind_one_that_is_torn_anywhere_is_read(cut: int) -> None:
    found = parse(TWO[:cut] + ONE + b"\n" + TWO, "k", 7)
    assert [line.message.content for line in found.lines] == ["one", "two"]
    assert [damage.raw for damage in found.damage] == [TWO[:cut]]


@pytest.mark.parametrize(
    "torn",
    [
        b'{"role":"user","content":"x","extra":{"quoted":{"role":"a","content":"b"}},"mess',
        b'{"role":"user","content":"x","a":tru\0,"quoted":{"role":"a","content":"b"},"n":1}',
        b'{"role":"user","content":"x","edits":[{"role":"a","content":"b","replaced_at":5}',
    ],
)
def test_what_a_torn_message_quotes_is_not_a_message(torn: bytes) -> None:
    found = parse(torn + b"\n" + ONE, "k", 7)
    assert [line.message.content for line in found.lines] == ["one"]
    assert [damage.raw for damage in found.damage] == [torn]


@pytest.mark.parametrize(
    ("line", "role", "content", "extra"),
    [
        (b'{"content":"x"}', "unknown", "x", None),
        (b'{"role":7,"content":"x"}', "unknown", "x", {"role": 7}),
        (b'{"role":"user","content":null}', "user", "", None),
        (b'{"role":"a","tool_calls":[1]}', "a", "", {"tool_calls": [1]}),
        (b'{"role":"a","content":[{"text":"x"},"y",{"u":1}]}', "a", "x\ny",
         {"content": [{"text": "x"}, "y", {"u": 1}]}),
        (b'{"role":"a","content":"x","content":"y"}', "a", "y",
         {"duplicate_fields": [["content", "x"]]}),
        (b'{"role":"a","content":"x","n":NaN,"i":123456789012345678901}', "a", "x",
         {"n": "NaN", "i": "123456789012345678901"}),
        (b'{"role":"a","content":"x","extra":{"n":1},"n":2,"ts":"never"}', "a", "x",
         {"n": 1, "n_": 2, "ts": "never"}),
        (b'{"role":"a","content":"\\ud800 caf\xe9"}', "a", "\ufffd caf\ufffd", None),
        (b'{"role":"a","content":"x","content" : "y"}', "a", "y",
         {"duplicate_fields": [["content", "x"]]}),
        (b'{"role":"a","content":"x","n":1,"n":2,"duplicate_fields":3}', "a", "x",
         {"n": 2, "duplicate_fields": 3, "duplicate_fields_": [["n", 1]]}),
        (b'{"role":"a","content":"x","message_id":15,"created_at":"never"}', "a", "x",
         {"message_id": 15, "created_at": "never"}),
        (b'{"role":"a","content":"x","part":[0,2]}', "a", "x", {"part": [0, 2]}),
        (b'{"role":"a","content":"x","part":"one"}', "a", "x", {"part": "one"}),
        (b'{"role":"a","content":"x","edits":[{"role":"b","content":"y","replaced_at":7,"n":1}]}',
         "a", "x", {"edits": [{"role": "b", "content": "y", "replaced_at": 7, "n": 1}]}),
    ],
)  # fmt: skip
def test_an_odd_line_becomes_a_message_that_keeps_what_it_says(
    directory: Path, open_store: Open, line: bytes, role: str, content: str, extra: object
) -> None:
    (directory / "s.jsonl").write_bytes(line + b"\n")
    with open_store() as store:
        (before,) = store.load("s")
        assert (before.role, before.content, before.extra) == (role, content, extra)
        say(store, "s", "more")
        store.remove_last("s")
    assert open_store().load("s") == [before], "it is the same after the file was rewritten"


@pytest.mark.parametrize(
    "written",
    ["1700000000", "1700000000000", "1700000000000000", '"1700000000.0"',
     '"2023-11-14T22:13:20Z"', '"2023-11-15T01:13:20.000000000+03:00"', '"2023-11-14 22:13:20"'],
)  # fmt: skip
@pytest.mark.parametrize("name", ["timestamp", "ts", "created_at"])
def test_a_time_is_read_in_whatever_unit_it_is(name: str, written: str) -> None:
    found = parse(f'{{"role":"user","content":"x","{name}":{written}}}'.encode(), "k", 7)
    (message,) = (line.message for line in found.lines)
    assert message.created_at is not None
    assert (message.created_at.timestamp(), message.extra) == (1_700_000_000, None)


@pytest.mark.parametrize(
    "part",
    [b'{"a":', b"{", b'{"', ONE + b"\r", b'{"a":{}x', b"\0\0" + ONE, b'{"a":{"b":"', b'{"a":\n'],
)
def test_time_per_byte_is_flat_whatever_a_file_holds(part: bytes) -> None:
    def seconds(size: int) -> float:
        content, best = part * (size // len(part)), float("inf")
        for _ in range(4):
            start = time.thread_time()  # of the processor: others may use this machine, too
            list(stream(BytesIO(content), "k", 7))
            best = min(best, time.thread_time() - start)
        return best

    assert seconds(8 * 4_096) < 24 * (seconds(4_096) + 0.001)


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (b'{"role":"a","content":"x","message_id":"7","created_at":1700000000,"name":"b"}', 17e8),
        (b'{"role":"a","content":"x","message_id":"7","created_at":1700000000}', 1_700.0),
    ],
)
def test_what_looks_like_a_line_of_ours_is_of_microseconds(line: bytes, seconds: float) -> None:
    ((message,),) = ([each.message for each in parse(line, "k", 7).lines],)
    assert message.created_at is not None
    assert message.created_at.timestamp() == seconds
