"""A conversation of another program, and the session that is made of it.

A reader gives the messages in their order, with what the other program knows of each. Ids are made
here: they follow from the key and the platform's id of the message (or its place), so that the same
conversation read again gets the same ones.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, NamedTuple

import orjson

from backscroll.contract.attachment_checks import MAX_ATTACHMENTS, MAX_KIND_CHARS
from backscroll.contract.attachments import Attachment
from backscroll.contract.errors import InvalidInputError
from backscroll.contract.ids import derived_op_id
from backscroll.contract.messages import (
    MAX_ATTRIBUTE_CHARS,
    ChatMessage,
    check_key,
    from_micros,
    to_micros,
)
from backscroll_worker.contract.pacing import now_micros
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.stores.jsonl.fields import read_time
from backscroll_worker.transfer.source import Damage, Found, Incoming, NotKept, check_message

USER: Final = "user"
FILES: Final = "the bytes of files"
_LARGEST_FILE: Final = 1 << 50
ASSISTANT: Final = "assistant"


@dataclass(frozen=True, slots=True)
class Options:
    """What a file does not say.

    `me` are the ids or names under which the assistant wrote; `zone` is where times without a zone
    were written down, `dates` in which order days, months and years, as "dmy"; `modified` is when
    the file was last changed, in microseconds since 1970 UTC.
    """

    key_prefix: str | None = None
    me: frozenset[str] = frozenset()
    zone: tzinfo = UTC
    dates: str | None = None
    modified: int = 0

    def role_of(self, *names: object) -> str:
        """The part of somebody who has these ids and names."""
        return ASSISTANT if any(str(name) in self.me for name in names if name) else USER

    def key(self, program: str, id_: object) -> str:
        """The key of a session: the program's name and its id of the conversation."""
        return f"{program}_{id_}" if self.key_prefix is None else f"{self.key_prefix}{id_}"


@dataclass(slots=True)
class Conversation:
    """What is taken over, and how often something of another kind could not be."""

    key: str
    messages: list[ChatMessage] = field(default_factory=list)
    name: str | None = None
    channel: str | None = None
    room: str | None = None
    not_kept: Counter[str] = field(default_factory=Counter)

    def add(self, role: object, content: str, at: datetime | None, **fields: Any) -> None:
        """One message; what it does not have is None. Its files' bytes are not there."""
        attached = fields.get("attachments") or ()
        self.not_kept[FILES] += len(attached)
        self.not_kept["files of a message with too many"] += max(0, len(attached) - MAX_ATTACHMENTS)
        fields["attachments"] = tuple(attached[:MAX_ATTACHMENTS])
        known = {name: value for name, value in fields.items() if value not in (None, "", {}, ())}
        name = known.get("author_name")
        if name is not None:
            known["author_name"] = line(name)
            known.setdefault("author", known["author_name"])
        if (
            not content.isascii()
            and (said := content.encode("utf-8", "replace").decode()) != content
        ):
            self.not_kept["halves of characters"] += 1
            content = said
        self.messages.append(ChatMessage(str(role), content, created_at=at, **known))

    def found(self, where: str, options: Options) -> Iterator[Found]:
        """The session, what of it cannot be taken over, and what is not kept."""
        try:
            check_key(self.key)
        except InvalidInputError as error:
            yield Damage(where, str(error))
            return
        said, moment = list[ChatMessage](), from_micros(options.modified)
        first = next((each.created_at for each in self.messages if each.created_at), moment)
        moment = first
        for number, message in enumerate(self.messages, 1):
            moment = message.created_at or moment
            own = derived_op_id(self.key, message.platform_id or f"message {number}")
            try:
                said.append(check_message(replace(message, message_id=own, created_at=moment)))
            except InvalidInputError as error:
                yield Damage(f"{where}: message {number}", str(error), is_session=False)
        for what, count in self.not_kept.items():
            yield NotKept(what, count)
        if said:
            yield Incoming(where, self._operation(said))

    def _operation(self, said: list[ChatMessage]) -> ImportSession:
        known = {"name": self.name, "channel": self.channel, "room": self.room}
        attributes = {name: line(value) for name, value in known.items() if value}
        times = [to_micros(each.created_at) for each in said if each.created_at]
        digest = hashlib.sha256(repr((said, attributes)).encode()).hexdigest()
        op_id = derived_op_id(self.key, f"import {digest}")
        return ImportSession(
            op_id, now_micros(), self.key, tuple(said), attributes, min(times), max(times)
        )


def file(
    kind: str,
    name: object = None,
    mime_type: object = None,
    size: object = None,
    url: object = None,
    platform_id: object = None,
) -> Attachment:
    """What is known of a file that a message has; what is not text, or no size, is left out."""
    fields: dict[str, Any] = {}
    known = {"name": name, "mime_type": mime_type, "url": url, "platform_id": platform_id}
    for field_, value in known.items():
        if shown := line(text(value)):
            fields[field_] = shown
    if type(size) is int and 0 <= size <= _LARGEST_FILE:
        fields["size"] = size
    return Attachment(line(kind)[:MAX_KIND_CHARS] or "file", **fields)


def line(value: object) -> str:
    """A name as it may be stored: one line of printable characters, not too long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return text[:MAX_ATTRIBUTE_CHARS]


def moment(value: object) -> datetime | None:
    """A time as JSON documents have it: ISO 8601, or seconds or finer since 1970 UTC."""
    micros = read_time(value)
    return None if micros is None else from_micros(micros)


def object_in(line_: bytes) -> dict[str, Any] | None:
    """The JSON object that is a whole line, if it is one."""
    try:
        fields = orjson.loads(line_)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def text(value: object) -> str:
    """`value` if it is text, else none."""
    return value if isinstance(value, str) else ""


def mapping(value: object) -> Mapping[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """`value` if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


class Branch(NamedTuple):
    """The nodes of one way through a conversation, from its beginning."""

    leaf: str
    nodes: list[str]


def branches(parents: Mapping[str, str | None], current: object) -> list[Branch]:
    """The ways from each beginning to each end: first the one to `current`, or else the last.

    A node whose parent is not there begins a way; one that is its own ancestor is left out.
    """
    has_child = {parent for parent in parents.values() if parent is not None}
    leaves = [node for node in parents if node not in has_child]
    main = current if isinstance(current, str) and current in parents else None
    if main is None:
        main = leaves[-1] if leaves else None
    way = [] if main is None else _way(parents, main)
    found = [] if main is None else [Branch(main, way)]
    return found + [Branch(leaf, _way(parents, leaf)) for leaf in leaves if leaf != main]


def _way(parents: Mapping[str, str | None], leaf: str) -> list[str]:
    way, node = dict[str, None](), leaf
    while node in parents and node not in way:
        way[node] = None
        node = parents[node] or ""
    return list(reversed(way))


def of_branches(
    program: str,
    id_: str,
    ways: Iterable[Branch],
    options: Options,
) -> Iterator[tuple[Conversation, list[str]]]:
    """A conversation for each way; those beside the main one have the end's id in their keys."""
    for number, way in enumerate(ways):
        key = options.key(program, id_)
        yield Conversation(key if number == 0 else f"{key}~{way.leaf[:36]}"), way.nodes
