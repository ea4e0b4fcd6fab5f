"""A conversation of another program, and the session that is made of it.

A reader gives the messages in their order, with what the other program knows of each. A message
that has no id there gets one here, which follows from when and by whom what was said: a later
export may begin elsewhere, so that its place does not tell. So the same message read again has the
same ids.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, NamedTuple

import orjson

from backscroll.channels.values import identifier, mapping, name
from backscroll.contract.attachment_checks import MAX_ATTACHMENTS
from backscroll.contract.errors import InvalidInputError
from backscroll.contract.ids import derived_op_id
from backscroll.contract.messages import ChatMessage, check_key, from_micros, to_micros
from backscroll.contract.states import SessionState
from backscroll_worker.contract.pacing import now_micros
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.stores.jsonl.decoding import Value, decode_whole
from backscroll_worker.stores.jsonl.fields import read_time
from backscroll_worker.transfer.joining import MARK, Mark
from backscroll_worker.transfer.source import Damage, Found, Incoming, NotKept, check_message

USER: Final = "user"
ASSISTANT: Final = "assistant"
FILES: Final = "the bytes of files"
REASONING: Final = "reasoning"
NOT_UNICODE: Final = "text that is not Unicode"
_ID_CHARS: Final = 36
_OUT_OF_ORDER: Final = timedelta(minutes=2)
_MAX_SHARED: Final = 200_000
"""How many messages the branches of a conversation repeat: some trees would be squared by that."""
REPEATED: Final = "messages that were there already"


@dataclass(frozen=True, slots=True)
class Options:
    """What a file does not say.

    `me` are the ids or names under which the assistant wrote; `zone` is where times without a zone
    were written down, this host's if None; `dates` in which order days, months and years, as
    "dmy"; `modified` is when the file was last changed, in microseconds since 1970 UTC.
    """

    key_prefix: str | None = None
    me: frozenset[str] = frozenset()
    zone: tzinfo | None = None
    dates: str | None = None
    modified: int = 0
    held: Callable[[str], Container[str | None]] = lambda _key: ()

    def role_of(self, *names: object) -> str:
        """The part of somebody who has these ids and names."""
        return ASSISTANT if any(str(name) in self.me for name in names if name) else USER

    def key(self, program: str, id_: object) -> str:
        """The key of a session: the program's name and its id of the conversation.

        It is empty where that is not an id.
        """
        own = identifier(id_)
        if own is None:
            return ""
        return f"{program}_{own}" if self.key_prefix is None else f"{self.key_prefix}{own}"

    def in_zone(self, local: datetime, after: datetime | None = None) -> datetime:
        """A time that was written down without a zone, with the one that holds on that day.

        Where clocks are set back, an hour is there twice: the second is meant if the first would be
        before the time `after` which it was written down, by more than chats are out of order.
        """
        first = self._placed(local)
        if after is not None and _utc(after) - _utc(first) > _OUT_OF_ORDER:
            return self._placed(local.replace(fold=1))
        return first

    def _placed(self, local: datetime) -> datetime:
        return local.astimezone() if self.zone is None else local.replace(tzinfo=self.zone)

    def moment(self, value: object) -> datetime | None:
        """As `moment`, but text without a zone is in this one."""
        try:
            local = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            local = None
        if local is None or local.tzinfo is not None:
            return moment(value)
        try:
            placed = self.in_zone(local)
            made = moment(placed.isoformat())
            return made and made.astimezone(placed.tzinfo)
        except (ValueError, OverflowError):
            return None


@dataclass(slots=True)
class Conversation:
    """What is taken over, and how often something of another kind could not be."""

    key: str
    messages: list[ChatMessage] = field(default_factory=list)
    name: str | None = None
    channel: str | None = None
    room: str | None = None
    not_kept: Counter[str] = field(default_factory=Counter)
    answers: dict[str, int] = field(default_factory=dict)
    """Which message has the tokens of an answer that is in several of them, by the answer's id."""

    def add(self, role: object, content: str, at: datetime | None, **fields: Any) -> None:
        """One message; what it does not have is None. Its files' bytes are not there."""
        attached = fields.get("attachments") or ()
        self.not_kept[FILES] += len(attached)
        self.not_kept["files of a message with too many"] += max(0, len(attached) - MAX_ATTACHMENTS)
        fields["attachments"] = tuple(attached[:MAX_ATTACHMENTS])
        known = {name: value for name, value in fields.items() if value not in (None, "", {}, ())}
        if shown := name(known.pop("author_name", None)):
            known["author_name"] = shown
            known.setdefault("author", shown)
        if (
            not content.isascii()
            and (said := content.encode("utf-8", "replace").decode()) != content
        ):
            self.not_kept["halves of characters"] += 1
            content = said
        self.messages.append(ChatMessage(str(role), content, created_at=at, **known))

    def found(self, where: str, options: Options) -> Iterator[Found]:
        """The session, what of it cannot be taken over, and what is not kept."""
        if not self.key:
            yield Damage(where, "has no id")
            return
        try:
            check_key(self.key)
        except InvalidInputError as error:
            yield Damage(where, str(error))
            return
        said, ids, alike = list[ChatMessage](), set[str](), Counter[str]()
        at = next((each.created_at for each in self.messages if each.created_at), None)
        at = at or from_micros(options.modified)
        for number, given in enumerate(self.messages, 1):
            at = given.created_at or at
            platform_id = given.platform_id or _made_id(given, alike)
            if platform_id in ids:
                self.not_kept[REPEATED] += 1
                continue
            ids.add(platform_id)
            own = derived_op_id(self.key, platform_id)
            message = replace(given, platform_id=platform_id, created_at=at, message_id=own)
            try:
                said.append(check_message(message))
            except InvalidInputError as error:
                yield Damage(f"{where}: message {number}", str(error), is_session=False)
        for what, count in self.not_kept.items():
            yield NotKept(what, count)
        if not self.messages:
            yield NotKept("conversations without messages", 1)
        if said:
            yield Incoming(where, self._operation(said), joins=True)

    def _operation(self, said: list[ChatMessage]) -> ImportSession:
        known = {"name": self.name, "channel": self.channel, "room": self.room}
        attributes = {field_: shown for field_, value in known.items() if (shown := name(value))}
        times = [to_micros(each.created_at) for each in said if each.created_at]
        digest = hashlib.sha256(repr((said, attributes)).encode()).hexdigest()
        op_id = derived_op_id(self.key, f"import {digest}")
        states = {MARK: SessionState(Mark.of(said)._asdict(), 1)}
        return ImportSession(
            op_id, now_micros(), self.key, tuple(said), attributes, min(times), max(times),
            states=states,
        )  # fmt: skip


def _made_id(message: ChatMessage, alike: Counter[str]) -> str:
    """The id of a message without one; `alike` counts those that are the same.

    Its time is as it was written down, whatever zone that is taken to be in.
    """
    at = message.created_at and message.created_at.replace(tzinfo=None)
    said = repr((at, message.author or message.role, message.content or message.extra))
    alike[said] += 1
    return "import-" + hashlib.sha256(f"{said} {alike[said]}".encode()).hexdigest()[:32]


def _utc(moment_: datetime) -> datetime:
    return moment_.astimezone(UTC)  # or two of one zone are compared as they are written


def moment(value: object) -> datetime | None:
    """A time as JSON documents have it: ISO 8601, or seconds or finer since 1970 UTC."""
    micros = read_time(value)
    return None if micros is None else from_micros(micros)


def object_in(line_: bytes) -> dict[str, Any] | None:
    """The JSON object that is a whole line, if it is one."""
    found = value_in(line_)
    return None if found is None else found.fields


def value_in(line_: bytes) -> Value | None:
    """The same, with whether text in it was not Unicode."""
    try:
        fields = orjson.loads(line_)
    except ValueError:
        return decode_whole(line_)
    return Value(fields) if isinstance(fields, dict) else None


def text(value: object) -> str:
    """`value` if it is text, else none."""
    return value if isinstance(value, str) else ""


def items(value: object) -> list[Any]:
    """`value` if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


class Branch(NamedTuple):
    """The nodes of one way through a conversation, from its beginning."""

    leaf: str
    nodes: list[str]


def branches(parents: Mapping[str, str | None], current: object) -> Iterator[Branch]:
    """The ways from each beginning to each end: first the one to `current`, or else the last.

    A node whose parent is not there begins a way; so does the one where a circle closes.
    """
    has_child, seen = set(parents.values()), set[str]()
    ends = [node for node in parents if node not in has_child]
    if isinstance(current, str) and current in parents:
        ends.append(current)
    main = ends[-1:]
    in_circles = (node for node in reversed(list(parents)) if node not in seen)
    for end in itertools.chain(dict.fromkeys(main + ends), in_circles):
        way = _way(parents, end)
        seen.update(way)
        yield Branch(end, way)


def _way(parents: Mapping[str, str | None], end: str) -> list[str]:
    way, node = dict[str, None](), end
    while node in parents and node not in way:
        way[node] = None
        node = parents[node] or ""
    return list(reversed(way))


def trees(
    program: str,
    id_: object,
    nodes: Mapping[str, object],
    parent: str,
    current: object,
    options: Options,
) -> Iterator[tuple[Conversation, list[str]]]:
    """A conversation for each way through the nodes, whose field `parent` is the id before.

    Where a node has no such field, the one before it in the file is its parent. The main way is the
    one that the session has, or else that to `current`. The keys of the others have the id of their
    first own node, which is the same when they have grown.
    """
    if not nodes:
        yield Conversation(options.key(program, id_)), []
        return
    ids = list(nodes)
    before = dict(zip(ids[1:], ids, strict=False))
    parents = {each: _parent(nodes[each], parent, before.get(each)) for each in ids}
    key = options.key(program, id_)
    held = options.held(key)
    seen, left = {node for node in nodes if node in held}, _MAX_SHARED
    main = _way_with(seen, parents, current)
    for way in branches(parents, current if main is None else main):
        if way.leaf == main or (main is None and not seen):
            yield Conversation(key), way.nodes
            if not key:
                return  # which is said once
        elif own := _first_own(way.nodes, seen):
            made, shared = Conversation(f"{key}~{_short(own)}"), way.nodes.index(own)
            left -= shared
            if left < 0:
                made.not_kept["messages that a branch shares with others"] += shared
            yield made, way.nodes[shared if left < 0 else 0 :]
        seen.update(way.nodes)


def _way_with(wanted: set[str], parents: Mapping[str, str | None], current: object) -> str | None:
    """The end of the way that has all these nodes, if there is one: a session has them."""
    if not wanted:
        return None
    return next((each.leaf for each in branches(parents, current) if wanted <= {*each.nodes}), None)


def _first_own(way: list[str], seen: Container[str]) -> str | None:
    """The first node after all that were seen; None if that is the last one."""
    own = list(itertools.takewhile(lambda node: node not in seen, reversed(way)))
    return own[-1] if own else None


def _short(id_: str) -> str:
    return id_ if len(id_) <= _ID_CHARS else hashlib.sha256(id_.encode()).hexdigest()[:_ID_CHARS]


def _parent(node: object, name_: str, before: str | None) -> str | None:
    parent = mapping(node).get(name_, before)
    return parent if isinstance(parent, str) else None
