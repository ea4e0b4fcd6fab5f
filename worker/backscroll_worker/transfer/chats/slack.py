"""The export of a Slack workspace: a folder with a folder a channel, and in it a file a day.

A file has the events that a bot got, and `backscroll.channels.slack` reads them: a history that is
imported and one that a bot stored are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.resources.abc import Traversable
from typing import Any, Final

import orjson

from backscroll.channels import Said
from backscroll.channels import slack as channel
from backscroll.channels.values import mapping, objects
from backscroll.contract.errors import InvalidInputError
from backscroll_worker.transfer.chats.conversation import (
    FILES,
    Conversation,
    Options,
    bytes_of,
    text,
)

LISTS: Final = ("channels.json", "groups.json", "mpims.json", "dms.json")
_EVENTS: Final = "events, such as who joined"
_UNREADABLE: Final = "days whose file is not JSON"


def is_slack(folder: Traversable) -> bool:
    """Whether the folder has what each export of Slack has."""
    return folder.joinpath("users.json").is_file() and any(
        folder.joinpath(name).is_file() for name in LISTS
    )


def slack(folder: Traversable, options: Options) -> Iterator[Conversation]:
    """The channels, private channels, groups and direct messages in an export."""
    users = objects(_read(folder, "users.json"))
    names = {user["id"]: _shown(user) for user in users if isinstance(user.get("id"), str)}
    me = options.me | {id_ for id_, name in names.items() if name in options.me}
    for listing in LISTS:
        if not folder.joinpath(listing).is_file():
            continue
        for listed in objects(_read(folder, listing)):
            id_ = text(listed.get("id"))
            name = text(listed.get("name")) or id_
            place = folder.joinpath(name)
            if id_ and "/" not in name and name not in (".", "..") and place.is_dir():
                here = Conversation(options.key("slack", id_), name=f"#{name}", channel="slack")
                here.room = id_
                yield from _channel(place, here, names, me, options)


def _channel(
    place: Traversable,
    here: Conversation,
    names: Mapping[str, str],
    me: frozenset[str],
    options: Options,
) -> Iterator[Conversation]:
    """The channel, and each of its threads."""
    made = {here.key: here}
    for day in sorted(each.name for each in place.iterdir() if each.name.endswith(".json")):
        try:
            events = objects(_read(place, day))
        except InvalidInputError:
            here.not_kept[_UNREADABLE] += 1
            continue
        for event in events:
            changes = channel.read({**event, "channel": here.room}, me=me, names=names)
            here.not_kept["reactions"] += bool(event.get("reactions"))
            here.not_kept["what an edited message said before"] += bool(event.get("edited"))
            here.not_kept[_EVENTS] += not changes
            for change in changes:
                if isinstance(change, Said):
                    key = options.key("slack", change.key.removeprefix("slack_"))
                    into = made.setdefault(
                        key, replace(here, key=key, messages=[], not_kept=Counter())
                    )
                    into.messages.append(change.message)
                    into.not_kept[FILES] += len(change.message.attachments)
    for conversation in made.values():
        conversation.messages.sort(key=lambda each: each.platform_id or "")
        yield conversation


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
        return orjson.loads(bytes_of(folder.joinpath(name)))
    except ValueError as error:
        raise InvalidInputError("file", f"{folder.name}/{name} is not JSON: {error}") from None
