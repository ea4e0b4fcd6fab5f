"""The nouns of the contract: messages, sessions, and the limits they keep.

The checks here run in the producer, before anything is enqueued, and in the worker, before anything
is stored, so that neither has to trust the other. Each returns the value, if it fits, and raises
`InvalidInputError` otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, ClassVar, Final, Literal, Protocol, Self, overload

from backscroll.contract.attachments import Attachment, attachments_of
from backscroll.contract.errors import InvalidInputError

MAX_KEY_CHARS: Final = 512
MAX_ATTRIBUTE_CHARS: Final = 512

Meta = Mapping[str, str | int | float | bool | None]
"""A session's own keys and values; where they are changed, None clears a key."""

SessionAttributes = Mapping[str, str | bool | float | Meta | None]
"""Attributes of a session by name, as `describe` takes them; None clears one."""

State = Literal["idle", "running", "error"]
STATES: Final[tuple[State, ...]] = ("idle", "running", "error")

LATEST_MICROS: Final = 253_402_300_800_000_000  # the year 10000, where datetime ends
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC; `moment` must carry a time zone."""
    return (moment - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The UTC time `micros` microseconds after 1970, exact to the microsecond."""
    return EPOCH + micros * _MICROSECOND  # faster than to make a timedelta of them


@dataclass(frozen=True, slots=True)
class EarlierVersion:
    """What a message was until it was replaced at `replaced_at`, by the store's clock, in UTC."""

    role: str
    content: str
    extra: Mapping[str, Any] | None
    replaced_at: datetime

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: without an absent `extra`, the time in microseconds."""
        fields: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.extra is not None:
            fields["extra"] = self.extra
        fields["replaced_at"] = to_micros(self.replaced_at)
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        replaced_at = from_micros(fields["replaced_at"])
        return cls(fields["role"], fields["content"], fields.get("extra"), replaced_at)


class _OfRole(Protocol):
    """Makes a message of one role; other keyword arguments join `extra`."""

    def __call__(
        self,
        content: str,
        *,
        extra: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
        author: str | None = None,
        author_name: str | None = None,
        platform_id: str | None = None,
        reply_to: str | None = None,
        tokens: int | None = None,
        attachments: Sequence[Attachment] = (),
        **more: Any,
    ) -> ChatMessage: ...


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a conversation.

    `role` says in which part somebody speaks (any non-empty text), `content` what is said (may be
    empty), `extra` is a JSON object given back unchanged, as of tool calls. `message_id` is stamped
    by the producer; `created_at` too, unless it is given. A message that was loaded can be appended
    elsewhere, and gets another id there. `edits` are the earlier versions, oldest first, for who
    loads them; to send them has no effect.

    `author` is the platform's id of who said it, and `author_name` the name to show, for which
    there must be an author. `platform_id` is the platform's id of the message, `reply_to` that of
    the message which it answers; of both up to 512 characters. `tokens` is what a model counts for
    it. `upto` makes it a summary, see `ChatMessage.summary`. `attachments` are pictures and other
    files, as a list or a tuple, at most 32.
    """

    role: str
    content: str
    extra: Mapping[str, Any] | None = None
    message_id: str | None = None
    created_at: datetime | None = None
    edits: tuple[EarlierVersion, ...] = ()
    author: str | None = None
    author_name: str | None = None
    platform_id: str | None = None
    reply_to: str | None = None
    tokens: int | None = None
    upto: str | None = None
    attachments: Sequence[Attachment] = ()
    """As a tuple, also where a list was given."""

    user: ClassVar[_OfRole]
    assistant: ClassVar[_OfRole]
    system: ClassVar[_OfRole]
    tool: ClassVar[_OfRole]

    def __post_init__(self) -> None:
        if isinstance(self.attachments, list):
            object.__setattr__(self, "attachments", tuple(self.attachments))

    @classmethod
    def summary(
        cls,
        content: str,
        *,
        upto: str,
        role: str = "system",
        created_at: datetime | None = None,
        tokens: int | None = None,
    ) -> Self:
        """What was said up to the message with the id `upto`, itself included, in short.

        `load(active=True)` begins with a session's newest summary, followed by what was said after
        `upto`. What it stands for stays where it is: readable, searchable, exported.
        """
        return cls(role, content, created_at=created_at, tokens=tokens, upto=upto)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: `role` and `content` first, no absent fields, time in microseconds."""
        fields: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.extra is not None:
            fields["extra"] = self.extra
        if self.message_id is not None:
            fields["message_id"] = self.message_id
        if self.created_at is not None:
            fields["created_at"] = to_micros(self.created_at)
        if self.edits:
            fields["edits"] = [edit.to_dict() for edit in self.edits]
        if self.attachments:
            fields["attachments"] = [each.to_dict() for each in self.attachments]
        return fields | known_circumstances(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ChatMessage:
        """The inverse of `to_dict`, for data the worker has checked already."""
        micros = fields.get("created_at")
        edits = fields.get("edits")
        made: Any = DraftMessage()
        made.role = fields["role"]
        made.content = fields["content"]
        made.extra = fields.get("extra")
        made.message_id = fields.get("message_id")
        made.created_at = None if micros is None else from_micros(micros)
        made.edits = tuple([EarlierVersion.from_dict(edit) for edit in edits]) if edits else ()
        made.author = fields.get("author")
        made.author_name = fields.get("author_name")
        made.platform_id = fields.get("platform_id")
        made.reply_to = fields.get("reply_to")
        made.tokens = fields.get("tokens")
        made.upto = fields.get("upto")
        made.attachments = attachments_of(fields.get("attachments"))
        made.__class__ = ChatMessage
        return made  # type: ignore[no-any-return]


class DraftMessage:
    """A message to be filled and then made one: a frozen one takes six times as long to make."""

    __slots__ = ChatMessage.__slots__


CIRCUMSTANCES: Final = ("author", "author_name", "platform_id", "reply_to", "tokens", "upto")
"""The fields of a message besides what is said and its identity; in JSON under the same names.

The last fields of `ChatMessage` but its attachments, in this order.
"""

circumstances: Final = attrgetter(*CIRCUMSTANCES)
"""Their values for a message, in this order."""

NO_CIRCUMSTANCES: Final = (None,) * len(CIRCUMSTANCES)


def known_circumstances(message: ChatMessage) -> dict[str, Any]:
    """Those of the fields that are set, by name."""
    values = circumstances(message)
    if values == NO_CIRCUMSTANCES:
        return {}
    return {
        name: value for name, value in zip(CIRCUMSTANCES, values, strict=True) if value is not None
    }


def _of_role(role: str, whose: str) -> _OfRole:
    def message(
        content: str,
        *,
        extra: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
        author: str | None = None,
        author_name: str | None = None,
        platform_id: str | None = None,
        reply_to: str | None = None,
        tokens: int | None = None,
        attachments: Sequence[Attachment] = (),
        **more: Any,
    ) -> ChatMessage:
        circumstances = author, author_name, platform_id, reply_to, tokens, None
        extra = _joined(extra, more)
        return ChatMessage(role, content, extra, None, created_at, (), *circumstances, attachments)

    message.__doc__ = f"{whose}; other keyword arguments join `extra`."
    return message


ChatMessage.user = _of_role("user", "A user's message")
ChatMessage.assistant = _of_role("assistant", "An assistant's message")
ChatMessage.system = _of_role("system", "A system message")
ChatMessage.tool = _of_role("tool", "A tool's result")


SESSION_TIMES: Final = ("created_at", "last_activity", "turn_started_at", "turn_expires_at")
"""The fields of a `SessionInfo` that are times; in JSON microseconds since 1970 UTC."""


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What is known of one session besides its messages. Times are UTC."""

    key: str
    created_at: datetime
    last_activity: datetime
    message_count: int
    name: str | None = None
    agent: str | None = None
    channel: str | None = None
    room: str | None = None
    sender: str | None = None
    state: State = "idle"
    turn_id: str | None = None
    turn_started_at: datetime | None = None
    pinned: bool = False
    turn_expires_at: datetime | None = None
    """When the lease of the turn expires unless it is renewed; None without a lease."""
    meta: Mapping[str, str | int | float | bool] = field(default_factory=dict, hash=False)
    """The session's own keys and values."""
    closed: bool = False
    """Whether it takes no more messages."""
    forked_from: str | None = None
    """The key that the session had of which this one is a fork."""
    forked_upto: str | None = None
    """The id of that session's last message that the fork has; None if there was none."""
    continued_from: str | None = None
    """The key of the conversation before, where `reset` has begun this one."""
    ttl_hours: float | None = None
    """How long it may be idle; 0 for ever, None as the worker's rules say."""

    @property
    def is_running(self) -> bool:
        """Whether a turn runs whose lease, by this host's clock, has not expired."""
        expires_at = self.turn_expires_at
        return self.state == "running" and (expires_at is None or expires_at > datetime.now(UTC))

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: every field, times in microseconds."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        for name in SESSION_TIMES:
            if fields[name] is not None:
                fields[name] = to_micros(fields[name])
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        values = dict(fields)
        for name in SESSION_TIMES:
            if values.get(name) is not None:
                values[name] = from_micros(values[name])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class SessionPage(Sequence[SessionInfo]):
    """Sessions, newest activity first; `cursor` asks for the next page, None when there is none."""

    sessions: tuple[SessionInfo, ...]
    cursor: str | None = None

    @overload
    def __getitem__(self, index: int) -> SessionInfo: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[SessionInfo, ...]: ...
    def __getitem__(self, index: int | slice) -> SessionInfo | tuple[SessionInfo, ...]:
        return self.sessions[index]

    def __len__(self) -> int:
        return len(self.sessions)


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions to list; None means "do not look at this"."""

    agent: str | None = None
    channel: str | None = None
    room: str | None = None
    sender: str | None = None
    author: str | None = None
    """Only sessions with a message of that author."""
    state: State | None = None
    pinned: bool | None = None
    stuck_seconds: float | None = None
    """Only sessions whose turn has been running for longer than this."""
    expired: bool | None = None
    """Only sessions whose turn's lease has expired, or with False those where none has."""
    name: str | None = None
    """Words of the session's name, found as search finds them; the last may be unfinished."""
    active_since: datetime | None = None
    """Last activity then or later."""
    active_until: datetime | None = None
    """Last activity before that."""
    meta: Meta | None = None
    """Only sessions that have each of these keys with this value."""
    forked_from: str | None = None
    """Only forks of the session with that key."""
    prefix: str | None = None
    """Only sessions whose key begins with this text, whatever characters it has."""


def _joined(extra: object, more: dict[str, Any]) -> Any:
    """Both together; what is not an object stays as it is, and is refused when it is sent."""
    if not more:
        return extra
    return {**extra, **more} if isinstance(extra, Mapping) else more if extra is None else extra


def check_text(name: str, value: object, max_chars: int, *, may_be_empty: bool = False) -> str:
    """`value` if it is text of at most `max_chars` characters without control characters.

    As plain text: a string enumeration's member prints as something else than what it is.
    """
    if not isinstance(value, str):
        raise InvalidInputError(name, f"must be text, not {type(value).__name__}")
    if type(value) is not str:
        value = str.__str__(value)
    if 0 < len(value) <= max_chars and value.isprintable():
        return value  # nearly always; what is not printable may still be allowed
    if not value and not may_be_empty:
        raise InvalidInputError(name, "must not be empty")
    if len(value) > max_chars:
        raise InvalidInputError(
            name, f"has {len(value):,} characters; the limit is {max_chars}", max_chars
        )
    if found := _FORBIDDEN.search(value):
        raise InvalidInputError(
            name,
            f"has the character U+{ord(found[0]):04X} at position {found.start()}; "
            "control characters and lone surrogates are not allowed",
        )
    return value


def check_key(value: object) -> str:
    """`value` if it can be a session key: 1 to 512 characters, no control characters."""
    return check_text("key", value, MAX_KEY_CHARS)


def check_moment(name: str, moment: object) -> datetime:
    """`moment` if it is a time from 1970 to the year 9999 with a time zone."""
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise InvalidInputError(name, "must be a datetime with a time zone")
    if not 0 <= to_micros(moment) < LATEST_MICROS:
        raise InvalidInputError(name, "must be from 1970 to the year 9999")
    return moment
