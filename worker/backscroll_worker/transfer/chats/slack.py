"""The export of a Slack workspace: a folder with a folder a channel, and in it a file a day.

A file has the events that a bot got, and `backscroll.channels.slack` reads them: a history that is
imported and one that a bot stored are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from backscroll.channels import Said
from backscroll.channels import slack as channel
from backscroll.channels.values import mapping, objects
from backscroll.contract.errors import InvalidInputError
from backscroll_worker.transfer.chats.conversation import FILES, Conversation, Options, text
from backscroll_worker.transfer.folders import Folder
from backscroll_worker.transfer.json_pieces import BadValueError, JsonPieces
from backscroll_worker.transfer.opening import as_utf8

LISTS: Final = ("channels.json", "groups.json", "mpims.json", "dms.json")
_EVENTS: Final = "events, such as who joined"
_UNREADABLE: Final = "days whose file cannot be read"
_MAX_FILE_BYTES: Final = 256 * 1024 * 1024


def is_slack(files: Collection[str]) -> bool:
    """Whether a folder with these files has what each export of Slack has."""
    return not lacks(files)


def lacks(files: Collection[str]) -> str:
    """What these files of a folder lack to be an export; "" if nothing."""
    if "users.json" not in files:
        return "users.json"
    return ", ".join(LISTS[:-1]) + f" or {LISTS[-1]}" if set(LISTS).isdisjoint(files) else ""


def slack(folder: Folder, options: Options) -> Iterator[Conversation]:
    """The channels, private channels, groups and direct messages in an export."""
    users = objects(_read(folder, "users.json"))
    names = {user["id"]: _shown(user) for user in users if isinstance(user.get("id"), str)}
    me = options.me.union(*(_ids(user) for user in users if options.me & {*_called(user)}))
    for listing in sorted({*LISTS} & {*folder.files()}, key=LISTS.index):
        for listed in objects(_read(folder, listing)):
            id_ = text(listed.get("id"))
            name = text(listed.get("name")) or id_
            if id_ and folder.has_folder(name):
                here = Conversation(options.key("slack", id_), name=f"#{name}", channel="slack")
                here.room = id_
                yield from _channel(folder, name, here, names, me, options)


def _channel(
    folder: Folder,
    name: str,
    here: Conversation,
    names: Mapping[str, str],
    me: frozenset[str],
    options: Options,
) -> Iterator[Conversation]:
    """The channel, and each of its threads."""
    made = {here.key: here}
    for day in folder.files(name):
        if not day.endswith(".json"):
            continue
        try:
            events = _read(folder, name, day)
        except InvalidInputError:
            here.not_kept[_UNREADABLE] += 1
            continue
        for event in objects(events):
            is_mine = not options.me.isdisjoint(_called_here(event))
            own = me | {text(event.get("bot_id"))} if is_mine else me
            changes = channel.read({**event, "channel": here.room}, me=own, names=names)
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
    return next(iter(_called(user)), "")


def _called(user: Mapping[str, Any]) -> tuple[str, ...]:
    """The names that a user has, the one that is shown first."""
    profile = mapping(user.get("profile"))
    names = profile.get("display_name"), user.get("real_name"), profile.get("real_name")
    return tuple(filter(None, map(text, (*names, user.get("name")))))


def _called_here(event: Mapping[str, Any]) -> set[str]:
    """The names that a bot has in what it said, as not each is among the users."""
    return {text(event.get("username")), text(mapping(event.get("bot_profile")).get("name"))} - {""}


def _ids(user: Mapping[str, Any]) -> set[str]:
    """A user's id, and of a bot its other one."""
    return {text(user.get("id")), text(mapping(user.get("profile")).get("bot_id"))} - {""}


def _read(folder: Folder, *place: str) -> list[Any]:
    """The list in a file; raises `InvalidInputError` where it has none."""
    where = "/".join((folder.name, *place))
    with folder.opened(*place) as raw:
        _, file = as_utf8(raw)
        json = JsonPieces(file, where)
        try:
            found = json.value(_MAX_FILE_BYTES)
        except BadValueError as error:
            raise InvalidInputError("file", f"{where} {error}") from None
        json.finish()
    if not isinstance(found, list):
        raise InvalidInputError("file", f"{where} is not a list")
    return found
