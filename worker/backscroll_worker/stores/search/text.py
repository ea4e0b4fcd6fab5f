"""Words: one definition for the index, the scan and the snippets.

Text is folded (case, accents, compatibility forms) and cut into tokens. Scripts written without
spaces between words (Chinese, Japanese, Thai ...), Hangul and emoji become one token per character,
so that any substring of them is a phrase. FTS5 then needs only its `ascii` tokenizer: everything
that is not part of a token has been replaced by a space.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from itertools import chain, groupby
from typing import Final, NamedTuple

FOLDING: Final = 2
"""The version of the rules here. Increase it with every change of `folded`, so that `check` reports
older indexes."""

TOKEN: Final = re.compile(r"[0-9a-z\u0080-\U0010ffff]+")
_TOKEN_OR_GAP: Final = re.compile(r"[0-9a-z\u0080-\U0010ffff]+|[^0-9a-z\u0080-\U0010ffff]+")
_ASCII_TOKEN: Final = re.compile(r"[0-9A-Za-z]+")
_NO_SPACE: Final = re.compile(r"\S+")  # tokens contain no spaces
_LONGEST_KEPT_WORD: Final = 24
_LONGEST_RUN: Final = 30  # of marks; the maximum in Unicode's stream-safe text
_LONG_RUN: Final = re.compile(rb"[^\0]{%d,}" % _LONGEST_RUN)
# Ranges with marks, to skip all other characters.
_HAVE_MARKS: Final = (
    range(0x300, 0x3100),
    range(0xA66F, 0xAC00),
    range(0xFB1E, 0x12000),
    range(0x16AF0, 0x17000),
    range(0x1BC9D, 0x1F000),
)
# Characters that are composed of marks, though they are not marks themselves.
_OF_MARKS: Final = {
    "\u0f73": "\u0f71\u0f72",
    "\u0f75": "\u0f71\u0f74",
    "\u0f81": "\u0f71\u0f80",
    "\uff9e": "\u3099",
    "\uff9f": "\u309a",
}
# Of Hangul, of kana, and variation selectors. Compatibility vowels compose as well.
_FOLLOWING: Final = (
    "\u1160-\u11ff\u314f-\u3164\u3187-\u318e\ud7b0-\ud7ff\u3099\u309a\ufe00-\ufe0f\uff9e-\uffa0\uffc2-\uffdc"
    "\U000e0100-\U000e01ef"
)
_MOST_KEPT_WORDS: Final = 40_000

# Marks that writers may omit: Latin accents, the points of Hebrew, Arabic and Syriac; and that
# keyboards add: variation selectors. Hebrew's marks are among its punctuation.
_OPTIONAL_MARK: Final = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0711\u0730-\u074a\u08ca-\u08e1\u08e3-\u08ff"
    "\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)

# Invisible characters: soft hyphen, joiners, directions, the fillers of Hangul, tags. Zero width
# non-joiner and space are not included: Persian and Khmer separate with them.
_INVISIBLE: Final = re.compile(
    "[\u00ad\u061c\u115f\u1160\u180b-\u180f\u200d-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\U00013430-\U0001343f\U000e0000-\U000e007f]"
)

# Letters that keyboards interchange in Persian and Arabic, and the Turkish i in capitals. An
# apostrophe that is a letter, as in Ukrainian and Uzbek, is often typed as punctuation.
_ALIKE: Final = {
    "\u06a9": "\u0643",
    "\u06cc": "\u064a",
    "\u0649": "\u064a",
    "\u0131": "i",
    "\u02bb": " ",
    "\u02bc": " ",
}

# Letters of scripts without spaces between words.
_UNSPACED: Final = re.compile(
    "["
    "\u0e00-\u0fff"  # Thai, Lao, Tibetan
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\U000116d0-\U000116ff"  # Myanmar
    "\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\uaa80-\uaadf\U00011700-\U0001174f"  # Khmer, Tai
    "\u1a00-\u1a1f\u1b00-\u1bbf\ua980-\ua9df\uaa00-\uaa5f"  # Buginese to Sundanese, Java, Cham
    "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"  # Hangul
    "\u2e80-\u2fdf\u3005-\u3007\u3031-\u3035\u303b\u303c"  # Han's marks
    "\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\U0001aff0-\U0001b16f"  # kana, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\ua000-\ua4cf\U00017000-\U00018d8f\U0001b170-\U0001b2ff"  # Yi, Tangut, Khitan, Nushu
    "\U00012000-\U0001254f\U00013000-\U0001467f\U00016fe0-\U00016fff"  # cuneiform, hieroglyphs
    "]"
)


def folded(text: str) -> str:
    """`text` as it is indexed: tokens between spaces (ASCII punctuation may remain, NUL not)."""
    if text.isascii():
        return text.lower().replace("\0", " ")  # the tokenizer cuts ASCII by itself
    return " ".join(map(_folded_words.__getitem__, text.split()))


def tokens(text: str) -> list[str]:
    """The tokens of `text`, in order."""
    return TOKEN.findall(folded(text))


class _FoldTable(dict[int, str]):
    """Maps a character to its form in the index; filled on demand."""

    def __missing__(self, code: int) -> str:
        self[code] = folded_char = _folded_char(chr(code))
        return folded_char


def _folded_char(char: str) -> str:
    bare = _OPTIONAL_MARK.sub("", unicodedata.normalize("NFD", char))
    if not bare or _INVISIBLE.match(char):
        return ""
    if "CYRILLIC" not in unicodedata.name(char, ""):  # й is a letter of its own
        char = unicodedata.normalize("NFC", bare)
    char = _ALIKE.get(char, char)
    category = unicodedata.category(char[0])
    if category in ("So", "Cn") or (category[0] in "LNM" and _UNSPACED.match(char)):
        return f" {char} "
    if category == "Nd":
        return str(unicodedata.decimal(char[0])) + char[1:]
    return char if char < "\x80" or category[0] in "LNM" else " "


_table: Final = _FoldTable({0: " ", **{code: chr(code) for code in range(1, 128)}})


def _compatible(word: str) -> str:
    """`word` in NFKC, in linear time.

    Python's `normalize` sorts runs of marks in quadratic time. So a long run is sorted first:
    https://www.unicode.org/reports/tr15/#Description_Norm
    """
    if len(word) > _LONGEST_RUN:
        word = _with_ordered_marks(word)
    return unicodedata.normalize("NFKC", word)


def _with_ordered_marks(word: str) -> str:
    for whole, parts in _OF_MARKS.items():
        word = word.replace(whole, parts)
    found, end = list[str](), 0
    for run in _LONG_RUN.finditer(bytes(map(unicodedata.combining, word))):
        marks = [unicodedata.normalize("NFKD", mark) for mark in word[run.start() : run.end()]]
        ordered = sorted("".join(marks), key=unicodedata.combining)
        found += [word[end : run.start()], *ordered]
        end = run.end()
    return "".join([*found, word[end:]])


def _is_alone(char: str) -> bool:
    """Whether no following mark is composed with its parts."""
    last = unicodedata.normalize("NFKC", char)[-1]
    return all(len(unicodedata.normalize("NFC", last + mark)) == 2 for mark in "\u3099\u309a")


# Single characters for whole words: one of them has 18 characters, and each is folded once.
_SPELT_OUT: Final = re.compile(
    f"([\ufdfa\ufdfb{''.join(filter(_is_alone, map(chr, range(0x3300, 0x3358))))}])"
)


class _FoldedWords(dict[str, str]):
    """Maps a word to its form in the index; words recur, and folding is expensive."""

    def __missing__(self, word: str) -> str:
        if len(word) > _LONGEST_KEPT_WORD and _SPELT_OUT.search(word):
            return "".join([self[part] for part in _SPELT_OUT.split(word) if part])
        folded_word = _compatible(word).casefold().translate(_table)
        if folded_word == word:
            folded_word = word  # one string in memory, not two
        if len(word) <= _LONGEST_KEPT_WORD:
            if len(self) >= _MOST_KEPT_WORDS:
                self.clear()
            self[word] = folded_word
        return folded_word


_folded_words: Final = _FoldedWords()


class Folder:
    """Folds texts, also in advance."""

    def __init__(self) -> None:
        self._expected: dict[str, str] = {}

    def expect(self, texts: Iterable[str]) -> None:
        """Fold these texts in advance, instead of those expected before."""
        self._expected = {text: folded(text) for text in texts}

    def __call__(self, text: str) -> str:
        """`folded(text)`."""
        found = self._expected.get(text) if self._expected else None
        return folded(text) if found is None else found


def placed_tokens(text: str, first: int, last: int) -> Iterator[tuple[str, int, int]]:
    """The tokens of that part of `text`, with the [start, end) positions of their characters."""
    for stretch in _NO_SPACE.finditer(text, first, last):
        if stretch[0].isascii():
            for found in _ASCII_TOKEN.finditer(text, stretch.start(), stretch.end()):
                yield found[0].lower(), found.start(), found.end()
        else:
            yield from _placed_by_cluster(text, stretch.start(), stretch.end())


def _placed_by_cluster(text: str, first: int, last: int) -> Iterator[tuple[str, int, int]]:
    word, start, end = "", 0, 0
    for cluster in _clusters().cluster.finditer(text, first, last):
        for part, is_token in _parts(cluster[0]):
            if is_token:
                start = start if word else cluster.start()
                word, end = word + part, cluster.end()
            elif word:
                yield word, start, end
                word = ""
    if word:
        yield word, start, end


def _parts(cluster: str) -> tuple[tuple[str, bool], ...]:
    return _short_parts(cluster) if len(cluster) <= _LONGEST_KEPT_WORD else _split(cluster)


def _split(cluster: str) -> tuple[tuple[str, bool], ...]:
    """The folded form of a cluster: tokens, and the text between them."""
    parts = _TOKEN_OR_GAP.findall(folded(cluster))
    return tuple([(part, TOKEN.match(part) is not None) for part in parts])


_short_parts: Final = lru_cache(maxsize=8_192)(_split)  # characters recur


def cut(text: str, place: int) -> int:
    """The first place from `place` on where `text` can be cut and its parts folded separately."""
    found = _clusters().base.search(text, place)
    return found.start() if found else len(text)


class _Clusters(NamedTuple):
    """Patterns of a character with its marks, and of one that does not combine backwards."""

    cluster: re.Pattern[str]
    base: re.Pattern[str]


@cache
def _clusters() -> _Clusters:
    chars = list(map(chr, chain.from_iterable(_HAVE_MARKS)))
    following = {*filter(unicodedata.combining, chars), *_OF_MARKS, *map(_second, chars)} - {""}
    pattern = "".join(_stretches(sorted(map(ord, following)))) + _FOLLOWING
    return _Clusters(re.compile(f".[{pattern}]*", re.DOTALL), re.compile(f"[^{pattern}]"))


def _second(char: str) -> str:
    """The mark that is composed with another character into `char`; empty without one."""
    parts = unicodedata.decomposition(char).split()
    if len(parts) != 2 or parts[0].startswith("<"):
        return ""
    pair = "".join(chr(int(part, 16)) for part in parts)
    return pair[1] if unicodedata.normalize("NFC", pair) == char else ""


def _stretches(codes: list[int]) -> Iterator[str]:
    """These characters as ranges in a pattern."""
    for _, row in groupby(enumerate(codes), key=lambda placed: placed[1] - placed[0]):
        (_, first), *_, (_, last) = [*row] * 2
        yield f"{chr(first)}-{chr(last)}"
