"""The platforms' own libraries, each imported by the tests that use it: some take seconds."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any


def telegram_update(update: dict[str, Any]) -> Any:
    """As python-telegram-bot has it."""
    return importlib.import_module("telegram").Update.de_json(update, None)


def aiogram_update(update: dict[str, Any]) -> Any:
    return importlib.import_module("aiogram.types").Update.model_validate(update)


def nio_event(event: dict[str, Any]) -> Any:
    return importlib.import_module("nio").Event.parse_event(event)


def nio_room(room_id: str, **names: str) -> Any:
    room = importlib.import_module("nio").MatrixRoom(room_id, "@bot:example.org")
    for user, shown in names.items():
        room.add_member(f"@{user}:example.org", shown, None)
    return room


class Discord:
    """What discord.py makes of the gateway's data, without a connection."""

    def __init__(self) -> None:
        self.library = importlib.import_module("discord")
        self._state = _State()

    def channel(self, **fields: Any) -> Any:
        """A text channel, a thread (with `parent_id`), or a direct one (with `recipient`)."""
        fields = {"id": 100, "name": "general", "guild": _GUILD} | fields
        return SimpleNamespace(**fields)

    def message(self, channel: Any = None, **fields: Any) -> Any:
        channel = channel or self.channel()
        return self.library.Message(state=self._state, channel=channel, data=MESSAGE | fields)

    def edit(self, before: Any = None, channel: Any = None, **fields: Any) -> Any:
        data = MESSAGE | {"edited_timestamp": "2026-03-01T10:05:00.000000+00:00"} | fields
        event = self.library.RawMessageUpdateEvent(data, self.message(channel, **data))
        event.cached_message = before
        return event

    def deletion(self, **fields: Any) -> Any:
        return self.library.RawMessageDeleteEvent({"id": "500", "channel_id": "100"} | fields)

    def bulk_deletion(self, *ids: str) -> Any:
        return self.library.RawBulkMessageDeleteEvent({"ids": list(ids), "channel_id": "100"})


class _Guild(SimpleNamespace):
    def get_member(self, id_: int) -> Any:
        return None

    def get_role(self, id_: int) -> Any:
        return None

    def _resolve_channel(self, id_: int) -> Any:
        return SimpleNamespace(name="general") if id_ == 100_000_000_000_000_100 else None


_GUILD = _Guild(id=1, name="Guild", roles=[], emojis=[])


class _State:
    """Where discord.py keeps what it knows; of it, what a message asks."""

    def __init__(self) -> None:
        self._intents = SimpleNamespace(message_content=True)
        self.http, self.self_id, self.user = None, 7, SimpleNamespace(id=7)

    def _get_guild(self, id_: int | None) -> Any:
        return _GUILD if id_ else None

    def store_user(self, data: dict[str, Any], **_: Any) -> Any:
        return importlib.import_module("discord").User(state=self, data=data)

    create_user = store_user


USER = {
    "id": "42",
    "username": "ada",
    "global_name": "Ada",
    "discriminator": "0",
    "avatar": None,
    "public_flags": 0,
}

MESSAGE: dict[str, Any] = {
    "id": "1477000000000000000",
    "channel_id": "100",
    "type": 0,
    "content": "Shall we meet at six?",
    "author": USER,
    "timestamp": "2026-03-01T10:00:00.000000+00:00",
    "edited_timestamp": None,
    "tts": False,
    "mention_everyone": False,
    "mentions": [],
    "mention_roles": [],
    "mention_channels": [],
    "attachments": [],
    "embeds": [],
    "pinned": False,
    "flags": 0,
    "components": [],
}
