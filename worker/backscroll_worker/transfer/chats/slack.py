"""The export of a Slack workspace: a folder with a folder a channel, and in it a file a day.

The replies in a thread are a session of their own, as in an adapter; all else is the channel's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from typing import Any, Final

import orjson

from backscroll.contract.errors import InvalidInputError
from backscroll_worker.transfer.chats.conversation import (
    Conversation,
    Options,
    file,
    items,
    mapping,
    moment,
    text,
)

LISTS: Final = ("channels.json", "groups.json", "mpims.json", "dms.json")
_EVENTS: Final = "events, such as who joined"
_SPOKEN: Final = ("bot_message", "thread_broadcast", "me_message", "file_share", "file_comment")


def is_slack(folder: Traversable) -> bool:
    """Whether the folder has what each export of Slack has."""
    return folder.joinpath("users.json").is_file() and any(
        folder.joinpath(name).is_file() for name in LISTS
    )


def slack(folder: Traversable, options: Options) -> Iterator[Conversation]:
    """The channels, private channels, groups and direct messages in an export."""
    names = {
        user["id"]: _shown(user)
        for user in map(mapping, items(_read(folder, "users.json")))
        if isinstance(user.get("id"), str)
    }
    for listing in LISTS:
        if not folder.joinpath(listing).is_file():
            continue
        for channel in map(mapping, items(_read(folder, listing))):
            id_ = text(channel.get("id"))
            name = text(channel.get("name")) or id_
            place = folder.joinpath(name)
            if id_ and "/" not in name and name not in (".", "..") and place.is_dir():
                yield from _channel(place, id_, name, names, options)


def _channel(
    place: Traversable, id_: str, name: str, names: Mapping[str, str], options: Options
) -> Iterator[Conversation]:
    made: dict[str, Conversation] = {}
    days = sorted(each.name for each in place.iterdir() if each.name.endswith(".json"))
    for day in days:
        for message in map(mapping, items(_read(place, day))):
            thread = text(message.get("thread_ts"))
            is_reply = bool(thread) and thread != message.get("ts")
            key = options.key("slack", f"{id_}_{thread}" if is_reply else id_)
            into = made.setdefault(
                key, Conversation(key, name=f"#{name}", channel="slack", room=id_)
            )
            _add(into, message, names, options)
    for conversation in made.values():
        conversation.messages.sort(key=lambda each: each.platform_id or "")
        yield conversation


def _add(
    made: Conversation, message: Mapping[str, Any], names: Mapping[str, str], options: Options
) -> None:
    kind = message.get("subtype")
    if kind is not None and kind not in _SPOKEN:
        made.not_kept[_EVENTS] += 1
        return
    files = [mapping(each) for each in items(message.get("files"))]
    made.not_kept["reactions"] += bool(message.get("reactions"))
    made.not_kept["what an edited message said before"] += bool(message.get("edited"))
    author = text(message.get("user")) or text(message.get("bot_id"))
    shown = names.get(author) or text(message.get("username"))
    sent, thread = text(message.get("ts")), text(message.get("thread_ts"))
    said = text(message.get("text"))
    if not said and not files:
        return
    made.add(
        options.role_of(author, shown),
        said,
        moment(sent),
        author=author,
        author_name=shown if author else None,
        platform_id=sent,
        reply_to=thread if thread != sent else None,
        attachments=[
            file(
                "file",
                each.get("name"),
                each.get("mimetype"),
                each.get("size"),
                each.get("url_private"),
                each.get("id"),
            )
            for each in files
        ],
    )


def _shown(user: Mapping[str, Any]) -> str:
    profile = mapping(user.get("profile"))
    return (
        text(profile.get("display_name"))
        or text(user.get("real_name"))
        or text(profile.get("real_name"))
        or text(user.get("name"))
    )


def _read(folder: Traversable, name: str) -> Any:
    try:
        return orjson.loads(folder.joinpath(name).read_bytes())
    except ValueError as error:
        raise InvalidInputError("file", f"{folder.name}/{name} is not JSON: {error}") from None
