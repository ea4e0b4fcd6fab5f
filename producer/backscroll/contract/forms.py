"""What a field may hold and how it travels in JSON, by its type.

An operation or a filter is a dataclass, and its fields say all that there is to say: `check` checks
what a caller gave, `read` takes what a job carries (and checks it, as a job may hold anything), and
`written` is what the job then carries. Each type that a field can have is in `_FORMS`. A field that
differs from its type has a form of its own: `Annotated[int, PAGE]`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import MISSING, fields
from datetime import datetime
from functools import partial
from operator import attrgetter
from types import NoneType
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin, get_type_hints

from backscroll.contract.attachment_checks import read_attachments
from backscroll.contract.errors import InvalidInputError
from backscroll.contract.filters import WITHIN, SearchFilter, Within
from backscroll.contract.message_checks import (
    MAX_OPERATION_BYTES,
    MAX_TOKENS,
    Limits,
    check_circumstances,
    check_messages,
)
from backscroll.contract.messages import (
    CIRCUMSTANCES,
    MAX_ATTRIBUTE_CHARS,
    NO_CIRCUMSTANCES,
    STATES,
    ChatMessage,
    DraftMessage,
    Meta,
    SessionAttributes,
    SessionFilter,
    State,
    check_moment,
    check_text,
    from_micros,
    known_circumstances,
    to_micros,
)
from backscroll.contract.meta import check_meta
from backscroll.contract.validation import (
    MAX_LOAD,
    MAX_PAGE,
    ArgumentReader,
    Arguments,
    check_attributes,
    check_flag,
    check_limit,
    check_micros,
    check_number,
    check_query,
    of_type,
    shown,
)

# The producer has already held its own, perhaps smaller, limit; the worker only bounds memory.
_WORKER_LIMITS: Final = Limits(MAX_OPERATION_BYTES, MAX_OPERATION_BYTES)
_OWN_ID: Final = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")
_NOT_SENT: Final = ("op_id", "was_spooled")
_OURS: Final = ("at",)  # which no caller gives


def setters(kind: type, *names: str) -> tuple[Callable[[Any, Any], None], ...]:
    """What sets each of a frozen record's slots while it is being made, faster than its class."""
    return tuple([getattr(kind, name).__set__ for name in names])


# What travels of a message: these as they are, for `check_messages` to check, and those read first.
_PLAIN_FIELDS: Final = frozenset(("role", "content", *CIRCUMSTANCES))
_READ_FIELDS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "extra": partial(of_type, dict),
    "created_at": lambda name, value: from_micros(check_micros(name, value)),
    "attachments": read_attachments,
}


class Form(NamedTuple):
    """Of one type: how a caller's value is checked, a job's read, and what is held written.

    Both of the first get the field's name, return what is to be held, and raise
    `InvalidInputError` for what does not fit.
    """

    check: Callable[[str, Any, Limits], Any]
    read: Callable[[str, Any], Any]
    write: Callable[[Any], Any] | None = None


class _Fields(NamedTuple):
    """Of a class: what is to be known of each field to check, to read and to write it."""

    checks: tuple[tuple[str, Callable[[Any], Any], Callable[[Any, Any], None], bool, Any], ...]
    reads: tuple[tuple[str, Callable[[Any, Any], None], Any, Callable[[str, Any], Any]], ...]
    writes: tuple[tuple[str, Callable[[Any], Any], Any, Callable[[Any], Any] | None], ...]


def check(record: Any, limits: Limits) -> None:
    """Check what a caller gave for `record`, which is only being made, and put it in as plain
    values of the field's type.

    Raises `InvalidInputError`.
    """
    for name, get, put, may_be_none, check_value in _fields(record.__class__).checks:
        given = get(record)
        if given is None and may_be_none:
            continue
        checked = check_value(name, given, limits)
        if checked is not given:
            put(record, checked)


def read(record: Any, values: Arguments) -> None:
    """Take the fields of `record`, which is only being made, out of `values`.

    Raises `InvalidInputError` for one that is missing or does not fit.
    """
    for name, put, default, read_value in _fields(record.__class__).reads:
        if name in values and (value := values.pop(name)) is not None:
            put(record, read_value(name, value))
        elif default is MISSING:
            raise InvalidInputError(name, "is missing")
        else:
            put(record, default)


def written(record: Any) -> Arguments:
    """The JSON form of `record`, which `read` takes: without what is not set.

    Nor what is False unless said otherwise: older workers may not know it.
    """
    values: Arguments = {}
    for name, get, unsaid, write in _fields(record.__class__).writes:
        value = get(record)
        if value is not None and value is not unsaid:
            values[name] = value if write is None else write(value)
    return values


@functools.cache
def _fields(kind: Any) -> _Fields:
    hints = get_type_hints(kind, include_extras=True)
    checks, reads, writes = [], [], []
    for each in fields(kind):
        name, default = each.name, each.default
        if name in _NOT_SENT:
            continue
        form, may_be_none = _form_of(hints[name])
        get, (put,) = attrgetter(name), setters(kind, name)
        if name not in _OURS:
            checks.append((name, get, put, may_be_none, form.check))
        reads.append((name, put, default, form.read))
        writes.append((name, get, False if default is False else None, form.write))
    return _Fields(tuple(checks), tuple(reads), tuple(writes))


def _form_of(hint: Any) -> tuple[Form, bool]:
    """The form of a field's type, and whether the field may be None."""
    options = get_args(hint)
    if NoneType in options:
        (hint,) = (option for option in options if option is not NoneType)
        return _form_of(hint)[0], True
    if get_origin(hint) is Annotated:
        return options[1], False
    return _FORMS[hint], False


def _plain(check_value: Callable[[str, Any], Any]) -> Form:
    """The form of what is the same in JSON."""
    return Form(lambda name, value, _limits: check_value(name, value), check_value)


def _filter(kind: Any) -> Form:
    def check_filter(name: str, value: Any, limits: Limits) -> Any:
        if not isinstance(value, kind):
            raise InvalidInputError(name, f"must be a {kind.__name__}, not {shown(value)}")
        check(made := copy(value), limits)
        return made

    def read_filter(name: str, value: Any) -> Any:
        values = of_type(dict, name, value)
        read(made := kind.__new__(kind), values)
        ArgumentReader(values).nothing_left("filter")
        return made

    return Form(check_filter, read_filter, written)


def _text(name: str, value: Any, _limits: Limits | None = None) -> str:
    return check_text(name, value, MAX_ATTRIBUTE_CHARS)


def _state(name: str, value: Any) -> str:
    if (state := _text(name, value)) not in STATES:
        raise InvalidInputError(name, f"must be one of {', '.join(STATES)}, not {state[:40]!r}")
    return state


def _within(name: str, value: Any) -> str:
    if (within := _text(name, value)) not in WITHIN:
        raise InvalidInputError(name, f"must be {' or '.join(WITHIN)}, not {within[:40]!r}")
    return within


def _attributes(name: str, value: Any) -> SessionAttributes:
    if not isinstance(value, Mapping):
        problem = f"must be a mapping of attributes, not {type(value).__name__}"
        raise InvalidInputError(name, problem)
    return check_attributes(value)


def _sent(_name: str, value: Any, limits: Limits) -> Any:
    """A message that a caller gave, or several; an id may only be one of ours, and is not sent."""
    messages = value if isinstance(value, tuple) else (value,)
    check_messages(messages, limits)
    for message in messages:
        id_ = message.message_id
        if id_ is not None and not (isinstance(id_, str) and _OWN_ID.fullmatch(id_)):
            raise InvalidInputError(
                "message_id",
                "is given by Backscroll; a platform's id belongs into extra or is the dedup_key",
            )
    return value


def _read_messages(name: str, values: Any) -> tuple[ChatMessage, ...]:
    messages = tuple([_message(each) for each in of_type(list, name, values)])
    check_messages(messages, _WORKER_LIMITS, were_json=True)
    return messages


def _message(values: Any) -> ChatMessage:
    if not isinstance(values, dict):
        raise InvalidInputError("messages", "each must be an object with role and content")
    get = values.get
    role, content = get("role"), get("content")
    if role is None or content is None:
        raise InvalidInputError("role" if role is None else "content", "is missing")
    draft: Any = DraftMessage()
    draft.role, draft.content = role, content
    draft.extra = draft.message_id = draft.created_at = None
    draft.edits = draft.attachments = ()
    said = NO_CIRCUMSTANCES
    if len(values) != 2:
        said = (
            get("author"), get("author_name"), get("platform_id"), get("reply_to"), get("tokens"),
            get("upto"),
        )  # fmt: skip
    (
        draft.author, draft.author_name, draft.platform_id, draft.reply_to, draft.tokens, draft.upto
    ) = said  # fmt: skip
    if said is not NO_CIRCUMSTANCES:
        check_circumstances(said)
        if len(values) != 2 + len(said) - said.count(None):  # there are more than these
            for name in values.keys() - _PLAIN_FIELDS:
                _read_field(draft, name, values[name])
    draft.__class__ = ChatMessage
    return draft  # type: ignore[no-any-return]


def _read_field(draft: Any, name: str, value: Any) -> None:
    if name not in _READ_FIELDS:
        raise InvalidInputError("messages", f"unknown field {str(name)[:40]!r}")
    if value is not None:
        setattr(draft, name, _READ_FIELDS[name](name, value))


def _read_places(name: str, value: Any) -> tuple[int, ...]:
    """Which of an operation's messages some are: ascending whole numbers from 0."""
    places = of_type(list, name, value)
    for before, place in zip([-1, *places], places, strict=False):
        if type(place) is not int or not before < place < MAX_LOAD:
            raise InvalidInputError(name, "must be ascending whole numbers from 0")
    return tuple(places)


def _write_message(message: ChatMessage) -> Arguments:
    values: Arguments = {"role": message.role, "content": message.content}
    if message.extra is not None:
        values["extra"] = message.extra
    if message.created_at is not None:
        values["created_at"] = to_micros(message.created_at)
    if message.attachments:
        values["attachments"] = [each.to_dict() for each in message.attachments]
    return values | known_circumstances(message)


def _ids(name: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list | tuple):
        raise InvalidInputError(name, f"must be ids of messages, not {shown(values)}")
    return tuple([check_text(name, value, MAX_ATTRIBUTE_CHARS) for value in values])


MICROS: Final = _plain(check_micros)
TAIL: Final = _plain(partial(check_text, max_chars=MAX_ATTRIBUTE_CHARS, may_be_empty=True))
QUERY: Final = _plain(lambda _name, value: check_query(value))
PAGE: Final = _plain(lambda _name, value: check_limit(value, MAX_PAGE))
ANY_MESSAGES: Final = Form(
    lambda name, values, limits: values and _sent(name, values, limits),
    lambda name, values: () if values == [] else _read_messages(name, values),
    lambda messages: [_write_message(each) for each in messages],
)
"""There may be none."""
TOKENS: Final = _plain(lambda name, value: check_limit(value, MAX_TOKENS, name))

_FORMS: Final[dict[Any, Form]] = {
    str: Form(_text, _text),
    bool: _plain(check_flag),
    int: _plain(lambda _name, value: check_limit(value, MAX_LOAD)),
    float: _plain(check_number),
    datetime: Form(
        lambda name, value, _limits: check_moment(name, value),
        lambda name, value: from_micros(check_micros(name, value)),
        to_micros,
    ),
    State: _plain(_state),
    tuple[str, ...]: Form(lambda name, values, _limits: _ids(name, values), _ids, list),
    Within: _plain(_within),
    tuple[int, ...]: Form(lambda name, value, _: _read_places(name, [*value]), _read_places, list),
    SessionAttributes: _plain(_attributes),
    Meta: _plain(lambda _name, value: check_meta(value, may_clear=False)),
    SessionFilter: _filter(SessionFilter),
    SearchFilter: _filter(SearchFilter),
    ChatMessage: Form(_sent, lambda name, value: _read_messages(name, [value])[0], _write_message),
    tuple[ChatMessage, ...]: Form(
        _sent, _read_messages, lambda messages: [_write_message(each) for each in messages]
    ),
}
