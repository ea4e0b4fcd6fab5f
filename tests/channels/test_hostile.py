"""Whatever a platform sends is read without an error, and what is read can be sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from types import SimpleNamespace
from typing import Any, Final

import pytest

from backscroll import ChatMessage, InvalidInputError
from backscroll.channels import Change, Said, discord, matrix, slack, telegram
from backscroll.channels.values import identifier, moment, moment_of_seconds, name, session_key
from backscroll.contract.message_checks import Limits, check_messages
from backscroll.contract.messages import check_key
from backscroll.contract.validation import check_attributes

_PARTS = ("", "_", "%", "%5F", "5F", "a", "a_", "_a", "A", "ä", "\ud800", "\n", "%sha256_", "!r:h")


def test_other_parts_make_another_key_and_every_key_is_valid() -> None:
    every = [parts for length in range(1, 4) for parts in product(_PARTS, repeat=length)]
    keys = {check_key(session_key("x", *parts)) for parts in every}
    assert len(keys) == len(every)


def test_a_long_room_has_a_key_of_its_own_that_no_other_room_can_have() -> None:
    long = [session_key("matrix", "!" + "é" * 200 + end) for end in ("a", "b")]
    assert len({*long, session_key("matrix", long[0].removeprefix("matrix_"))}) == 3
    assert all(len(check_key(key)) < 100 for key in long)
    assert session_key("matrix", "!den:example.org") == "matrix_!den:example.org"


def test_ids_and_names_are_those_that_a_message_may_have() -> None:
    assert [identifier(each) for each in (-5, "a", "é b")] == ["-5", "a", "é b"]
    for each in (None, True, "", "a\n", "\ud800", "x" * 513, 2**64, 1.5, ["a"], b"a"):
        assert identifier(each) is None
    assert [name(each) for each in (" Ada\n\x00 L ", "x" * 600, "\ud83d", "", 5, None)] == [
        "Ada  L",
        "x" * 512,
        None,
        None,
        None,
        None,
    ]


def test_times_that_a_message_cannot_have_are_left_out() -> None:
    at = datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=2)))
    assert moment(at) == at
    for other in (at.replace(tzinfo=None), datetime(1969, 1, 1, tzinfo=UTC), 0, "2026", None):
        assert moment(other) is None
    assert moment_of_seconds("1355517523.000005") == datetime.fromtimestamp(
        1_355_517_523, UTC
    ) + timedelta(microseconds=5)
    never: tuple[Any, ...] = (
        -1,
        10**12,
        10**30,
        "",
        "x",
        "nan",
        "inf",
        "1e99",
        "1e999999999",
        True,
        1.5,
        [],
    )
    for seconds in never:
        assert moment_of_seconds(seconds) is None


_ODD: Final[tuple[Any, ...]] = (
    None, True, 0, -1, 2**70, 1.5, float("nan"), "", "\ud800", "a\n", "x" * 5000, [], {}, [None],
    [[]], {"a": 1}, [{"a": {}}], datetime(2026, 3, 1), datetime.max, b"a",
)  # fmt: skip


def _mangled(whole: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """`whole` with one of its values, at any depth, something else or missing."""
    for key, value in whole.items():
        yield {name: each for name, each in whole.items() if name != key}
        for odd in (*_ODD, *(_mangled(value) if isinstance(value, dict) else ())):
            yield {**whole, key: odd}


_AS_JSON: Final = ("data",)


def _as_object(value: Any) -> Any:
    if isinstance(value, dict):
        fields = {
            str(key): each if key in _AS_JSON else _as_object(each) for key, each in value.items()
        }
        return SimpleNamespace(**fields)
    return [_as_object(each) for each in value] if isinstance(value, list) else value


def _can_be_sent(changes: tuple[Change, ...]) -> None:
    for change in changes:
        check_key(change.key)
        if isinstance(message := getattr(change, "message", None), ChatMessage):
            check_messages([message], Limits())
        if isinstance(change, Said):
            check_attributes(change.session)


_SLACK = {
    "type": "message",
    "subtype": "message_changed",
    "channel": "C1",
    "message": {
        "ts": "1.2",
        "text": "a",
        "user": "U1",
        "files": [{"name": "a"}],
        "thread_ts": "1.1",
    },
    "previous_message": {"ts": "1.2", "text": "b"},
}
_SLACK_SAID = {**_SLACK["message"], "type": "message", "channel": "C1", "channel_type": "im"}  # type: ignore[dict-item]
_MATRIX = {
    "type": "m.room.message",
    "event_id": "$1",
    "sender": "@a:b",
    "origin_server_ts": 1,
    "room_id": "!a:b",
    "content": {
        "msgtype": "m.image",
        "body": "a",
        "info": {"size": 1},
        "m.relates_to": {
            "rel_type": "m.thread",
            "event_id": "$0",
            "m.in_reply_to": {"event_id": "$"},
        },
    },
}
_MATRIX_EDIT: dict[str, Any] = {
    **_MATRIX,
    "event_id": "$2",
    "content": {
        "m.relates_to": {"rel_type": "m.replace", "event_id": "$1"},
        "m.new_content": {"msgtype": "m.text", "body": "b"},
    },
}
_TELEGRAM = {
    "update_id": 1,
    "message": {
        "message_id": 1,
        "chat": {"id": 1, "type": "group", "title": "T"},
        "from_user": {"id": 1, "first_name": "A"},
        "date": datetime(2026, 3, 1, tzinfo=UTC),
        "text": "a",
        "document": {"file_id": "F", "file_name": "a", "file_size": 1},
        "poll": {"question": "?", "options": []},
        "message_thread_id": 3,
        "is_topic_message": True,
    },
}
_DISCORD = {
    "id": 1,
    "type": {"value": 19},
    "channel": {"id": 1, "name": "c", "parent_id": 1},
    "guild": None,
    "author": {"id": 1, "display_name": "A", "bot": False},
    "content": "a",
    "reference": {"message_id": 1, "channel_id": 1},
    "attachments": [],
    "poll": {"question": "?", "answers": []},
    "created_at": datetime(2026, 3, 1, tzinfo=UTC),
}
_DISCORD_EDIT = {
    "message_id": 1,
    "channel_id": 1,
    "cached_message": None,
    "data": {"edited_timestamp": "2026"},
    "message": _DISCORD,
}


def test_whatever_an_update_holds_it_is_read_and_can_be_sent() -> None:
    for whole in (_SLACK, _SLACK_SAID):
        for event in _mangled(whole):
            _can_be_sent(slack.read(event, me="U2"))
    for event in _mangled(_MATRIX):
        _can_be_sent(matrix.read(event, me="@b:b"))
        _can_be_sent(matrix.read(_MATRIX_EDIT, original=event))
    for event in _mangled(_MATRIX_EDIT):
        _can_be_sent(matrix.read(event, original=_MATRIX))
    for event in _mangled(_TELEGRAM):
        _can_be_sent(telegram.read(_as_object(event), me=2))
    for event in _mangled(_DISCORD):
        _can_be_sent(discord.read(_as_object(event), me=2))
        _can_be_sent(discord.read(_as_object({**_DISCORD_EDIT, "message": event})))
    for event in _mangled(_DISCORD_EDIT):
        _can_be_sent(discord.read(_as_object(event)))
    for event in _mangled({"message_ids": {1, 2}, "channel_id": 1, "cached_messages": []}):
        _can_be_sent(discord.read(SimpleNamespace(**event)))


@pytest.mark.parametrize("nothing", [None, 0, "", "text", [], {}, object(), SimpleNamespace()])
def test_what_is_no_update_changes_nothing(nothing: Any) -> None:
    for platform in (telegram, slack, discord, matrix):
        assert platform.read(nothing) == ()


def test_a_lone_surrogate_is_stored_as_the_mark_for_what_is_unknown() -> None:
    text = "a\ud83d\ude00b\ud800c"
    (change,) = slack.read({"type": "message", "channel": "C1", "ts": "1.2", "text": text})
    assert isinstance(change, Said)
    assert change.message.content == "a😀b\ufffdc"


def test_a_text_beyond_the_limit_is_neither_cut_nor_enqueued() -> None:
    text = "x" * (Limits().message_bytes + 1)
    (change,) = slack.read({"type": "message", "channel": "C1", "ts": "1.2", "text": text})
    assert isinstance(change, Said)
    assert change.message.content == text
    with pytest.raises(InvalidInputError, match="the limit is 1,048,576"):
        check_messages([change.message], Limits())
