"""What a word is: one definition for the index, the scan and the snippets.

Text is folded (case, accents, compatibility forms) and cut into tokens. Scripts written without
spaces between words (Chinese, Japanese, Thai ...), Hangul and emoji become one token a character,
so that any substring of them is a phrase. FTS5 then needs only its `ascii` tokenizer: everything
that is not part of a token has become a space before it gets there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

_TOKEN: Final = re.compile(r"[0-9a-z\u0080-\U0010ffff]+")
_TOKEN_OR_GAP: Final = re.compile(r"[0-9a-z\u0080-\U0010ffff]+|[^0-9a-z\u0080-\U0010ffff]+")
_ASCII_TOKEN: Final = re.compile(r"[0-9A-Za-z]+")
_NO_SPACE: Final = re.compile(r"\S+")  # no token goes on after a space
_LONGEST_KEPT_WORD: Final = 24
_MOST_KEPT_WORDS: Final = 40_000

# A character with what follows and belongs to it: marks, Hangul vowels and finals, kana's dots,
# and how an emoji is to look.
_CLUSTER: Final = re.compile(
    ".[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u1160-\u11ff\u3099\u309a\ufe00-\ufe0f"
    "\uff9e\uff9f\U000e0100-\U000e01ef]*",
    re.DOTALL,
)

# Marks that writers leave out or put in at will: Latin accents, Hebrew points, Arabic vowels; and
# that keyboards do: variation selectors.
_OPTIONAL_MARK: Final = re.compile(
    "[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u0640\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)

# Letters of scripts that do not separate words: Thai, Lao, Myanmar, Khmer, kana, Han, Hangul.
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3130-\u318f"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)


def folded(text: str) -> str:
    """`text` as it is indexed: tokens between spaces (ASCII punctuation may remain, NUL not)."""
    if text.isascii():
        return text.lower().replace("\0", " ")  # the tokenizer cuts ASCII by itself
    return " ".join(map(_folded_words.__getitem__, text.split()))


def tokens(text: str) -> list[str]:
    """The tokens of `text`, in order."""
    return _TOKEN.findall(folded(text))


class _FoldTable(dict[int, str]):
    """Maps a character to what the index holds for it; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        bare = _OPTIONAL_MARK.sub("", unicodedata.normalize("NFD", char))
        if bare and "CYRILLIC" not in unicodedata.name(char, ""):  # й is a letter of its own
            char = unicodedata.normalize("NFC", bare)
        elif not bare:
            char = ""
        if _UNSPACED.match(char) or unicodedata.category(char[:1] or " ") in ("So", "Cn"):
            char = f" {char} "
        elif code >= 0x80 and unicodedata.category(chr(code))[0] not in "LNM":
            char = " "
        self[code] = char
        return char


_table: Final = _FoldTable({0: " ", **{code: chr(code) for code in range(1, 128)}})


class _FoldedWords(dict[str, str]):
    """Maps a word to how it is indexed; words recur, and folding one is dear."""

    def __missing__(self, word: str) -> str:
        folded_word = unicodedata.normalize("NFKC", word).casefold().translate(_table)
        if folded_word == word:
            folded_word = word  # one string in memory, not two
        if len(word) <= _LONGEST_KEPT_WORD:
            if len(self) >= _MOST_KEPT_WORDS:
                self.clear()
            self[word] = folded_word
        return folded_word


_folded_words: Final = _FoldedWords()


class Folder:
    """Folds texts, and those that are expected ahead of time."""

    def __init__(self) -> None:
        self._expected: dict[str, str] = {}

    def expect(self, texts: Iterable[str]) -> None:
        """Fold these now. They take the place of those expected before."""
        self._expected = {text: folded(text) for text in texts}

    def __call__(self, text: str) -> str:
        """`folded(text)`."""
        found = self._expected.get(text) if self._expected else None
        return folded(text) if found is None else found


def placed_tokens(text: str) -> Iterator[tuple[str, int, int]]:
    """The tokens of `text` with the [start, end) characters they come from."""
    for stretch in _NO_SPACE.finditer(text):
        if stretch[0].isascii():
            for found in _ASCII_TOKEN.finditer(text, stretch.start(), stretch.end()):
                yield found[0].lower(), found.start(), found.end()
        else:
            yield from _placed_by_cluster(text, stretch.start(), stretch.end())


def _placed_by_cluster(text: str, first: int, last: int) -> Iterator[tuple[str, int, int]]:
    word, start, end = "", 0, 0
    for cluster in _CLUSTER.finditer(text, first, last):
        for part in _TOKEN_OR_GAP.findall(folded(cluster[0])):
            if _TOKEN.match(part):
                start = start if word else cluster.start()
                word, end = word + part, cluster.end()
            elif word:
                yield word, start, end
                word = ""
    if word:
        yield word, start, end
