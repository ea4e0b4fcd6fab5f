"""A bot goes on with a chat that was imported before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from backscroll.channels import Said, telegram
from backscroll_worker.embedded import Local
from backscroll_worker.transfer.import_files import import_files
from tests.channels.libraries import telegram_update
from tests.transfer import chat_samples as samples
from tests.transfer.sessions import everything
from tests.transfer.taking import OPTIONS, taken

GROUP: Any = {**samples.TELEGRAM, "type": "private_group", "id": 5}
"""In a group each account numbers the messages for itself, and its supergroup numbers anew."""


def bots(number: int, chat: int, kind: str, **fields: Any) -> Any:
    place = {"id": chat, "type": kind, "title": "Travellers"}
    sender = {"id": 42, "is_bot": False, "first_name": "Ada"}
    message = {"message_id": number, "date": 1767225700, "chat": place, "from": sender, **fields}
    return telegram_update({"update_id": number, "message": message})


def test_messages_of_an_imported_group_do_not_hide_those_of_a_bot(tmp_path: Path) -> None:
    store = f"sqlite://{tmp_path / 'store.db'}"
    import_files([samples.document(GROUP)(tmp_path)], store, OPTIONS, lambda _: None)
    updates = (
        bots(2, -5, "group", text="In the group"),
        bots(3, -5, "group", migrate_to_chat_id=-1005),
        bots(2, -1005, "supergroup", text="Number 2 again"),
    )
    with Local(store) as history:
        for update in updates:
            for change in telegram.read(update):
                change.to(history)
        said = history.load("telegram_-1005")
    assert [each.content for each in said[2:]] == ["In the group", "Number 2 again"]
    assert said[1].reply_to == said[0].platform_id


def test_an_answer_to_another_chat_is_none_to_a_message_here(tmp_path: Path) -> None:
    first, second = samples.TELEGRAM["messages"][1:]
    chat = {**samples.TELEGRAM, "messages": [first, {**second, "reply_to_peer_id": "channel9"}]}
    _, sessions = taken(samples.document(chat)(tmp_path), tmp_path)
    ((_, answer),) = sessions.values()
    assert answer.reply_to is None


def test_a_channel_has_the_id_as_an_author_that_a_bot_gets(tmp_path: Path) -> None:
    post = {**samples.TELEGRAM["messages"][1], "from": "Travellers", "from_id": "channel77"}
    channel = {**samples.TELEGRAM, "type": "public_channel", "messages": [post]}
    _, sessions = taken(samples.document(channel)(tmp_path), tmp_path)
    ((message,),) = sessions.values()
    chat = {"id": -10077, "type": "channel", "title": "Travellers"}
    update = telegram_update(
        {
            "update_id": 1,
            "channel_post": {
                "message_id": 3, "date": 1767225700, "chat": chat, "sender_chat": chat, "text": "x",
            },
        }
    )  # fmt: skip
    (said,) = telegram.read(update)
    assert isinstance(said, Said)
    assert (message.author, message.author_name) == (said.message.author, said.message.author_name)


def test_the_assistant_on_slack_has_any_of_its_names(tmp_path: Path) -> None:
    users = [{"id": "U1", "name": "ada", "profile": {"display_name": "Ada"}}]
    events = [
        {"type": "message", "user": "U1", "text": "a", "ts": "1767225601.000100"},
        {
            "type": "message", "subtype": "bot_message", "bot_id": "B1", "username": "Robo",
            "text": "b", "ts": "1767225602.000100",
        },
    ]  # fmt: skip
    for names, roles in (("ada", "AU"), ("Ada", "AU"), ("Robo", "UA"), ("Eve", "UU")):
        place = tmp_path / names
        (place / "fares").mkdir(parents=True)
        channels = [{"id": "C5", "name": "fares"}]
        for name, content in (("users", users), ("channels", channels), ("fares/1", events)):
            (place / f"{name}.json").write_bytes(orjson.dumps(content))
        options = replace(OPTIONS, me=frozenset({names}))
        store = f"sqlite://{tmp_path / names}.db"
        import_files([place], store, options, lambda _: None)
        ((_, said),) = everything(store).values()
        assert "".join(each.role[0].upper() for each in said) == roles


def test_a_thread_on_discord_is_in_the_room_of_its_channel(tmp_path: Path) -> None:
    thread = {"id": "6", "name": "boats", "type": "GuildPublicThread", "categoryId": "5"}
    store = f"sqlite://{tmp_path / 'store.db'}"
    path = samples.document({**samples.DISCORD, "channel": thread})(tmp_path)
    import_files([path], store, OPTIONS, lambda _: None)
    with Local(store) as history:
        assert [info.key for info in history.sessions(room="5")] == ["discord_6"]


def test_a_poll_a_place_and_a_contact_say_on_telegram_what_a_bot_reads(tmp_path: Path) -> None:
    first = {**samples.TELEGRAM["messages"][1], "text": ""}
    others: Any = {
        "[location: 1.5, 2.5]": {"location_information": {"latitude": 1.5, "longitude": 2.5}},
        "[contact: Ada L, 1]": {
            "contact_information": {"first_name": "Ada", "last_name": "L", "phone_number": "1"}
        },
        "[poll: When?, Six]": {"poll": {"question": "When?", "answers": [{"text": "Six"}]}},
    }
    messages = [{**first, "id": n, **other} for n, other in enumerate(others.values(), 1)]
    chat = {**samples.TELEGRAM, "messages": messages}
    _, sessions = taken(samples.document(chat)(tmp_path), tmp_path)
    ((said),) = sessions.values()
    assert [each.content for each in said] == list(others)
