"""`discord.read`, by what discord.py makes of the gateway's data."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from backscroll import Attachment, ChatMessage
from backscroll.channels import Deleted, Edited, Said, discord
from tests.channels.libraries import USER, Discord

ID = "1477000000000000000"
ROOM = {"channel": "discord", "room": "100", "name": "general"}


@pytest.fixture(scope="module")
def platform() -> Discord:
    return Discord()


def said(content: str = "Shall we meet at six?", **more: Any) -> ChatMessage:
    at = datetime.fromtimestamp(((int(ID) >> 22) + 1_420_070_400_000) / 1000, UTC)
    by = {"author": "42", "author_name": "Ada"}
    return ChatMessage.user(content, **{"created_at": at, "platform_id": ID, **by, **more})


def content(platform: Discord, **fields: Any) -> str:
    (change,) = discord.read(platform.message(**fields))
    assert isinstance(change, Said)
    return change.message.content


def test_a_message_of_a_channel_is_read(platform: Discord) -> None:
    assert discord.read(platform.message()) == (Said("discord_100", said(), ROOM),)


def test_a_thread_has_a_key_of_its_own_and_the_room_of_its_channel(platform: Discord) -> None:
    thread = platform.channel(id=200, name="Where?", parent_id=100)
    session = {"channel": "discord", "room": "100", "name": "Where?"}
    assert discord.read(platform.message(thread)) == (Said("discord_200", said(), session),)


def test_direct_messages_are_the_other_ones_also_where_the_bot_speaks(platform: Discord) -> None:
    direct = platform.channel(id=300, guild=None, recipient=SimpleNamespace(id=42, bot=False))
    session = {"channel": "discord", "sender": "42"}
    assert discord.read(platform.message(direct)) == (Said("discord_300", said(), session),)
    own = platform.message(direct, author=USER | {"id": "7", "bot": True})
    (change,) = discord.read(own, me=7)
    assert isinstance(change, Said)
    assert (change.message.role, change.session) == ("assistant", session)


def test_a_reply_names_its_message_and_a_forwarded_one_none(platform: Discord) -> None:
    reference = {"message_id": "99", "channel_id": "100", "guild_id": "1"}
    reply = platform.message(type=19, message_reference=reference)
    assert discord.read(reply) == (Said("discord_100", said(reply_to="99"), ROOM),)
    forwarded = {"message": {"content": "Six!", "type": 0, "flags": 0} | _EMPTY}
    fields = {"content": "", "message_reference": {**reference, "type": 1}}
    assert discord.read(platform.message(message_snapshots=[forwarded], **fields)) == (
        Said("discord_100", said("Six!"), ROOM),
    )


_EMPTY: dict[str, Any] = {
    "timestamp": "2026-03-01T10:00:00+00:00",
    "edited_timestamp": None,
    "mentions": [],
    "mention_roles": [],
    "attachments": [],
    "embeds": [],
    "components": [],
}


def test_a_webhook_speaks_under_the_name_given_with_the_message(platform: Discord) -> None:
    hook = {"id": "900", "username": "Build", "avatar": None, "discriminator": "0000", "bot": True}
    message = platform.message(author=hook, webhook_id="900")
    by = {"author": "900", "author_name": "Build"}
    assert discord.read(message) == (Said("discord_100", said(**by), ROOM),)
    (own,) = discord.read(message, me=[7, 900])
    assert isinstance(own, Said)
    assert own.message.role == "assistant"


def _attached(platform: Discord, **fields: Any) -> tuple[Attachment, ...]:
    (change,) = discord.read(platform.message(content="", **fields))
    assert isinstance(change, Said)
    assert change.message.content == ""
    return tuple(change.message.attachments)


def test_content_is_what_the_window_shows(platform: Discord) -> None:
    bob = USER | {"id": "100000000000000043", "username": "bob", "global_name": "Bob"}
    raw = "<@100000000000000043> in <#100000000000000100> @everyone"
    assert content(platform, content=raw, mentions=[bob]) == "@Bob in #general @everyone"
    image = {"id": "1", "filename": "a.png", "size": 9, "url": "https://c/a", "proxy_url": "x"}
    image["content_type"] = "image/png"
    picture = Attachment("image", "a.png", "image/png", 9, "https://c/a", platform_id="1")
    assert _attached(platform, attachments=[image, image]) == (picture, picture)
    sticker = {"id": "5", "name": "Wave", "format_type": 1}
    (waving,) = _attached(platform, sticker_items=[sticker])
    assert (waving.kind, waving.name, waving.platform_id) == ("sticker", "Wave", "5")
    field = {"name": "Build", "value": "failed", "inline": True}
    for said in ({"title": "Build", "description": "failed"}, {"fields": [field]}):
        assert content(platform, content="", embeds=[{"type": "rich", **said}]) == "Build\nfailed"
    button = {"type": 2, "style": 5, "label": "Log", "url": "https://a.example"}
    section = {"type": 9, "components": [{"type": 10, "content": "failed"}], "accessory": button}
    container = {"type": 17, "components": [{"type": 10, "content": "Build"}, section]}
    laid_out = content(platform, content="", components=[container], flags=1 << 15)
    assert laid_out == "Build\nfailed"


def test_what_the_server_says_of_a_channel_is_not_a_message(platform: Discord) -> None:
    for kind in (1, 6, 7, 8, 18, 21, 46, 9999):
        assert discord.read(platform.message(type=kind)) == ()
    for kind in (0, 20, 23):
        assert len(discord.read(platform.message(type=kind))) == 1


def test_an_edit_counts_whether_the_message_is_in_memory_or_not(platform: Discord) -> None:
    before, edited = platform.message(), (Edited("discord_100", said("At seven?"), ID),)
    assert discord.read(platform.edit(content="At seven?")) == edited
    assert discord.read(platform.edit(before, content="At seven?")) == edited


def test_what_a_bot_says_after_it_thought_is_said_and_not_edited(platform: Discord) -> None:
    thinking = platform.message(type=20, content="", flags=128)
    done = platform.edit(thinking, type=20, content="Done", edited_timestamp=None)
    assert discord.read(thinking) == ()
    assert discord.read(done) == (Said("discord_100", said("Done"), ROOM),)


def test_a_preview_or_a_pin_is_not_an_edit(platform: Discord) -> None:
    embed = {"type": "link", "url": "https://a.example"}
    assert discord.read(platform.edit(edited_timestamp=None, embeds=[embed])) == ()
    assert discord.read(platform.edit(platform.message(), pinned=True)) == ()


def test_a_reaction_to_a_message_deletes_nothing(platform: Discord) -> None:
    data = {"message_id": "500", "channel_id": "100", "user_id": "42", "type": 0, "burst": False}
    emoji = platform.library.PartialEmoji(name="👍")
    reaction = platform.library.RawReactionActionEvent(data, emoji, "REACTION_ADD")
    assert discord.read(reaction) == ()
    assert discord.read(platform.library.RawReactionClearEvent(data)) == ()


def test_deletions_name_each_message_in_the_order_of_their_ids(platform: Discord) -> None:
    assert discord.read(platform.deletion()) == (Deleted("discord_100", "500"),)
    gone = tuple(Deleted("discord_100", id_) for id_ in ("2", "30", "400"))
    assert discord.read(platform.bulk_deletion("400", "2", "30")) == gone
