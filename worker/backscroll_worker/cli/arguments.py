"""Types for arguments and options that click alone does not parse as needed.

Keys and texts may begin with a dash (Telegram's group ids are negative numbers), and a number of
seconds must be finite.
"""

from __future__ import annotations

import difflib
import math
from contextlib import suppress
from typing import Any, Final

import click
import orjson

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.validation import shown

_HOW: Final = "A text that begins with two dashes has to follow --, which ends the options."
_LONGEST_SECONDS: Final = 366 * 86_400.0


class TextCommand(click.Command):
    """A command whose arguments may begin with one dash: `-100123` is a key, not an option.

    What begins with two dashes is an option or a misspelled one, unless it follows `--`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        settings = {
            "ignore_unknown_options": True,
            "help_option_names": ["--help"],  # without -h, as that begins -hotel
            **(options.pop("context_settings", None) or {}),
        }
        options["context_settings"] = settings
        super().__init__(*args, **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's; raises `click.NoSuchOption` for an option that the command does not have."""
        if args == ["-h"]:
            args = ["--help"]
        try:
            return self._parsed(ctx, [*args])
        except (click.MissingParameter, click.BadOptionUsage) as error:
            if "--" not in args and any(text.startswith("--") for text in args):
                raise click.UsageError(f"{error.format_message()} {_HOW}", ctx=ctx) from None
            raise

    def _parsed(self, ctx: click.Context, args: list[str]) -> list[str]:
        texts = self._texts(ctx, args)
        after = len(args) - args.index("--") - 1 if "--" in args else 0
        for text in texts[: len(texts) - after]:
            if text.startswith("--"):
                self._refuse(ctx, text)
        return super().parse_args(ctx, args)

    def _texts(self, ctx: click.Context, args: list[str]) -> list[str]:
        """All arguments that are neither options nor values of options, in order."""
        values, surplus, _ = self.make_parser(ctx).parse_args(list(args))
        given = [values.get(str(p.name)) for p in self.params if isinstance(p, click.Argument)]
        texts = [text for each in given for text in (each if isinstance(each, tuple) else (each,))]
        return [text for text in (*texts, *surplus) if isinstance(text, str)]

    def _refuse(self, ctx: click.Context, text: str) -> None:
        known = [name for param in self.params for name in (*param.opts, *param.secondary_opts)]
        close = difflib.get_close_matches(text.partition("=")[0], known)
        message = f"No such option: {text} (if it is a text, put -- before it)"
        raise click.NoSuchOption(text, message, possibilities=close, ctx=ctx)


def meta_pair(pair: str) -> tuple[str, str, Any]:
    """Of KEY=VALUE the key, the value's text, and the value: a number or true if it is one in JSON.

    Raises `InvalidInputError` where there is no `=`.
    """
    name, equals, text = pair.partition("=")
    if not equals:
        raise InvalidInputError("meta", f"must be KEY=VALUE, not {shown(pair)}")
    value: Any = text
    with suppress(ValueError):
        value = orjson.loads(text)
    return name, text, value if isinstance(value, str | int | float) else text


class Seconds(click.FloatRange):
    """A finite length of time in seconds, up to a year; `min` as for `click.FloatRange`."""

    name = "seconds"

    def __init__(self, min: float = 0.0) -> None:  # noqa: A002 - click's name
        super().__init__(min=min, max=_LONGEST_SECONDS)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """`value` as a float; refuses NaN, which no range check catches."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return number
