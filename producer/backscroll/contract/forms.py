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
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from operator import attrgetter
from types import NoneType
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin, get_type_hints

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import (
    LATEST_MICROS,
    MAX_ATTRIBUTE_CHARS,
    MAX_OPERATION_BYTES,
    STATES,
    ChatMessage,
    Limits,
    SessionAttributes,
    State,
    check_messages,
    check_moment,
    check_text,
    from_micros,
    to_micros,
)
from backscroll.contract.validation import (
    MAX_LOAD,
    MAX_PAGE,
    ArgumentReader,
    Arguments,
    check_attributes,
    check_flag,
    check_limit,
    check_number,
    check_query,
    shown,
)

# The producer has already held its own, perhaps smaller, limit; the worker only bounds memory.
_WORKER_LIMITS: Final = Limits(MAX_OPERATION_BYTES, MAX_OPERATION_BYTES)
_OWN_ID: Final = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")
_NOT_SENT: Final = ("op_id", "was_spooled")


class Form(NamedTuple):
    """Of one type: how a caller's value is checked, a job's read, and what is held written.

    Both of the first get the field's name, return what is to be held, and raise
    `InvalidInputError` for what does not fit.
    """

    check: Callable[[str, Any, Limits], Any]
    read: Callable[[str, Any], Any]
    write: Callable[[Any], Any] | None = None


class _Field(NamedTuple):
    name: str
    get: Callable[[Any], Any]
    put: Callable[[Any, Any], None]  # also into a frozen record, which is only being made
    default: Any
    may_be_none: bool
    form: Form


def check(record: Any, limits: Limits) -> None:
    """Check what a caller gave for `record`, which is only being made, and put it in as plain
    values of the field's type.

    Raises `InvalidInputError`.
    """
    for name, get, put, _, may_be_none, form in _fields(record.__class__):
        given = get(record)
        if given is None and may_be_none:
            continue
        checked = form.check(name, given, limits)
        if checked is not given:
            put(record, checked)


def read(record: Any, values: Arguments) -> None:
    """Take the fields of `record`, which is only being made, out of `values`.

    Raises `InvalidInputError` for one that is missing or does not fit.
    """
    for name, put, default, read_value in _readers(record.__class__):
        value = values.pop(name, None)
        if value is not None:
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
    for name, get, default, write in _writers(record.__class__):
        value = get(record)
        if value is not None and not (value is False and default is False):
            values[name] = value if write is None else write(value)
    return values


def setters(kind: type, *names: str) -> tuple[Callable[[Any, Any], None], ...]:
    """What sets each of a frozen record's slots while it is being made, faster than its class."""
    return tuple([getattr(kind, name).__set__ for name in names])


@functools.cache
def _fields(kind: Any) -> tuple[_Field, ...]:
    hints = get_type_hints(kind, include_extras=True)
    found = []
    for each in fields(kind):
        if each.name not in _NOT_SENT:
            form, may_be_none = _form_of(hints[each.name])
            (put,) = setters(kind, each.name)
            get = attrgetter(each.name)
            found.append(_Field(each.name, get, put, each.default, may_be_none, form))
    return tuple(found)


@functools.cache
def _readers(kind: Any) -> tuple[Any, ...]:
    return tuple([(each.name, each.put, each.default, each.form.read) for each in _fields(kind)])


@functools.cache
def _writers(kind: Any) -> tuple[Any, ...]:
    return tuple([(each.name, each.get, each.default, each.form.write) for each in _fields(kind)])


def _form_of(hint: Any) -> tuple[Form, bool]:
    """The form of a field's type, and whether the field may be None."""
    options = get_args(hint)
    if NoneType in options:
        (hint,) = (option for option in options if option is not NoneType)
        return _form_of(hint)[0], True
    if get_origin(hint) is Annotated:
        return options[1], False
    if is_dataclass(hint) and hint is not ChatMessage:
        return _record(hint), False
    return _FORMS[hint], False


def _plain(check_value: Callable[[str, Any], Any]) -> Form:
    """The form of what is the same in JSON."""
    return Form(lambda name, value, _limits: check_value(name, value), check_value)


def _record(kind: Any) -> Form:
    """The form of a filter."""

    def check_filter(name: str, value: Any, limits: Limits) -> Any:
        if not isinstance(value, kind):
            raise InvalidInputError(name, f"must be a {kind.__name__}, not {shown(value)}")
        made = kind(*[each.get(value) for each in _fields(kind)])
        check(made, limits)
        return made

    def read_filter(name: str, value: Any) -> Any:
        values = _of_type(dict, name, value)
        made = kind.__new__(kind)
        read(made, values)
        ArgumentReader(values).nothing_left("filter")
        return made

    return Form(check_filter, read_filter, written)


def _of_type(kind: type, name: str, value: Any) -> Any:
    if type(value) is not kind:
        problem = f"must be of type {kind.__name__}, not {type(value).__name__}"
        raise InvalidInputError(name, problem)
    return value


def _text(name: str, value: Any) -> str:
    return check_text(name, value, MAX_ATTRIBUTE_CHARS)


def _state(name: str, value: Any) -> str:
    if (state := _text(name, value)) not in STATES:
        raise InvalidInputError(name, f"must be one of {', '.join(STATES)}, not {state[:40]!r}")
    return state


def _attributes(name: str, value: Any) -> SessionAttributes:
    if not isinstance(value, Mapping):
        problem = f"must be a mapping of attributes, not {type(value).__name__}"
        raise InvalidInputError(name, problem)
    return check_attributes(value)


def _micros(name: str, value: Any) -> int:
    if type(value) is int and 0 <= value < LATEST_MICROS:
        return value
    raise InvalidInputError(name, "must be microseconds from 1970 to the year 9999")


def _check_sent(messages: tuple[ChatMessage, ...], limits: Limits) -> None:
    check_messages(messages, limits)
    for message in messages:
        id_ = message.message_id
        if id_ is not None and not (isinstance(id_, str) and _OWN_ID.fullmatch(id_)):
            raise InvalidInputError(
                "message_id",
                "is given by Backscroll; a platform's id belongs into extra or is the dedup_key",
            )


def _check_sent_messages(_name: str, value: Any, limits: Limits) -> Any:
    _check_sent(value, limits)
    return value


def _check_sent_message(_name: str, value: Any, limits: Limits) -> Any:
    _check_sent((value,), limits)
    return value


def _read_messages(name: str, value: Any) -> tuple[ChatMessage, ...]:
    messages = tuple([_read_message(item) for item in _of_type(list, name, value)])
    check_messages(messages, _WORKER_LIMITS, were_json=True)
    return messages


def _read_one_message(name: str, value: Any) -> ChatMessage:
    message = _read_message(_of_type(dict, name, value))
    check_messages((message,), _WORKER_LIMITS, were_json=True)
    return message


def _read_message(values: Any) -> ChatMessage:
    if not isinstance(values, dict):
        raise InvalidInputError("messages", "each must be an object with role and content")
    role, content = values.get("role"), values.get("content")
    if len(values) == 2 and type(role) is str and type(content) is str:  # nearly all of them
        return ChatMessage(role, content)
    reader = ArgumentReader(values)
    created_at = reader.micros("created_at")
    message = ChatMessage(
        reader.take("role", str),
        reader.take("content", str),
        reader.take("extra", dict, None),
        created_at=None if created_at is None else from_micros(created_at),
    )
    reader.nothing_left("messages")
    return message


def _write_message(message: ChatMessage) -> Arguments:
    values: Arguments = {"role": message.role, "content": message.content}
    if message.extra is not None:
        values["extra"] = message.extra
    if message.created_at is not None:
        values["created_at"] = to_micros(message.created_at)
    return values


def _write_messages(messages: tuple[ChatMessage, ...]) -> list[Arguments]:
    return [_write_message(message) for message in messages]


MICROS: Final = _plain(_micros)
QUERY: Final = _plain(lambda _name, value: check_query(value))
PAGE: Final = _plain(lambda _name, value: check_limit(value, MAX_PAGE))

_FORMS: Final[dict[Any, Form]] = {
    str: _plain(_text),
    bool: _plain(check_flag),
    int: _plain(lambda _name, value: check_limit(value, MAX_LOAD)),
    float: _plain(check_number),
    datetime: Form(
        lambda name, value, _limits: check_moment(name, value),
        lambda name, value: from_micros(_micros(name, value)),
        to_micros,
    ),
    State: _plain(_state),
    SessionAttributes: _plain(_attributes),
    ChatMessage: Form(_check_sent_message, _read_one_message, _write_message),
    tuple[ChatMessage, ...]: Form(_check_sent_messages, _read_messages, _write_messages),
}
