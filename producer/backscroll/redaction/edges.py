"""Where a number or a key may begin in a text."""

from typing import Final

# Not within a word; but the letters and digits of an escape are none. Tool calls are JSON in a
# string, where a line's end is `\n` and, mostly, `é` is `\u00e9`. In URLs there is `%3D`.
AFTER_ESCAPE: Final = r"(?<=\\[bfnrt])|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2})"
START: Final = rf"(?:(?<![A-Za-z0-9])|{AFTER_ESCAPE})"
