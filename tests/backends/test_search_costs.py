"""What users say and ask takes a time that grows with its length, and no faster."""

from __future__ import annotations

import random
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from backscroll.contract.messages import ChatMessage
from backscroll_worker.stores.search.query import Query, relevance
from backscroll_worker.stores.search.snippet import highlight
from backscroll_worker.stores.search.text import _compatible, _table, folded
from backscroll_worker.testing.stores import apply_all, open_tested, requests


def seconds(work: Callable[[], object]) -> float:
    """The least processor time of several runs."""
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return max(min(times), 0.001)


@pytest.mark.parametrize(
    "unit",
    [
        "\u0301\u0316",
        "\u05b1\u05b0",
        "\u0f72\u0f71",
        "\uff9e\u0316",
        "\u0f73\u0f39",
        "e\u0301",
        "\ufdfa",
        "知",
        "é",
        "\u00ad",
    ],
    ids=ascii,
)
def test_folding_and_highlighting_take_no_longer_a_character_in_long_texts(unit: str) -> None:
    query = Query.parse("needle")

    def read(size: int) -> None:
        text = "a" + unit * size
        folded(text)
        highlight(f"{text} needle", query)

    assert seconds(lambda: read(16_000)) < 24 * seconds(lambda: read(2_000))


def test_long_runs_of_marks_fold_as_unicode_normalizes_them() -> None:
    draw = random.Random(1)
    marks = [chr(code) for code in range(0x20000) if unicodedata.combining(chr(code))]
    alphabet = [*marks, *"aáкеёᾳかが\u0344\u0f73\u0f75\u0f81\uff9e\uff9f\u0340"]
    for _ in range(500):
        word = "".join(draw.choices(alphabet, k=draw.randint(25, 120)))
        assert _compatible(word) == unicodedata.normalize("NFKC", word), ascii(word)


def test_characters_that_stand_for_words_fold_as_all_others() -> None:
    draw = random.Random(2)
    alphabet = [
        *map(chr, range(0x3300, 0x3400)),
        *"\ufdfa\ufdfb\u3099\u309a\uff9e\u0301\u0654aé\uff76か",
    ]
    for _ in range(300):
        word = "".join(draw.choices(alphabet, k=draw.randint(25, 60)))
        assert folded(word) == _compatible(word).casefold().translate(_table), ascii(word)
    assert seconds(lambda: folded("\ufdfa" * 50_000)) < 25 * seconds(lambda: folded("é" * 50_000))


def test_a_phrase_that_long_messages_repeat_is_ranked_in_small_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked: list[int] = []

    def counted(counts: list[int], size: int) -> float:
        ranked.append(size)
        return relevance(counts, size)

    monkeypatch.setattr("backscroll_worker.stores.sqlite.search.relevance", counted)
    with open_tested(f"sqlite://{tmp_path}/b.db") as store:
        said = ChatMessage.user("tick tock " * 2_000)
        apply_all(store, [requests.append("k", (said,) * 32, None) for _ in range(9)])
        page = store.search('"' + "tick tock " * 16 + '"', limit=5)
        assert len(page.hits) == 5
        assert 5 <= len(ranked) < 9 * 32 / 4


def test_a_hit_in_a_long_text_of_ascii_is_found_as_in_any() -> None:
    draw = random.Random(3)
    words = ["the", "cat", "CAT", "x", "ab", "a", "zz9", ",", "\0", "--", "o'clock", "\n"]
    asked = ["cat", '"the cat"', "a*", '"a b*"', 'zz9 "o clock"', "-x ab", "no*", '"cat x" é', "--"]
    for _ in range(300):
        text = "".join(
            draw.choice(words) + draw.choice(["", " ", " ", ", "])
            for _ in range(draw.randint(200, 500))
        )
        query = Query.parse(draw.choice(asked))
        assert highlight(text + " " * 300 + "e", query) == highlight(text + " " * 300 + "é", query)
    long = "x\n" * 100_000 + "needle"
    needle = Query.parse("needle")
    assert (
        seconds(lambda: highlight(long, needle))
        < seconds(lambda: highlight(long + "é", needle)) / 3
    )


def test_a_search_by_session_is_not_quadratic_in_one_chats_hits(tmp_path: Path) -> None:
    with open_tested(f"sqlite://{tmp_path}/b.db") as store:

        def search(key: str, count: int) -> Callable[[], object]:
            said = (ChatMessage.user(f"{key} pear"),) * 1_000
            apply_all(store, [requests.append(key, said, None) for _ in range(count // 1_000)])
            return lambda: store.search(key, by_session=True)

        few, many = search("few", 2_000), search("many", 30_000)
        assert seconds(many) < 45 * seconds(few)
        (hit,) = store.search("many", by_session=True)
        assert hit.session_matches == 30_000
