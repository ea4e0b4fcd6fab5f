"""`matrix.read`, by events as the specification describes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from backscroll import Attachment, ChatMessage
from backscroll.channels import Change, Deleted, Edited, Said, matrix
from tests.channels.libraries import nio_event, nio_room

ROOM, KEY = "!den:example.org", "matrix_!den:example.org"
ADA, EVE = "@ada:example.org", "@eve:example.org"
SESSION = {"channel": "matrix", "room": ROOM, "name": "Ada"}
AT = 1_772_359_200_123


def event(body: str = "Six?", *, type_: str = "m.room.message", **content: Any) -> dict[str, Any]:
    return {
        "type": type_,
        "event_id": "$1",
        "sender": ADA,
        "origin_server_ts": AT,
        "room_id": ROOM,
        "content": {"msgtype": "m.text", "body": body, **content},
    }


def replacing(body: str = "Seven?", sender: str = ADA, of: str = "$1") -> dict[str, Any]:
    relation = {"rel_type": "m.replace", "event_id": of}
    new = {"msgtype": "m.text", "body": body}
    changes: dict[str, Any] = {"m.new_content": new, "m.relates_to": relation}
    edit = event(f"* {body}", **changes)
    return edit | {"event_id": "$2", "sender": sender, "origin_server_ts": AT + 5000}


def redaction(**fields: Any) -> dict[str, Any]:
    return event() | {"type": "m.room.redaction", "event_id": "$9", "content": {}, **fields}


def said(content: str = "Six?", **more: Any) -> ChatMessage:
    at = datetime.fromtimestamp(AT // 1000, UTC).replace(microsecond=123_000)
    by = {"author": ADA, "author_name": "Ada"}
    return ChatMessage.user(content, **{"created_at": at, "platform_id": "$1", **by, **more})


def answering(body: str, **relation: Any) -> dict[str, Any]:
    related: dict[str, Any] = {"m.relates_to": {"m.in_reply_to": {"event_id": "$0"}, **relation}}
    return event(body, **related)


_REDACTED = {"content": {}, "unsigned": {"redacted_because": {"type": "m.room.redaction"}}}
_THREAD: dict[str, Any] = {"rel_type": "m.thread", "event_id": "$root"}
_FALLBACK = f"> <{EVE}> Where?\n> When?\n\n"
_IMAGE: dict[str, Any] = {
    "msgtype": "m.image",
    "url": "mxc://a/b",
    "info": {"mimetype": "image/png", "size": 9},
}
_PICTURE = Attachment("image", "a.png", "image/png", 9, "mxc://a/b")
_ASKED = "[poll: When?, Six, Seven]"
_POLL: dict[str, Any] = {
    "m.poll": {
        "question": {"m.text": [{"body": "When?"}]},
        "answers": [{"m.id": "1", "m.text": [{"body": "Six"}]}, {"m.text": [{"body": "Seven"}]}],
    }
}
_POLL_BEFORE: dict[str, Any] = {
    "org.matrix.msc3381.poll.start": {
        "question": {"org.matrix.msc1767.text": "When?"},
        "answers": [{"org.matrix.msc1767.text": each} for each in ("Six", "Seven")],
    }
}

CASES: list[tuple[str, dict[str, Any], list[Change]]] = [
    ("message", event(), [Said(KEY, said(), SESSION)]),
    ("notice", event(msgtype="m.notice"), [Said(KEY, said(), SESSION)]),
    ("emote", event("waves", msgtype="m.emote"), [Said(KEY, said("* Ada waves"), SESSION)]),
    ("poll", event("", type_="m.poll.start", **_POLL), [Said(KEY, said(_ASKED), SESSION)]),
    (
        "poll of before it was specified",
        event("", type_="org.matrix.msc3381.poll.start", **_POLL_BEFORE),
        [Said(KEY, said(_ASKED), SESSION)],
    ),
    ("reply", answering("Six!"), [Said(KEY, said("Six!", reply_to="$0"), SESSION)]),
    (
        "reply with a quotation for old clients",
        answering(f"{_FALLBACK}Six!\n> not so"),
        [Said(KEY, said("Six!\n> not so", reply_to="$0"), SESSION)],
    ),
    (
        "reply that begins with a quotation of its own",
        answering("> When?\n\nSix!"),
        [Said(KEY, said("> When?\n\nSix!", reply_to="$0"), SESSION)],
    ),
    (
        "quotation without a reply",
        event(f"{_FALLBACK}Six!"),
        [Said(KEY, said(f"{_FALLBACK}Six!"), SESSION)],
    ),
    (
        "thread",
        answering("Six!", **_THREAD, is_falling_back=True),
        [Said(KEY, said("Six!", extra={"thread": "$root"}), SESSION)],
    ),
    (
        "reply in a thread",
        answering("Six!", **_THREAD, is_falling_back=False),
        [Said(KEY, said("Six!", extra={"thread": "$root"}, reply_to="$0"), SESSION)],
    ),
    ("image", event("a.png", **_IMAGE), [Said(KEY, said("", attachments=(_PICTURE,)), SESSION)]),
    (
        "image with a caption",
        event("Us", **_IMAGE, filename="a.png"),
        [Said(KEY, said("Us", attachments=(_PICTURE,)), SESSION)],
    ),
    ("unknown kind", event("Hm", msgtype="org.x.y"), [Said(KEY, said("Hm"), SESSION)]),
    ("edit of nobody knows what", replacing(), []),
    ("redaction", redaction(redacts="$1"), [Deleted(KEY, "$1")]),
    ("redacted since", event() | _REDACTED, [Deleted(KEY, "$1")]),
    ("reaction", event(type_="m.reaction"), []),
    ("empty", event(""), []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_an_event_is_read_as_a_client_shows_it(
    given: dict[str, Any], expected: list[Change]
) -> None:
    room = nio_room(ROOM, ada="Ada")
    assert list(matrix.read(given, room)) == expected
    assert list(matrix.read(nio_event(given), room)) == expected


def test_a_room_may_be_its_id_or_that_of_the_event() -> None:
    session = {"channel": "matrix", "room": ROOM}
    expected = (Said(KEY, said(), session),)
    assert matrix.read(event(), names={ADA: "Ada"}) == expected
    without = {name: value for name, value in event().items() if name != "room_id"}
    assert matrix.read(without, ROOM, names={ADA: "Ada"}) == expected
    assert matrix.read(without) == ()


def test_a_redaction_of_new_rooms_names_the_event_in_its_content() -> None:
    assert matrix.read(redaction(content={"redacts": "$1"})) == (Deleted(KEY, "$1"),)


def test_an_edit_is_read_with_the_message_it_is_about() -> None:
    room = nio_room(ROOM, ada="Ada")
    edit = replacing()
    assert matrix.edited_id(edit) == matrix.edited_id(nio_event(edit)) == "$1"
    assert matrix.edited_id(event()) is None
    for original in (event(), nio_event(event()), event() | {"type": "m.room.encrypted"}):
        expected = (Edited(KEY, said("Seven?"), "$1"),)
        assert matrix.read(nio_event(edit), room, original=original) == expected
    related: dict[str, Any] = {"m.relates_to": _THREAD}
    in_thread = event(**related)
    expected = (Edited(KEY, said("Seven?", extra={"thread": "$root"}), "$1"),)
    assert matrix.read(edit, room, original=in_thread) == expected


def test_nobody_edits_what_somebody_else_said() -> None:
    for edit, original in (
        (replacing(sender=EVE), event()),
        (replacing(sender=ADA), event() | {"sender": EVE}),
        (replacing(of="$3"), event()),
        (replacing(of="$2"), replacing()),
        (replacing(), event(type_="m.sticker")),
        (replacing(), None),
        (replacing() | {"sender": None}, event() | {"sender": None}),
    ):
        assert matrix.read(edit, original=original) == ()


def test_a_redaction_that_was_encrypted_deletes_nothing() -> None:
    hidden = nio_event(redaction(redacts="$1"))
    hidden.decrypted = True  # as nio marks what came out of an encrypted event
    assert matrix.read(hidden, ROOM) == ()


def test_the_bots_own_message_is_the_assistants() -> None:
    (change,) = matrix.read(event(), me=ADA)
    assert isinstance(change, Said)
    assert (change.message.role, change.message.author_name) == ("assistant", None)
