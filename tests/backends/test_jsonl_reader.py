"""Single files read for migration, and which key a file belongs to."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscroll.contract.errors import InvalidInputError, StoreUnavailableError
from backscroll.contract.messages import ChatMessage, EarlierVersion, from_micros
from backscroll_worker.stores.jsonl import key_of, read_session_file
from backscroll_worker.stores.jsonl.file_names import SessionNames
from backscroll_worker.stores.jsonl.transcript import parse, stream
from backscroll_worker.testing.stores import Clock, open_tested, say


def test_a_file_of_the_original_is_read_with_its_corrupt_lines_numbered(
    tmp_path: Path,
) -> None:
    path = tmp_path / "telegram_alice.jsonl"
    path.write_text('{"role":"user","content":"hi"}\n\ncorrupt\n{"role":"a","content":""}\nworse')
    os.utime(path, ns=(0, 7_000_000))
    session = read_session_file(path)
    assert session.key == "telegram_alice"
    assert [(message.role, message.content) for message in session.messages] == [
        ("user", "hi"),
        ("a", ""),
    ]
    assert [damage.number for damage in session.damage] == [3, 5]
    assert (session.created_at, session.last_activity, session.attributes) == (7_000, 7_000, {})
    assert {message.created_at for message in session.messages} == {from_micros(7_000)}


def test_ids_made_for_lines_without_one_are_the_same_each_time_and_differ(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text('{"role":"user","content":"same"}\n' * 3)
    ids = [
        message.message_id
        for name in ("a.jsonl", "b.jsonl")
        for message in read_session_file(tmp_path / name).messages
    ]
    again = [message.message_id for message in read_session_file(tmp_path / "a.jsonl").messages]
    assert len(set(ids)) == 6
    assert again == ids[:3]


def test_a_file_of_ours_is_read_with_everything(tmp_path: Path) -> None:
    clock = Clock()
    with open_tested(f"jsonl://{tmp_path}", clock=clock) as store:
        store.append("a/b", ChatMessage.user("x", n=1), ChatMessage.assistant("y"))
        clock.advance(seconds=9)
        say(store, "a/b", "z")
        store.describe("a/b", name="Chat", agent="helper", pinned=True)
        messages, info = store.load("a/b"), store.session("a/b")
    session = read_session_file(tmp_path / "a%2Fb.jsonl")
    assert info is not None
    assert (session.key, list(session.messages)) == ("a/b", messages)
    assert session.attributes == {"name": "Chat", "agent": "helper", "pinned": True}
    assert from_micros(session.created_at) == info.created_at
    assert from_micros(session.last_activity) == info.last_activity


def test_a_file_without_the_name_of_a_session_is_refused(tmp_path: Path) -> None:
    (tmp_path / "my notes.jsonl").write_text("")
    with pytest.raises(InvalidInputError, match="my notes"):
        read_session_file(tmp_path / "my notes.jsonl")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=r"gone\.jsonl"):
        read_session_file(tmp_path / "gone.jsonl")


@pytest.mark.parametrize(
    "name",
    [
        "x",
        "x.json",
        "x.jsonl.migrated",
        ".jsonl",
        "a b.jsonl",
        "a\udcff.jsonl",
        "%.jsonl",
        "%2.jsonl",
        "%2f.jsonl",
        "%61.jsonl",
        "%00.jsonl",
        "%FF.jsonl",
        "x%~0.jsonl",
    ],
)
def test_such_a_file_name_belongs_to_no_key(name: str) -> None:
    assert key_of(Path(name)) is None


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60))
@settings(deadline=None)
def test_a_name_leads_back_to_its_key(key: str) -> None:
    names = SessionNames.of(key)
    assert all("/" not in name and len(name.encode()) <= 255 for name in names)
    assert "%~" in names.messages or key_of(Path(names.messages)) == key


@given(
    st.lists(
        st.sampled_from(
            [
                b'{"role":"user","content":"\xc3\xa9"}',
                b'{"role":"user","content":"a","message_id":"m","created_at":5,"part":[0,2]}',
                b'{"role":"user","content":"b","message_id":"m-1","created_at":5,"part":[1,2]}',
                b'{"applied":[["op",5,0]]}',
                b"torn",
                b" \t",
                b"",
            ]
        ),
        max_size=8,
    ),
    st.booleans(),
)
def test_what_is_streamed_is_what_is_read_at_once(lines: list[bytes], ends: bool) -> None:
    content = b"\n".join(lines) + (b"\n" if ends else b"")
    at_once = parse(content, "k", 7)
    assert list(stream(BytesIO(content), "k", 7)) == at_once.lines


def test_invalid_earlier_versions_are_skipped(tmp_path: Path) -> None:
    good = '{"role":"user","content":"was","extra":{"n":1},"replaced_at":5}'
    bad = ('7', '{}', '{"role":"user","content":"x"}', '{"role":1,"content":"x","replaced_at":5}',
           '{"role":"user","content":"x","replaced_at":-1}')  # fmt: skip
    path = tmp_path / "k.jsonl"
    path.write_text(f'{{"role":"user","content":"is","edits":[{",".join((*bad, good))}]}}\n')
    (message,) = read_session_file(path).messages
    assert message.edits == (EarlierVersion("user", "was", {"n": 1}, from_micros(5)),)
    path.write_text('{"role":"user","content":"is","edits":{"x":1}}\n')
    assert read_session_file(path).messages[0].edits == ()
