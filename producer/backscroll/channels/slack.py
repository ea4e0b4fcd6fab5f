"""Slack: events as Bolt hands them to a listener, and Slack to an endpoint, read by `read`.

Keys (with `team`, the workspace, in front of the channel where the bot serves several):

- `slack_CHANNEL`, `slack_TEAM_CHANNEL`: a channel, a group, or the direct messages with somebody
- `slack_CHANNEL_THREAD`, `slack_TEAM_CHANNEL_THREAD`: the replies of a thread, which is named by
  the time stamp of its first message; that one itself stays in its channel
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from backscroll.channels.changes import Change, Deleted, Edited, Said
from backscroll.channels.message import Author, Me, author, file, message
from backscroll.channels.values import (
    identifier,
    mapping,
    moment_of_seconds,
    objects,
    session_key,
    text,
)
from backscroll.contract.attachments import Attachment
from backscroll.contract.messages import ChatMessage

Names = Mapping[str, str]
"""What to show for the ids of users, as `users.info` says; events do not say it."""

_Event = Mapping[str, Any]

_SAID: Final = (None, "file_share", "me_message", "thread_broadcast", "bot_message")
_TIME_STAMP: Final = re.compile(r"[0-9]{1,12}\.[0-9]{1,9}")
_MARKUP: Final = re.compile(r"<([^<>|]*)(?:\|([^<>]*))?>")
_SCHEME: Final = re.compile(r"(?:https?://|mailto:|tel:)")


def read(
    event: object, *, me: Me = None, names: Names | None = None, team: str | None = None
) -> tuple[Change, ...]:
    """What changes by an event: the inner one, or the whole body with it.

    `me` is the bot's user id, or that and its bot id. `names` are shown for the ids of authors and
    in mentions. `team` is the workspace's id, `body["team_id"]`, for a bot that serves several.
    A reply that is also sent to its channel is in both.
    """
    inner = mapping(event)
    inner = mapping(inner.get("event")) or inner
    channel = inner.get("channel")
    if inner.get("type") not in ("message", "app_mention") or not _is_id(channel):
        return ()
    if team is not None and not _is_id(team):
        return ()
    place = _Place(channel, team, me, names or {}, inner.get("channel_type") == "im")
    changed, before = mapping(inner.get("message")), mapping(inner.get("previous_message"))
    match inner.get("subtype"):
        case "message_changed":
            return place.changed(changed, before, identifier(inner.get("ts")))
        case "message_deleted":
            return place.deleted(inner.get("deleted_ts"), before)
        case subtype if subtype in _SAID:
            return place.said(inner)
    return ()


def key(channel: str, thread: str | None = None, *, team: str | None = None) -> str:
    """The session's key for a channel, or for a thread of it, by the ids and the time stamp."""
    return session_key("slack", *(each for each in (team, channel, thread) if each is not None))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an event happened, and what is needed to read it."""

    channel: str
    team: str | None
    me: Me
    names: Names
    is_direct: bool

    def said(self, event: _Event) -> tuple[Change, ...]:
        if (what := self._message(event)) is None:
            return ()
        session: dict[str, str] = {"channel": "slack", "room": self.channel}
        if self.is_direct and what.role == "user" and what.author and not event.get("bot_id"):
            session["sender"] = what.author
        return tuple(Said(each, what, session) for each in self._keys(event))

    def changed(self, event: _Event, before: _Event, edit_id: str | None) -> tuple[Change, ...]:
        if event.get("subtype") == "tombstone":  # the first message of a thread, deleted
            return self.deleted(event.get("ts"), before)
        what, was = self._message(event), self._message(before)
        if what is None or what.platform_id is None or what == was:
            return ()  # the preview of a link came, or a reply was counted
        if before and was is None:  # there was nothing to show yet
            return self.said(event)
        return tuple(Edited(each, what, what.platform_id, edit_id) for each in self._keys(event))

    def deleted(self, ts: object, before: _Event) -> tuple[Change, ...]:
        if not _is_time_stamp(ts):
            return ()
        return tuple(Deleted(each, ts) for each in self._keys({**before, "ts": ts}))

    def _keys(self, event: _Event) -> list[str]:
        thread = event.get("thread_ts")
        if not _is_time_stamp(thread) or thread == event.get("ts"):
            return [key(self.channel, team=self.team)]
        keys = [key(self.channel, thread, team=self.team)]
        if event.get("subtype") == "thread_broadcast":
            keys.append(key(self.channel, team=self.team))
        return keys

    def _message(self, event: _Event) -> ChatMessage | None:
        ts, thread = event.get("ts"), event.get("thread_ts")
        said, files = self._readable(_text(event)), _files(event)
        if not _is_time_stamp(ts) or not (said or files):
            return None
        return message(
            said,
            files,
            self._author(event),
            self.me,
            platform_id=ts,
            reply_to=thread if _is_time_stamp(thread) and thread != ts else None,
            created_at=moment_of_seconds(ts),
        )

    def _author(self, event: _Event) -> Author:
        user, bot = identifier(event.get("user")), identifier(event.get("bot_id"))
        profile = mapping(event.get("user_profile"))
        shown = (
            event.get("username")
            or self.names.get(user or bot or "")
            or profile.get("display_name")
            or profile.get("real_name")
            or mapping(event.get("bot_profile")).get("name")
        )
        return author(user, bot, shown=shown)

    def _readable(self, raw: str) -> str:
        """Slack's markup as its window shows it: `<@U1>`, `<https://…|here>`, `&amp;`."""
        shown = _MARKUP.sub(self._shown, raw)
        return shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")

    def _shown(self, found: re.Match[str]) -> str:
        target, label = found[1], found[2]
        kind, rest = target[:1], target[1:]
        if kind == "@":
            return "@" + (self.names.get(rest) or label or rest)
        if kind == "#":
            return "#" + (label or rest)
        if kind == "!":
            return label or "@" + rest.rpartition("^")[2]
        bare = _SCHEME.sub("", target)
        if label and label not in (target, bare):
            return f"{label} ({target})"
        return label or (target if target.startswith("http") else bare)


def _is_id(value: object) -> TypeGuard[str]:
    """Whether it is one of Slack's ids, which cannot be taken for a time stamp."""
    return isinstance(value, str) and value.isascii() and value.isalnum() and len(value) < 100


def _is_time_stamp(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _TIME_STAMP.fullmatch(value) is not None


def _text(event: _Event) -> str:
    """The text; of a message that has none, what its blocks and attachments say."""
    if said := text(event.get("text")):
        return said
    attached = objects(event.get("attachments"))
    own = [each for each in attached if not each.get("from_url")]  # or the preview of a link
    lines = [_said_in(event.get("blocks")), *map(_attached_text, own)]
    return "\n".join(filter(None, lines)) or "\n".join(filter(None, map(_attached_text, attached)))


def _attached_text(attached: _Event) -> str:
    fallback = text(attached.get("fallback"))
    return text(attached.get("text")) or _said_in(attached.get("blocks")) or fallback


def _said_in(blocks: object) -> str:
    """What blocks say, a line each; people and channels as in the markup of a text."""
    return "\n".join(filter(None, map(_block_text, objects(blocks))))


def _block_text(block: _Event) -> str:
    lines = [text(mapping(block.get("text")).get("text"))]
    lines += [text(each.get("text")) for each in objects(block.get("fields"))]
    parts = objects(block.get("elements"))
    if block.get("type") == "rich_text":
        lines += [_rich_text(part) for part in parts]
    elif block.get("type") == "context":
        lines += [text(part.get("text")) for part in parts]
    return "\n".join(filter(None, lines))


def _rich_text(part: _Event) -> str:
    """A paragraph, a quotation or code; a list has a line for each of its items."""
    if part.get("type") == "rich_text_list":
        return "\n".join(map(_rich_line, objects(part.get("elements"))))
    return _rich_line(part)


def _rich_line(part: _Event) -> str:
    return "".join(map(_rich_element, objects(part.get("elements"))))


def _rich_element(each: _Event) -> str:
    """Text as markup has it, in which `<`, `>` and `&` are escaped."""
    match each.get("type"):
        case "user":
            return f"<@{text(each.get('user_id'))}>"
        case "channel":
            return f"<#{text(each.get('channel_id'))}>"
        case "usergroup":
            return f"<!subteam^{text(each.get('usergroup_id'))}>"
        case "broadcast":
            return f"<!{text(each.get('range'))}>"
        case "emoji":
            return f":{text(each.get('name'))}:"
        case "link":
            label = _escaped(text(each.get("text")))
            return f"<{text(each.get('url'))}{'|' + label if label else ''}>"
    return _escaped(text(each.get("text")))


def _escaped(said: str) -> str:
    return said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _files(event: _Event) -> list[Attachment]:
    return [
        file(
            name_=each.get("name") or each.get("title"),
            mime_type=each.get("mimetype"),
            size=each.get("size"),
            url=each.get("url_private"),
            platform_id=each.get("id"),
        )
        for each in objects(event.get("files"))
        if each.get("mode") != "tombstone"  # deleted
    ]
