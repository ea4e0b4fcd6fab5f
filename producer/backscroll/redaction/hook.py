"""Applies a redaction policy to an operation: which of its texts the policy sees, and what it gets.

A policy takes a text and returns the text to be sent instead. Which fields are text is said here,
and nowhere else: a field that a message gets later is text unless it is named as an identifier.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final, TypeVar

from backscroll.contract import forms, lenient
from backscroll.contract.errors import STUMBLES, InvalidInputError, InvalidSettingError
from backscroll.contract.message_checks import Limits
from backscroll.contract.operations import Operation
from backscroll.contract.validation import shown

Policy = Callable[[str], str]

Op = TypeVar("Op", bound=Operation)

# What others are found by: redacted, a session, a person or a message would be somebody else's.
_IDENTIFIERS: Final = frozenset(
    {
        "role", "message_id", "platform_id", "reply_to", "author", "upto", "tokens",
        "agent", "channel", "room", "sender", "state", "turn_id",
        "kind", "mime_type", "size", "sha256", "data",  # of an attachment, which has a name and url
    }
)  # fmt: skip


def check_policy(policy: object) -> Policy:
    """`policy`, if a text can be given to it; raises `InvalidSettingError`."""
    if callable(policy) and not isinstance(policy, type):
        called = policy if inspect.isroutine(policy) else type(policy).__call__
        if not inspect.iscoroutinefunction(called):
            return policy
    raise InvalidSettingError(
        "redact: must be Redact() or a function, not async, that takes a text and returns "
        f"a text; not {shown(policy)}"
    )


def redacted(operation: Op, policy: Policy, limits: Limits) -> Op:
    """`operation` with what `policy` returns for each of its texts; itself if it has none.

    Raises `InvalidInputError` where the policy returns no text, raises one of Python's own errors,
    or returns what is too large to be sent; any other exception of the policy as it is.
    """
    changes: dict[str, Any] = {}
    for each in fields(operation):
        value = getattr(operation, each.name)
        if each.name in ("message", "messages", "value"):  # the last is a state
            changes[each.name] = _redacted(value, policy)
        elif isinstance(value, Mapping):  # attributes of a session
            changes[each.name] = {
                name: value if name in _IDENTIFIERS else _redacted(value, policy)
                for name, value in value.items()
            }
    if not changes:
        return operation
    made = operation.changed(**changes)
    forms.check(made, limits)
    return made


def _redacted(value: Any, policy: Policy) -> Any:
    """`value` with what `policy` returns for each text and number in it, however deep."""
    if isinstance(value, str):
        return _asked(policy, value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = str(value)  # a card number may be a JSON number
        return value if (instead := _asked(policy, text)) == text else instead
    if isinstance(value, dict):
        return _object(value, policy)
    if isinstance(value, list):
        return [_redacted(each, policy) for each in value]
    if isinstance(value, tuple):
        return tuple([_redacted(each, policy) for each in value])
    if is_dataclass(value) and not isinstance(value, type):
        texts = (each.name for each in fields(value) if each.name not in _IDENTIFIERS)
        return replace(value, **{name: _redacted(getattr(value, name), policy) for name in texts})
    return value


def _object(values: dict[str, Any], policy: Policy) -> dict[str, Any]:
    """A JSON object, its keys redacted too; keys that become equal are numbered."""
    made: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for key, value in values.items():
        if key in lenient.OURS:  # which stand for what a lenient producer was given
            made[key] = _redacted(value, policy) if key == lenient.NUMBER else value
            continue
        name = first = _asked(policy, key)
        while name in made or (name != key and name in values):
            counts[first] = counts.get(first, 1) + 1
            name = f"{first} ({counts[first]})"
        made[name] = _redacted(value, policy)
    return made


def _asked(policy: Policy, text: str) -> str:
    """What `policy` makes of `text`. No error here repeats the text: errors are logged."""
    try:
        answer: object = policy(text)
    except STUMBLES as error:
        *_, (frame, line) = traceback.walk_tb(error.__traceback__)
        raise InvalidInputError(
            "redact",
            f"the policy raised {type(error).__name__} in {frame.f_code.co_filename}, "
            f"line {line}; nothing was sent",
        ) from None
    if not isinstance(answer, str):
        raise InvalidInputError(
            "redact", f"the policy returned {type(answer).__name__}, not a text; nothing was sent"
        )
    return answer
