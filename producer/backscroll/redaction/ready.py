"""`Redact`: the ready policy, for card numbers and API keys, and what an adapter adds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from backscroll.contract.errors import InvalidSettingError
from backscroll.contract.validation import shown
from backscroll.redaction.api_keys import without_api_keys, without_private_keys
from backscroll.redaction.card_numbers import without_card_numbers

CARD_NUMBER: Final = "[card number]"
API_KEY: Final = "[API key]"
PRIVATE_KEY: Final = "[private key]"


class Redact:
    """A policy for `Producer(redact=…)`: replaces card numbers, API keys and private keys.

    They become `[card number]`, `[API key]` and `[private key]`. `patterns` are more, each a
    regular expression by the name of what it finds: `{"staff number": r"\\bE-[0-9]{6}\\b"}` makes
    `[staff number]`. They come last. `card_numbers=False` and `api_keys=False` leave those out.

    Calling it with a text returns the text redacted. To redact that again changes nothing, and
    neither does anything here wait, write or take longer than in proportion to the text; what
    `patterns` cost is up to them.

    Raises `InvalidSettingError` for a pattern that is not valid or matches the empty text.
    """

    def __init__(
        self,
        *,
        card_numbers: bool = True,
        api_keys: bool = True,
        patterns: Mapping[str, str] | None = None,
    ) -> None:
        self._card_numbers = card_numbers
        self._api_keys = api_keys
        self._patterns = [_checked(name, each) for name, each in (patterns or {}).items()]

    def __call__(self, text: str) -> str:
        """`text` without what this policy replaces."""
        if self._api_keys:
            text = without_api_keys(without_private_keys(text, PRIVATE_KEY), API_KEY)
        if self._card_numbers:
            text = without_card_numbers(text, CARD_NUMBER)
        for pattern, instead in self._patterns:
            text = pattern.sub(instead, text)
        return text


def _checked(name: object, pattern: object) -> tuple[re.Pattern[str], str]:
    """The pattern, and a template of what comes instead."""
    if not isinstance(name, str) or not name:
        raise InvalidSettingError(f"patterns: a name must be text, not {shown(name)}")
    try:
        made = re.compile(pattern)  # type: ignore[call-overload]
        is_empty = made.match("") is not None
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        raise InvalidSettingError(f"patterns: {name!r} is not a valid pattern: {error}") from None
    if is_empty:
        raise InvalidSettingError(f"patterns: {name!r} matches the empty text")
    return made, f"[{name}]".replace("\\", "\\\\")
