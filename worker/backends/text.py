"""What a word is: one definition for the index, the scan and the highlighting.

Text is folded (case, accents, compatibility forms) and cut into tokens. Scripts written without
spaces between words (Chinese, Japanese, Thai ...), Hangul and emoji become one token a character,
so that any substring of them is a phrase. FTS5 then needs only its `ascii` tokenizer: everything
that is not part of a token has become a space before it gets there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from producer.messages import SearchHit

_TOKEN: Final = re.compile(r"[0-9a-z\u0080-\U0010ffff]+")
_TOKEN_OR_GAP: Final = re.compile(r"[0-9a-z\u0080-\U0010ffff]+|[^0-9a-z\u0080-\U0010ffff]+")
_SNIPPET_CHARS: Final = 160
_LONGEST_KEPT_WORD: Final = 24
_MOST_KEPT_WORDS: Final = 40_000

# A character with what follows and belongs to it: marks, Hangul vowels and finals, kana's dots.
_CLUSTER: Final = re.compile(
    ".[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u1160-\u11ff\u3099\u309a\uff9e\uff9f]*",
    re.DOTALL,
)

# Marks that writers leave out or put in at will: Latin accents, Hebrew points, Arabic vowels.
_OPTIONAL_MARK: Final = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u0640]")

# Letters of scripts that do not separate words: Thai, Lao, Myanmar, Khmer, kana, Han, Hangul.
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3130-\u318f"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)


def folded(text: str) -> str:
    """`text` as it is indexed: tokens between spaces (ASCII punctuation may remain)."""
    if text.isascii():
        return text.lower()  # the tokenizer cuts ASCII by itself
    words = text.split()
    try:
        return " ".join([_known_words[word] for word in words])
    except KeyError:
        return " ".join([_folded_word(word) for word in words])


def tokens(text: str) -> list[str]:
    """The tokens of `text`, in order."""
    return _TOKEN.findall(folded(text))


class Term(NamedTuple):
    """One thing a query asks for: a run of tokens, whose last may be the start of a longer one."""

    tokens: tuple[str, ...]
    is_prefix: bool = False
    is_excluded: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """What a user typed: all `wanted` terms must occur, none of the `unwanted` may."""

    wanted: tuple[Term, ...]
    unwanted: tuple[Term, ...]

    @classmethod
    def parse(cls, text: str) -> Query:
        """Any text is a query: words, "phrases", prefix* and -exclusions; the rest is ignored."""
        terms = [term for term in _terms(text) if term.tokens]
        return cls(
            tuple(term for term in terms if not term.is_excluded),
            tuple(term for term in terms if term.is_excluded),
        )

    @property
    def fts5(self) -> str | None:
        """The query as FTS5 takes it; None when it asks for nothing."""
        if not self.wanted:
            return None
        wanted = " AND ".join(map(_fts5_term, self.wanted))
        if not self.unwanted:
            return wanted
        unwanted = " OR ".join(map(_fts5_term, self.unwanted))
        return f"({wanted}) NOT ({unwanted})"

    def matches(self, text: str) -> bool:
        """Whether `text` is a hit; the scan's counterpart of `fts5`."""
        if not self.wanted:
            return False
        words = tokens(text)
        return all(any(_occurrences(term, words)) for term in self.wanted) and not any(
            any(_occurrences(term, words)) for term in self.unwanted
        )


def highlight(text: str, query: Query) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The part of `text` with the first hit, and where in it the hits are."""
    placed = list(_placed_tokens(text))
    words = [word for word, _, _ in placed]
    marks = sorted(
        {
            (placed[first][1], placed[last][2])
            for term in query.wanted
            for first, last in _occurrences(term, words)
        }
    )
    start, end = _window(text, marks[0][0] if marks else 0)
    before, after = "…" * (start > 0), "…" * (end < len(text))
    shift = len(before) - start
    inside = [(a + shift, b + shift) for a, b in _merged(marks) if start <= a and b <= end]
    return before + text[start:end] + after, tuple(inside)


def highlighted_hit(hit: SearchHit, query: Query) -> SearchHit:
    """`hit` with its snippet and marks."""
    snippet, marks = highlight(hit.message.content, query)
    return SearchHit(hit.key, hit.message, snippet, marks, hit.score)


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


_table: Final = _FoldTable({code: chr(code) for code in range(128)})

# Words recur, and folding is the dearest step of a commit that is not SQLite's own.
_known_words: Final[dict[str, str]] = {}


def _folded_word(word: str) -> str:
    known = _known_words.get(word)
    if known is not None:
        return known
    folded_word = unicodedata.normalize("NFKC", word).casefold().translate(_table)
    if folded_word == word:
        folded_word = word  # one string in memory, not two
    if len(word) <= _LONGEST_KEPT_WORD:
        if len(_known_words) >= _MOST_KEPT_WORDS:
            _known_words.clear()
        _known_words[word] = folded_word
    return folded_word


_QUERY_PART: Final = re.compile(r'(?P<minus>(?<!\S)-)?(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))')


def _terms(text: str) -> Iterator[Term]:
    for part in _QUERY_PART.finditer(text):
        phrase, word = part["phrase"], part["word"]
        excluded = part["minus"] is not None
        if phrase is not None:
            yield Term(tuple(tokens(phrase)), is_excluded=excluded)
        else:
            yield Term(tuple(tokens(word)), word.endswith("*"), excluded)


def _fts5_term(term: Term) -> str:
    # Tokens hold no quote, so that nothing a user types can leave the string.
    return f'"{" ".join(term.tokens)}"' + ("*" if term.is_prefix else "")


def _occurrences(term: Term, words: list[str]) -> Iterator[tuple[int, int]]:
    """Where in `words` the term stands: indexes of its first and its last token."""
    *head, last = term.tokens
    for first in range(len(words) - len(head)):
        end = first + len(head)
        found = words[end].startswith(last) if term.is_prefix else words[end] == last
        if found and words[first:end] == head:
            yield first, end


def _placed_tokens(text: str) -> Iterator[tuple[str, int, int]]:
    """The tokens of `text` with the [start, end) characters they come from."""
    word, start, end = "", 0, 0
    for cluster in _CLUSTER.finditer(text):
        for part in _TOKEN_OR_GAP.findall(folded(cluster[0])):
            if _TOKEN.match(part):
                start = start if word else cluster.start()
                word, end = word + part, cluster.end()
            elif word:
                yield word, start, end
                word = ""
    if word:
        yield word, start, end


def _window(text: str, hit: int) -> tuple[int, int]:
    """A stretch of `text` around `hit`, cut at spaces where there are any near."""
    if len(text) <= _SNIPPET_CHARS:
        return 0, len(text)
    start = max(0, min(hit - _SNIPPET_CHARS // 3, len(text) - _SNIPPET_CHARS))
    end = start + _SNIPPET_CHARS
    if start > 0 and (space := text.find(" ", start, min(start + 20, hit))) >= 0:
        start = space + 1
    if end < len(text) and (space := text.rfind(" ", end - 20, end)) > hit:
        end = space
    return start, end


def _merged(marks: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """`marks` with those that touch or overlap joined; phrases of one-character tokens do."""
    joined: tuple[int, int] | None = None
    for start, end in marks:
        if joined is not None and start <= joined[1]:
            joined = joined[0], max(joined[1], end)
        else:
            if joined is not None:
                yield joined
            joined = start, end
    if joined is not None:
        yield joined
