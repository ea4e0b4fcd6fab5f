"""Words: one definition for the index, the scan and the snippets.

Text is folded (case, accents, compatibility forms) and cut into tokens. Scripts written without
spaces between words (Chinese, Japanese, Thai ...), Hangul and emoji become one token per character,
so that any substring of them is a phrase. FTS5 then needs only its `ascii` tokenizer: everything
that is not part of a token has been replaced by a space.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from itertools import chain, groupby
from typing import Final, NamedTuple

FOLDING: Final = 3
"""The version of the rules here. Increase it with every change of `folded`, so that older indexes
are rebuilt, and let `formerly_folded` follow the version before."""

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
# Of Hangul, of kana, variation selectors, and the zero width non-joiner, which depends on what is
# before it. Compatibility vowels compose as well.
_FOLLOWING: Final = (
    "\u200c\u1160-\u11ff\u314f-\u3164\u3187-\u318e\ud7b0-\ud7ff\u3099\u309a\ufe00-\ufe0f\uff9e-\uffa0\uffc2-\uffdc"
    "\U000e0100-\U000e01ef"
)
_MOST_KEPT_WORDS: Final = 40_000


class _Rules(NamedTuple):
    """What is left out of a text, as parts of a pattern, and what is replaced."""

    marks: str
    """Marks that writers may omit, or that keyboards add."""
    invisible: str
    alike: Mapping[str, str]
    reads_all_digits: bool


# Of version 2, by which a store's index may still have been made.
_FORMER: Final = _Rules(
    # Latin accents, the points of Hebrew, Arabic and Syriac, and variation selectors. Hebrew's
    # marks are among its punctuation.
    "\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0711\u0730-\u074a\u08ca-\u08e1\u08e3-\u08ff"
    "\ufe00-\ufe0f\U000e0100-\U000e01ef",
    # Soft hyphen, joiner, directions, the fillers of Hangul, tags.
    "\u00ad\u061c\u115f\u1160\u180b-\u180f\u200d-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\U00013430-\U0001343f\U000e0000-\U000e007f",
    # Letters that keyboards interchange in Persian and Arabic, and the Turkish i in capitals. An
    # apostrophe that is a letter, as in Ukrainian and Uzbek, is often typed as punctuation.
    {
        "\u06a9": "\u0643",
        "\u06cc": "\u064a",
        "\u0649": "\u064a",
        "\u0131": "i",
        "\u02bb": " ",
        "\u02bc": " ",
    },
    reads_all_digits=False,
)

_RULES: Final = _Rules(
    # The nukta of Devanagari, Gurmukhi, Gujarati and Kannada (in Bengali and Oriya it makes letters
    # that nobody writes without it), and what frames a symbol, as in the emoji of a key.
    f"{_FORMER.marks}\u093c\u0a3c\u0abc\u0cbc\u20d0-\u20ff",
    # Zero width space: it separates words only in scripts that are cut into characters anyway. The
    # vowels of Khmer that are not shown, and the marks of annotations.
    f"{_FORMER.invisible}\u200b\u17b4\u17b5\ufff9-\ufffb",
    {
        **_FORMER.alike,
        # Latin letters that keyboards lack and that no accent makes.
        "\u00e6": "ae", "\u0153": "oe", "\u00f8": "o", "\u0111": "d", "\u00f0": "d",
        "\u00fe": "th", "\u0142": "l", "\u0127": "h", "\u0167": "t",
        # Cyrillic: yo, and the stressed letters of Macedonian and Bulgarian.
        "\u0451": "\u0435", "\u0450": "\u0435", "\u045d": "\u0438",
        # Arabic: alef wasla, teh marbuta, and the forms of heh in Urdu, Persian and Kurdish.
        "\u0671": "\u0627", "\u0629": "\u0647", "\u06c3": "\u0647", "\u06c1": "\u0647",
        "\u06d5": "\u0647",
        # Hebrew: final letters, which foreign words often lack, and the ligatures of Yiddish.
        "\u05da": "\u05db", "\u05dd": "\u05de", "\u05df": "\u05e0", "\u05e3": "\u05e4",
        "\u05e5": "\u05e6",
        "\u05f0": "\u05d5\u05d5", "\u05f1": "\u05d5\u05d9", "\u05f2": "\u05d9\u05d9",
        "\u0901": "\u0902",  # Devanagari: candrabindu is often written as anusvara
        # Katakana as hiragana.
        **{chr(code): chr(code - 0x60) for code in (*range(0x30A1, 0x30F7), 0x30FD, 0x30FE)},
        "\u2800": " ",  # a braille cell without dots, which chats use as a space
    },
    reads_all_digits=True,
)  # fmt: skip

# A Devanagari n without its vowel, within a word, is often written as anusvara.
_DEAD_N: Final = "(?<=[\u0900-\u097f])(?:\u0928\u093c?|\u0929)\u094d"
_WITHIN_WORD: Final = re.compile(_DEAD_N)
# Zero width non-joiner: Persian separates with it, other scripts only choose a form with it.
_NON_JOINER: Final = re.compile("(?<![\u0600-\u08ff])\u200c")

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


def formerly_folded(text: str) -> str:
    """`text` as the version before indexed it."""
    if text.isascii():
        return folded(text)
    words = [_compatible(word).casefold().translate(_former_table) for word in text.split()]
    return " ".join(words)


def former_tokens(text: str) -> list[str]:
    """The tokens of `text` in an index that the version before has made."""
    return TOKEN.findall(formerly_folded(text))


class _FoldTable(dict[int, str]):
    """Maps a character to its form in the index; filled on demand."""

    def __init__(self, rules: _Rules) -> None:
        super().__init__({0: " ", **{code: chr(code) for code in range(1, 128)}})
        self._rules = rules
        self._marks = re.compile(f"[{rules.marks}]")
        self._invisible = re.compile(f"[{rules.invisible}]")

    def __missing__(self, code: int) -> str:
        self[code] = folded_char = self._folded(chr(code))
        return folded_char

    def _folded(self, char: str) -> str:
        bare = self._marks.sub("", unicodedata.normalize("NFD", char))
        if not bare or self._invisible.match(char):
            return ""
        if "CYRILLIC" not in unicodedata.name(char, ""):  # й is a letter of its own
            char = unicodedata.normalize("NFC", bare)
        char = self._rules.alike.get(char, char)
        category, is_unspaced = unicodedata.category(char[0]), _UNSPACED.match(char) is not None
        if category == "Nd" and (self._rules.reads_all_digits or not is_unspaced):
            return str(unicodedata.decimal(char[0])) + char[1:]
        if category in ("So", "Cn") or (category[0] in "LNM" and is_unspaced):
            return f" {char} "
        return char if char < "\x80" or category[0] in "LNM" else " "


_table: Final = _FoldTable(_RULES)
_former_table: Final = _FoldTable(_FORMER)


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
        folded_word = _compatible(word).casefold()
        if "\u094d" in folded_word:
            folded_word = _WITHIN_WORD.sub("\u0902", folded_word)
        if "\u200c" in folded_word:
            folded_word = _NON_JOINER.sub("", folded_word)
        folded_word = folded_word.translate(_table)
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

    @property
    def function(self) -> Callable[[str], str]:
        """The quickest that folds a text now."""
        return self if self._expected else folded

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
    cluster = f".[{pattern}]*(?:{_DEAD_N}[{pattern}]*)*"
    return _Clusters(re.compile(cluster, re.DOTALL), re.compile(f"(?!{_DEAD_N})[^{pattern}]"))


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
