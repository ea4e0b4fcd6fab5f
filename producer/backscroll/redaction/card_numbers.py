"""Payment card numbers in a text, by ISO/IEC 7812: an issuer's range, its lengths, the check digit.

Written in one piece, or in groups with spaces, hyphens or dots between them, in digits of any
script. A number with more digits on either side is none, nor is one within a word: the same
sixteen digits may be in a hash or in a platform's id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Final

from backscroll.redaction.edges import AFTER_ESCAPE

# From the first four digits to the last four, and how many digits there may be. Only ranges in
# which cards are issued: each one more is a part of all ids that would be taken for cards.
_RANGES: Final = (
    (4000, 4999, (13, 16, 19)),  # Visa
    (5100, 5599, (16,)), (2221, 2720, (16,)),  # Mastercard
    (3400, 3499, (15,)), (3700, 3799, (15,)),  # American Express
    (3000, 3059, range(14, 20)), (3095, 3095, range(14, 20)),  # Diners Club
    (3600, 3699, range(14, 20)), (3800, 3999, range(14, 20)),
    (6011, 6011, range(16, 20)), (6440, 6599, range(16, 20)),  # Discover
    (3528, 3589, range(16, 20)),  # JCB
    (6200, 6299, range(16, 20)),  # UnionPay
    (5018, 5018, range(13, 20)), (5020, 5020, range(13, 20)),  # Maestro
    (5038, 5038, range(13, 20)), (5893, 5893, range(13, 20)), (6304, 6304, range(13, 20)),
    (6759, 6759, range(13, 20)), (6761, 6763, range(13, 20)),
    (2200, 2204, range(16, 20)),  # Mir
    (5080, 5089, (16,)), (6000, 6099, (16,)),  # RuPay
)  # fmt: skip
_FEWEST: Final = 13
_LENGTHS: Final = {
    str(head): sorted(lengths, reverse=True)
    for low, high, lengths in _RANGES
    for head in range(low, high + 1)
}
"""The longest first, by the first four digits."""

_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")  # the digits of each double, added

_SPACES: Final = " \u00a0\u2000-\u200a\u202f\u205f\u3000"
_IGNORED: Final = "\u00ad\u200b-\u200f\u2060\ufeff"  # nobody sees them
_DASHES: Final = "\u2010-\u2015\u2212\ufe58\ufe63\uff0d-"
_BETWEEN: Final = rf"[{_SPACES}{_IGNORED}.{_DASHES}]{{0,3}}"
_POINT: Final = "."
_KINDS: Final = frozenset({" ", "-", _POINT})
_DASH: Final = re.compile(f"[{_DASHES}]")
_DIGITS: Final = re.compile(r"\d+")
_ENOUGH_DIGITS: Final = re.compile(rf"\d(?:{_BETWEEN}\d){{{_FEWEST - 1}}}")
# A UUID, which is passed over, or a run of groups; neither a telephone number (+49 …) nor the
# mention of a person or a room (<@18 digits>).
_RUN: Final = re.compile(
    rf"(?:(?<![A-Za-z0-9_+])(?<!<[@#])(?<!<@[!&])|{AFTER_ESCAPE})"
    r"(?:(?P<uuid>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})(?![0-9A-Za-z])"
    rf"|\d(?:{_BETWEEN}\d){{{_FEWEST - 1},}}+)"
)
_IN_WORD: Final = re.compile("[A-Za-z_]")


def without_card_numbers(text: str, instead: str) -> str:
    """`text` with `instead` in the place of each card number."""
    if not _ENOUGH_DIGITS.search(text):
        return text
    return _RUN.sub(lambda found: _without(found, instead), text)


def _without(found: re.Match[str], instead: str) -> str:
    run = found[0]
    if found["uuid"]:
        return run
    groups = list(_DIGITS.finditer(run))
    if _IN_WORD.match(found.string, found.end()):
        del groups[-1]
    parts, done = [], 0
    for first, last in _cards(run, [each.span() for each in groups]):
        parts += [run[done : groups[first].start()], instead]
        done = groups[last].end()
    return "".join(parts) + run[done:]


def _cards(run: str, groups: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The first and the last group of each card number, none in two of them."""
    digits = "".join([run[start:end] for start, end in groups])
    if not digits.isascii():
        digits = "".join([str(int(digit)) for digit in digits])
    kinds = [_kind(run[one[1] : next_[0]]) for one, next_ in pairwise(groups)]
    starts = list(accumulate([end - start for start, end in groups], initial=0))
    group_before = {start: at - 1 for at, start in enumerate(starts)}
    # For each group, the last one after it that is separated as the next one is.
    reach = [*range(1, len(groups)), len(groups) - 1]
    for at in range(len(groups) - 3, -1, -1):
        if kinds[at] == kinds[at + 1]:
            reach[at] = reach[at + 1]
    taken = -1
    for first, start in enumerate(starts[:-1]):
        lengths = _LENGTHS.get(digits[start : start + 4], ())
        if first <= taken or (first and kinds[first - 1] == _POINT):
            continue
        for length in lengths:
            last = group_before.get(start + length, -1)
            if not first <= last <= reach[first]:
                continue
            if length == _FEWEST and last > first and starts[first + 1] - start != 4:
                continue  # as long as a telephone number with its country, and begins like one
            if _passes_luhn(digits[start : start + length].encode()):
                yield first, last
                taken = last
                break


def _kind(separator: str) -> str:
    """How two groups are separated; what is right after a point is a fraction."""
    return separator if separator in _KINDS else "-" if _DASH.search(separator) else " "


def _passes_luhn(digits: bytes) -> bool:
    total = sum(digits[-1::-2]) + sum(digits[-2::-2].translate(_DOUBLED))
    return (total - len(digits) * ord("0")) % 10 == 0
