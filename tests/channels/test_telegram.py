"""`telegram.read`, by updates as the Bot API's documentation describes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from backscroll import Attachment, ChatMessage
from backscroll.channels import Change, Deleted, Edited, Moved, Said, telegram
from tests.channels.libraries import aiogram_update, telegram_update

ADA = {"id": 42, "is_bot": False, "first_name": "Ada", "last_name": "Lovelace"}
BOT = {"id": 7, "is_bot": True, "first_name": "Bot", "username": "our_bot"}
CHANNEL_BOT = {"id": 136817688, "is_bot": True, "first_name": "Channel", "username": "Channel_Bot"}
PRIVATE = {"id": 42, "type": "private", "first_name": "Ada"}
GROUP = {"id": -5, "type": "group", "title": "Lunch"}
FORUM = {"id": -1007, "type": "supergroup", "title": "Makers", "is_forum": True}
NEWS = {"id": -1009, "type": "channel", "title": "News"}
AT = 1_772_359_200

_SIZES = [
    {"file_id": "small", "file_unique_id": "s", "width": 90, "height": 90, "file_size": 900},
    {"file_id": "large", "file_unique_id": "l", "width": 900, "height": 900, "file_size": 90_000},
]
_PHOTO = Attachment("image", size=90_000, platform_id="large")
_ALBUM: dict[str, Any] = {"extra": {"media_group_id": "77"}, "attachments": (_PHOTO,)}
_MENU = Attachment("file", "menu.pdf", "application/pdf", platform_id="F")
_PDF = {
    "file_id": "F",
    "file_unique_id": "f",
    "file_name": "menu.pdf",
    "mime_type": "application/pdf",
}


def sent(chat: dict[str, Any] = PRIVATE, sender: Any = ADA, id_: int = 11, **more: Any) -> Any:
    by = {} if sender is None else {"from": sender}
    return {"message_id": id_, "date": AT, "chat": chat, **by, **more}


def update(kind: str = "message", **message: Any) -> dict[str, Any]:
    return {"update_id": 1, kind: sent(**message)}


def said(content: str, **more: Any) -> ChatMessage:
    by = {"author": "42", "author_name": "Ada Lovelace"}
    at = datetime.fromtimestamp(AT, UTC)
    return ChatMessage.user(content, **{"created_at": at, "platform_id": "11", **by, **more})


_DM = {"channel": "telegram", "sender": "42"}
_LUNCH = {"channel": "telegram", "room": "-5", "name": "Lunch"}
_MAKERS = {"channel": "telegram", "room": "-1007", "name": "Makers"}
_NEWS = {"channel": "telegram", "room": "-1009", "name": "News"}
_OF_NEWS = {"author": "-1009", "author_name": "News"}
_REPLY = sent(FORUM, id_=10, text="?")
_IN_TOPIC = {"chat": FORUM, "message_thread_id": 3, "is_topic_message": True}
_TOPIC = sent(FORUM, id_=3, message_thread_id=3, forum_topic_created={"name": "T", "icon_color": 0})

CASES: list[tuple[str, dict[str, Any], list[Change]]] = [
    ("private", update(text="Hi"), [Said("telegram_42", said("Hi"), _DM)]),
    (
        "group",
        update(chat=GROUP, text="Hi"),
        [Said("telegram_-5", said("Hi", platform_id="-5:11"), _LUNCH)],
    ),
    (
        "reply in a group",
        update(chat=GROUP, text="Hi", reply_to_message=sent(GROUP, id_=10, text="?")),
        [Said("telegram_-5", said("Hi", platform_id="-5:11", reply_to="-5:10"), _LUNCH)],
    ),
    (
        "edit in a group",
        update("edited_message", chat=GROUP, text="Hi", edit_date=AT),
        [Edited("telegram_-5", said("Hi", platform_id="-5:11"), "-5:11")],
    ),
    (
        "own",
        update(sender=BOT, text="Hello"),
        [
            Said(
                "telegram_42",
                ChatMessage.assistant(
                    "Hello",
                    created_at=datetime.fromtimestamp(AT, UTC),
                    platform_id="11",
                    author="7",
                    author_name="Bot",
                ),
                _DM,
            )
        ],
    ),
    (
        "reply outside of topics",
        update(chat=FORUM, text="!", reply_to_message=_REPLY, message_thread_id=10),
        [Said("telegram_-1007", said("!", reply_to="10"), _MAKERS)],
    ),
    (
        "topic",
        update(
            chat=FORUM,
            text="!",
            message_thread_id=3,
            is_topic_message=True,
            reply_to_message=_TOPIC,
        ),
        [Said("telegram_-1007_3", said("!"), _MAKERS)],
    ),
    (
        "reply in a topic",
        update(
            chat=FORUM,
            text="!",
            message_thread_id=3,
            is_topic_message=True,
            reply_to_message=_REPLY,
        ),
        [Said("telegram_-1007_3", said("!", reply_to="10"), _MAKERS)],
    ),
    (
        "edit",
        update("edited_message", text="Hello", edit_date=AT + 9),
        [Edited("telegram_42", said("Hello"), "11")],
    ),
    (
        "edit in a topic",
        update("edited_message", **_IN_TOPIC, text="!", edit_date=AT + 9),
        [Edited("telegram_-1007_3", said("!"), "11")],
    ),
    (
        "channel post",
        update("channel_post", chat=NEWS, sender=None, sender_chat=NEWS, text="New"),
        [Said("telegram_-1009", said("New", **_OF_NEWS), _NEWS)],
    ),
    (
        "channel post without a sender",
        update("channel_post", chat=NEWS, sender=None, text="New"),
        [Said("telegram_-1009", said("New", author=None, author_name=None), _NEWS)],
    ),
    (
        "edited channel post",
        update(
            "edited_channel_post", chat=NEWS, sender=None, sender_chat=NEWS, text="N", edit_date=AT
        ),
        [Edited("telegram_-1009", said("N", **_OF_NEWS), "11")],
    ),
    (
        "anonymous administrator",
        update(chat=FORUM, sender=CHANNEL_BOT, sender_chat=FORUM, text="Hush"),
        [Said("telegram_-1007", said("Hush", author="-1007", author_name="Makers"), _MAKERS)],
    ),
    (
        "photo of an album",
        update(photo=_SIZES, caption="Us", media_group_id="77"),
        [
            Said(
                "telegram_42",
                said("Us", **_ALBUM),
                _DM,
            )
        ],
    ),
    (
        "photo of an album without a caption",
        update(photo=_SIZES, media_group_id="77"),
        [Said("telegram_42", said("", **_ALBUM), _DM)],
    ),
    ("document", update(document=_PDF), [Said("telegram_42", said("", attachments=(_MENU,)), _DM)]),
    (
        "venue",
        update(
            location={"latitude": 1.5, "longitude": 2.5},
            venue={
                "location": {"latitude": 1.5, "longitude": 2.5},
                "title": "Café",
                "address": "Main St",
            },
        ),
        [Said("telegram_42", said("[venue: Café, Main St]"), _DM)],
    ),
    (
        "dice",
        update(dice={"emoji": "🎲", "value": 4}),
        [Said("telegram_42", said("[dice: 🎲 4]"), _DM)],
    ),
    (
        "contact",
        update(contact={"phone_number": "+49", "first_name": "Bob"}),
        [Said("telegram_42", said("[contact: Bob, +49]"), _DM)],
    ),
    (
        "to a supergroup, in the group",
        update(chat=GROUP, migrate_to_chat_id=-1005),
        [Moved("telegram_-5", "telegram_-1005")],
    ),
    (
        "to a supergroup, in the supergroup",
        update(chat=GROUP | {"id": -1005, "type": "supergroup"}, migrate_from_chat_id=-5),
        [Moved("telegram_-5", "telegram_-1005")],
    ),
    (
        "direct messages of a channel",
        update(
            chat={"id": -1010, "type": "supergroup", "title": "News", "is_direct_messages": True},
            direct_messages_topic={"topic_id": 42, "user": ADA},
            text="Hi",
        ),
        [
            Said(
                "telegram_-1010_42",
                said("Hi"),
                {"channel": "telegram", "room": "-1010", "name": "News", "sender": "42"},
            )
        ],
    ),
    (
        "business",
        update("business_message", business_connection_id="B_1", text="Open?"),
        [Said("telegram_business_B%5F1_42", said("Open?"), _DM)],
    ),
    (
        "business, by the bot",
        update("business_message", business_connection_id="B", text="Yes", sender_business_bot=BOT),
        [
            Said(
                "telegram_business_B_42",
                ChatMessage.assistant(
                    "Yes",
                    created_at=datetime.fromtimestamp(AT, UTC),
                    platform_id="11",
                    author="42",
                    author_name="Ada Lovelace",
                ),
                _DM,
            )
        ],
    ),
    (
        "business, deleted",
        {
            "update_id": 1,
            "deleted_business_messages": {
                "business_connection_id": "B",
                "chat": PRIVATE,
                "message_ids": [11, 12],
            },
        },
        [Deleted("telegram_business_B_42", "11"), Deleted("telegram_business_B_42", "12")],
    ),
    ("joined", update(chat=GROUP, new_chat_members=[ADA]), []),
    ("title", update(chat=GROUP, new_chat_title="Dinner"), []),
    ("scheduled by the server", update(id_=0, text="Later"), []),
    (
        "button",
        {
            "update_id": 1,
            "callback_query": {"id": "1", "from": ADA, "chat_instance": "1", "data": "x"},
        },
        [],
    ),
    ("unknown", {"update_id": 1}, []),
]


@pytest.mark.parametrize(
    ("given", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_an_update_is_read_as_telegram_shows_it(
    given: dict[str, Any], expected: list[Change]
) -> None:
    assert list(telegram.read(telegram_update(given), me=7)) == expected


@pytest.mark.slow  # to import aiogram takes seconds
def test_the_objects_of_aiogram_are_read_in_the_same_way() -> None:
    for _name, given, expected in CASES:
        update = aiogram_update(given)
        assert list(telegram.read(update, me="7")) == expected
        for kind, message in given.items():
            if kind not in {"update_id", "callback_query"}:
                assert list(telegram.read(getattr(update, kind), me=(7,))) == expected, message


def test_a_poll_is_read_with_its_options() -> None:
    option = {"voter_count": 0, "persistent_id": "p"}
    poll = {
        "id": "1",
        "question": "Where?",
        "options": [{"text": "Rome", **option}, {"text": "Oslo", **option}],
        "total_voter_count": 0,
        "is_closed": False,
        "is_anonymous": True,
        "type": "regular",
        "allows_multiple_answers": False,
        "allows_revoting": False,
        "members_only": False,
    }
    (change,) = telegram.read(telegram_update(update(poll=poll)))
    assert isinstance(change, Said)
    assert change.message.content == "[poll: Where?, Rome, Oslo]"


def test_without_me_everybody_is_a_user() -> None:
    (change,) = telegram.read(telegram_update(update(sender=BOT, text="Hello")))
    assert isinstance(change, Said)
    assert change.message.role == "user"
