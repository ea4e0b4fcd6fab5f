"""The nouns of the contract: messages, sessions, and the limits they keep.

The checks here run in the producer, before anything is enqueued, and in the worker, before anything
is stored, so that neither has to trust the other. Each returns the value, if it fits, and raises
`InvalidInputError` otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Self, overload

import orjson

from backscroll.contract.errors import InvalidInputError

MAX_KEY_CHARS: Final = 512
MAX_ROLE_CHARS: Final = 64
MAX_ATTRIBUTE_CHARS: Final = 512
MAX_MESSAGE_BYTES: Final = 1024 * 1024
MAX_OPERATION_BYTES: Final = 16 * 1024 * 1024

SessionAttributes = Mapping[str, str | bool | None]
"""Attributes of a session by name, as `describe` takes them; None clears one."""

State = Literal["idle", "running", "error"]
STATES: Final[tuple[State, ...]] = ("idle", "running", "error")

LATEST_MICROS: Final = 253_402_300_800_000_000  # the year 10000, where datetime ends
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Whatever is not plain JSON must raise instead of being turned into something else.
_STRICT_JSON = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC; `moment` must carry a time zone."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The UTC time `micros` microseconds after 1970, exact to the microsecond."""
    return _EPOCH + timedelta(microseconds=micros)


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


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a conversation.

    `role` says who speaks (any non-empty text), `content` what is said (may be empty), `extra` is
    a JSON object given back unchanged: tool calls, attachments, the platform's own ids.
    `message_id` is stamped by the producer; `created_at` too, unless it is given. A message that
    was loaded can be appended elsewhere, and gets another id there. `edits` are the earlier
    versions, oldest first, for who loads them; to send them has no effect.
    """

    role: str
    content: str
    extra: Mapping[str, Any] | None = None
    message_id: str | None = None
    created_at: datetime | None = None
    edits: tuple[EarlierVersion, ...] = ()

    @classmethod
    def user(
        cls,
        content: str,
        *,
        extra: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
        **more: Any,
    ) -> Self:
        """A user's message; other keyword arguments join `extra`."""
        return cls("user", content, _joined(extra, more), created_at=created_at)

    @classmethod
    def assistant(
        cls,
        content: str,
        *,
        extra: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
        **more: Any,
    ) -> Self:
        """An assistant's message; other keyword arguments join `extra`."""
        return cls("assistant", content, _joined(extra, more), created_at=created_at)

    @classmethod
    def system(
        cls,
        content: str,
        *,
        extra: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
        **more: Any,
    ) -> Self:
        """A system message; other keyword arguments join `extra`."""
        return cls("system", content, _joined(extra, more), created_at=created_at)

    @classmethod
    def tool(
        cls,
        content: str,
        *,
        extra: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
        **more: Any,
    ) -> Self:
        """A tool's result; other keyword arguments join `extra`."""
        return cls("tool", content, _joined(extra, more), created_at=created_at)

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
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`, for data the worker has checked already."""
        micros = fields.get("created_at")
        edits = fields.get("edits")
        return cls(
            fields["role"],
            fields["content"],
            fields.get("extra"),
            fields.get("message_id"),
            None if micros is None else from_micros(micros),
            tuple([EarlierVersion.from_dict(edit) for edit in edits]) if edits else (),
        )


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

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: every field, times in microseconds."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        for name in ("created_at", "last_activity", "turn_started_at"):
            if fields[name] is not None:
                fields[name] = to_micros(fields[name])
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        values = dict(fields)
        for name in ("created_at", "last_activity", "turn_started_at"):
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
    state: State | None = None
    pinned: bool | None = None
    stuck_seconds: float | None = None
    """Only sessions whose turn has been running for longer than this."""
    name: str | None = None
    """Words of the session's name, found as search finds them; the last may be unfinished."""
    active_since: datetime | None = None
    """Last activity then or later."""
    active_until: datetime | None = None
    """Last activity before that."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes a message and an operation may have, in bytes of UTF-8 content plus JSON `extra`."""

    message_bytes: int = MAX_MESSAGE_BYTES
    operation_bytes: int = MAX_OPERATION_BYTES


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


def check_messages(messages: Iterable[object], limits: Limits, *, were_json: bool = False) -> None:
    """Raise `InvalidInputError` unless every item is a message that can be stored unchanged.

    With `were_json` they came out of JSON, so that they will come out of it again.
    """
    total, count = 0, 0
    for count, message in enumerate(messages, start=1):  # noqa: B007 - counted for the check below
        if not isinstance(message, ChatMessage):
            raise InvalidInputError(
                "messages", f"must be ChatMessage objects, not {type(message).__name__}"
            )
        total += _message_size(message, limits.message_bytes, were_json)
    if count == 0:
        raise InvalidInputError("messages", "give at least one message")
    if total > limits.operation_bytes:
        raise InvalidInputError(
            "messages",
            f"have {total:,} bytes together; the limit for one call is {limits.operation_bytes:,}",
            limits.operation_bytes,
        )


def _message_size(message: ChatMessage, limit: int, was_json: bool) -> int:
    check_text("role", message.role, MAX_ROLE_CHARS)
    if not isinstance(message.content, str):
        raise InvalidInputError("content", f"must be text, not {type(message.content).__name__}")
    try:
        size = len(message.content.encode())
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            "content", f"has a lone surrogate at position {error.start}; it is not valid Unicode"
        ) from None
    if message.extra is not None:
        size += _extra_size(message.extra, was_json)
    if size > limit:
        raise InvalidInputError(
            "content", f"has {size:,} bytes with its extra; the limit is {limit:,}", limit
        )
    if message.created_at is not None:
        check_moment("created_at", message.created_at)
    return size


def _extra_size(extra: object, was_json: bool) -> int:
    if not isinstance(extra, dict):
        raise InvalidInputError(
            "extra", f"must be a JSON object (dict), not {type(extra).__name__}"
        )
    try:
        # Inside as many objects as will ever be around it: JSON may be 254 deep.
        encoded = orjson.dumps([[[[[[[[extra]]]]]]]], option=_STRICT_JSON)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError("extra", f"is not JSON: {error}") from None
    # NaN becomes null and a tuple a list; what would not come back equal is refused instead.
    if not was_json and orjson.loads(encoded) != [[[[[[[[extra]]]]]]]]:
        raise InvalidInputError(
            "extra", "would not come back unchanged: it holds NaN, infinity, or a type JSON lacks"
        )
    return len(encoded)
