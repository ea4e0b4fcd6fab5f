"""Where a number or a key may begin in a text."""

from typing import Final

# Not within a word; but the letters and digits of an escape are none. Tool calls are JSON in a
# string, where a line's end is `\n` and, mostly, `é` is `\u00e9`. In URLs there is `%3D`.
_ESCAPES: Final = (r"\\[bfnrt]", r"\\u[0-9A-Fa-f]{4}", "%[0-9A-Fa-f]{2}")


def after_escape(prefix: str = "") -> str:
    """A condition: what comes here, or before it the `prefix`, is right behind an escape."""
    return "|".join(f"(?<={escape}{prefix})" for escape in _ESCAPES)


def begins(prefix: str, word: str = "[A-Za-z0-9]") -> str:
    """The `prefix`, where it is not within a word.

    The literal comes first: so `re` looks for it, instead of trying each place of the text.
    """
    return f"{prefix}(?:(?<!{word}{prefix})|{after_escape(prefix)})"
