"""Payment card numbers in a text, by ISO/IEC 7812: an issuer's range, its lengths, the check digit.

Written in one piece, or in groups with spaces, hyphens or dots between them, in digits of any
script. A number with more digits on either side is none, nor is one within a word: the same
sixteen digits may be in a hash or in a platform's id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from typing import Final

from backscroll.redaction.edges import after_escape

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
_MOST: Final = 19
_LENGTHS: Final = {
    str(head): sorted(lengths, reverse=True)
    for low, high, lengths in _RANGES
    for head in range(low, high + 1)
}
"""The longest first, by the first four digits."""

_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")  # the digits of each double, added

_VALUES: Final = bytes.maketrans(b"0123456789", bytes(range(10)))

_SPACES: Final = " \u00a0\u2000-\u200a\u202f\u205f\u3000"
_IGNORED: Final = "\u00ad\u200b-\u200f\u2060\ufeff"  # nobody sees them
_DASHES: Final = "\u2010-\u2015\u2212\ufe58\ufe63\uff0d-"
_BETWEEN: Final = rf"[{_SPACES}{_IGNORED}.{_DASHES}]{{0,3}}"
_GROUPS_AT_ONCE: Final = 1_000
_POINT: Final = "."
_KINDS: Final = frozenset({" ", "-", _POINT})
_DASH: Final = re.compile(f"[{_DASHES}]")
_DIGITS: Final = re.compile(r"\d+")
_ENOUGH_DIGITS: Final = re.compile(rf"\d(?:{_BETWEEN}\d){{{_FEWEST - 1}}}")
# A UUID, which is passed over, or a run of groups; neither a telephone number (+49 …) nor the
# mention of a person or a room (<@18 digits>).
_RUN: Final = re.compile(
    rf"(?:(?<![A-Za-z0-9_+])(?<!<[@#])(?<!<@[!&])|{after_escape()})"
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
    groups, gaps = _DIGITS.findall(run), _DIGITS.split(run)[:-1]  # each gap before its group
    if _IN_WORD.match(found.string, found.end()):
        del groups[-1], gaps[-1]
    cards, most = list[tuple[int, int]](), _GROUPS_AT_ONCE
    for at in range(0, len(groups), most):
        taken = cards[-1][1] - at if cards else -1
        end = at + most + _MOST
        found_here = _cards(groups[at:end], gaps[at:end], most, taken)
        cards += [(at + first, at + last) for first, last in found_here]
    if not cards:
        return run
    spans = [each.span() for each in _DIGITS.finditer(run)]
    parts, done = [], 0
    for first, last in cards:
        parts += [run[done : spans[first][0]], instead]
        done = spans[last][1]
    return "".join(parts) + run[done:]


def _cards(groups: list[str], gaps: list[str], most: int, taken: int) -> Iterator[tuple[int, int]]:
    """The first and the last group of each card number that begins in the first `most` groups.

    Those up to `taken` belong to one found before; no group is in two of them.
    """
    digits = "".join(groups)
    if not digits.isascii():
        digits = "".join([str(int(digit)) for digit in digits])
    starts = list(accumulate(map(len, groups), initial=0))
    heads = [digits[start : start + 4] for start in starts[:most]]
    if _LENGTHS.keys().isdisjoint(heads):
        return
    kinds = list(map(_kind, gaps))
    group_before = dict(zip(starts, range(-1, len(groups)), strict=True))
    reach, sums = _reach(kinds), [_sums(digits, doubled) for doubled in (0, 1)]
    for first, lengths in enumerate(map(_LENGTHS.get, heads)):
        if lengths is None or first <= taken or kinds[first] == _POINT:
            continue
        start = starts[first]
        for length in lengths:
            end = start + length
            last = group_before.get(end, -1)
            if not first <= last <= reach[first]:
                continue
            if length == _FEWEST and last > first and starts[first + 1] - start != 4:
                continue  # as long as a telephone number with its country, and begins like one
            if (sums[end % 2][end] - sums[end % 2][start]) % 10 == 0:  # Luhn
                yield first, last
                taken = last
                break


def _reach(kinds: list[str]) -> list[int]:
    """For each group, the last one after it that is separated as the next one is."""
    most = len(kinds) - 1
    reach = [*range(1, most + 1), most]
    for at in range(most - 2, -1, -1):
        if kinds[at + 1] == kinds[at + 2]:
            reach[at] = reach[at + 1]
    return reach


@lru_cache(1_000)
def _kind(separator: str) -> str:
    """How two groups are separated; what is right after a point is a fraction."""
    return separator if separator in _KINDS else "-" if _DASH.search(separator) else " "


def _sums(digits: str, first: int) -> list[int]:
    """The sums of the first digits, each second one from number `first` on doubled."""
    values = bytearray(digits.encode())
    values[first::2] = values[first::2].translate(_DOUBLED)
    return list(accumulate(values.translate(_VALUES), initial=0))
