"""What a word is, what a query asks for, and what is highlighted."""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscroll.contract.filters import SearchHit
from backscroll.contract.messages import ChatMessage
from backscroll_worker.stores.search.query import MAX_PREFIXES, MAX_TOKENS, Query, Term
from backscroll_worker.stores.search.snippet import highlight, highlighted_hit
from backscroll_worker.stores.search.text import (
    FOLDING,
    TOKEN,
    cut,
    folded,
    formerly_folded,
    placed_tokens,
    tokens,
)
from tests.budget import tries

any_text = st.text(
    st.sampled_from("\u2764\ufe0fab-_.\"'*日本語が\u3099éÉßﬁİk\u0301\u05b8\u0e33가\u200d🙂🇯🇵 \n\0")
    | st.characters(exclude_categories=["Cs"]),
    max_size=40,
)

scripts = st.text(
    st.sampled_from(
        "नऩमह़्ंँक\u200c\u200d \u200babLøßéё\u0301иם\u05bcשأٱةہکـ"
        "\u064eカが\u3099\uff9eｶ東ｱ१٣๑ก้ำ한\u1112\u1161🎉\ufe0f\u20e3-_\n"
    ),
    max_size=14,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Hello, World!", ["hello", "world"]),
        ("snake_case v2.10 don't", ["snake", "case", "v2", "10", "don", "t"]),
        ("Crème BRÛLÉE", ["creme", "brulee"]),
        ("Straße", ["strasse"]),
        ("ﬁ Ⅷ ½", ["fi", "viii", "1", "2"]),
        ("東京タワー", ["東", "京", "た", "わ", "ー"]),
        ("go東京go", ["go", "東", "京", "go"]),
        ("오늘", ["오", "늘"]),
        ("กิน", ["ก", "ิ", "น"]),
        ("мой", ["мой"]),
        ("שָׁלוֹם", ["שלומ"]),
        ("مُحَمَّد", ["محمد"]),
        ("हिन्दी न्याय", ["हिंदी", "न्याय"]),
        ("Łódź Øre Đà Nẵng æther Þór", ["lodz", "ore", "da", "nang", "aether", "thor"]),
        ("ёж ѝ мій", ["еж", "и", "мій"]),
        ("๑๒๓ห้อง", ["123", "ห", "้", "อ", "ง"]),
        ("Auf\u200clage foo\u200bbar a\u2800b", ["auflage", "foobar", "a", "b"]),
        ("می\u200cخواهم", ["مي", "خواهم"]),
        ("🎉🎉", ["🎉", "🎉"]),
        ("\u26a0\ufe0fWarning \u2764\ufe0f", ["\u26a0", "warning", "\u2764"]),
        ("葛\U000e0100城", ["葛", "城"]),
        ("a\0b", ["a", "b"]),
        ("a\u2028b\u3000c…d", ["a", "b", "c", "d"]),
    ],
)
def test_text_is_cut_into_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@given(any_text)
@settings(deadline=None)
def test_composed_and_decomposed_text_have_the_same_tokens(text: str) -> None:
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert tokens(composed) == tokens(decomposed)


@given(any_text)
@settings(deadline=None)
def test_what_is_indexed_holds_no_nul(text: str) -> None:
    assert "\0" not in folded(text)  # where an array of texts is bound, it would end one


@given(any_text)
@settings(max_examples=tries(150, deep=500), deadline=None)
def test_folding_twice_changes_no_token(text: str) -> None:
    assert tokens(" ".join(tokens(text))) == tokens(text)


@pytest.mark.parametrize(
    "text",
    [
        "plain ASCII Text",
        "Crème brûlée",
        "İstanbul",
        "ᎣᏏᏲ",
    ],
)
def test_the_index_holds_the_tokens_that_a_query_asks_for(text: str) -> None:
    # FTS5's ascii tokenizer: everything from U+0080 on is part of a token as it is.
    indexed = re.findall(r"[0-9A-Za-z\u0080-\U0010ffff]+", folded(text))
    assert [word.lower() if word.isascii() else word for word in indexed] == tokens(text)


@pytest.mark.parametrize(
    ("text", "wanted", "unwanted"),
    [
        ("", [], []),
        ("a b", [Term(("a",)), Term(("b",))], []),
        ('"a b" c', [Term(("a", "b")), Term(("c",))], []),
        ('"a b', [Term(("a", "b"))], []),
        ("wor*", [Term(("wor",), is_prefix=True)], []),
        ("a.wor*", [Term(("a", "wor"), is_prefix=True)], []),
        ("rm -rf --force", [Term(("rm",)), Term(("force",))], [Term(("rf",), is_excluded=True)]),
        ("-rf -v*", [Term(("rf",)), Term(("v",), is_prefix=True)], []),
        ("---", [], []),
        ('--"a b"', [Term(("a", "b"))], []),
        ("a OR", [Term(("a",)), Term(("or",))], []),
        ("OR a", [Term(("or",)), Term(("a",))], []),
        ('a "OR" b or c', [Term(("a",)), Term(("or",)), Term(("b",)), Term(("c",))], []),
        ("a OR -b", [Term(("a",)), Term(("or",))], [Term(("b",), is_excluded=True)]),
        ("a -b", [Term(("a",))], [Term(("b",), is_excluded=True)]),
        ('a -"a b"', [Term(("a",))], [Term(("a", "b"), is_excluded=True)]),
        ("a -b*", [Term(("a",))], [Term(("b",), is_prefix=True, is_excluded=True)]),
        ("a-b", [Term(("a", "b"))], []),
        ("天気", [Term(("天", "気"))], []),
        ("* - \"\" ''", [], []),
        ("a a -b -b", [Term(("a",))], [Term(("b",), is_excluded=True)]),
        ('"a wor"* b', [Term(("a", "wor"), is_prefix=True), Term(("b",))], []),
        ('a -"a wor"*', [Term(("a",))], [Term(("a", "wor"), is_prefix=True, is_excluded=True)]),
    ],
)
def test_a_query_is_parsed(text: str, wanted: list[Term], unwanted: list[Term]) -> None:
    query = Query.parse(text)
    assert query.wanted == tuple((term,) for term in wanted)
    assert list(query.unwanted) == unwanted


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("a OR b", ["a b"]),
        ("a OR b OR c d", ["a b c", "d"]),
        ("a b OR c d OR e", ["a", "b c", "d e"]),
        ("a OR a", ["a"]),
        ("a OR ?! b", ["a b"]),
        ("a OR OR OR b", ["a or b"]),
        (" ".join([*map(str, range(MAX_TOKENS)), "OR", "x"]), [str(n) for n in range(MAX_TOKENS)]),
    ],
)
def test_or_joins_the_terms_beside_it(text: str, clauses: list[str]) -> None:
    query = Query.parse(text)
    assert [[term.tokens[0] for term in clause] for clause in query.wanted] == [
        clause.split() for clause in clauses
    ]


def test_of_a_long_query_the_first_tokens_and_stars_count() -> None:
    words = [f"w{number}" for number in range(50)]
    assert [term.tokens for term in Query.parse(" ".join(words)).terms] == [
        (word,) for word in words[:MAX_TOKENS]
    ]
    (phrase,) = Query.parse("你" * 1_000).terms
    assert phrase.tokens == ("你",) * MAX_TOKENS
    (phrase,) = Query.parse(f'"{" ".join(words)}"*').terms
    assert not phrase.is_prefix  # its last word is not the unfinished one
    terms = Query.parse("a* b* -c* d* e* f*")
    assert sum(term.is_prefix for term in terms.terms + terms.unwanted) == MAX_PREFIXES
    assert [term.is_prefix for term in terms.terms] == [True, True, True, False, False]


@given(any_text, any_text, any_text)
@settings(max_examples=tries(100, deep=300), deadline=None)
def test_a_query_without_its_beginnings_finds_no_less(text: str, query: str, prefix: str) -> None:
    asked = Query.parse(f'{query} OR "{prefix}"* -{query}*')
    for prefixes in (asked.prefixes, list(asked.prefixes)[:1]):
        rest = asked.without(prefixes)
        assert rest.prefixes == asked.prefixes - set(prefixes)
        assert not asked.matches(text) or not rest.wanted or rest.matches(text)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("apple apple", "apple"),
        ("apple pie", "an apple pie with cream"),
        ("apple apple pear pear plum", "apple apple apple pear plum"),
    ],
)
def test_a_message_that_is_more_about_it_scores_higher(better: str, worse: str) -> None:
    query = Query.parse("apple pear" if "pear" in better else "apple")
    high, low = query.score(tokens(better)), query.score(tokens(worse))
    assert high is not None
    assert low is not None
    assert high > low > 0


@pytest.mark.parametrize("text", ["", "-", "--", "?", '""'])
def test_a_query_that_asks_for_nothing_matches_nothing(text: str) -> None:
    query = Query.parse(text)
    assert query.fts5 is None
    assert not query.matches("anything a ?")


@given(any_text)
@settings(deadline=None)
def test_no_query_can_leave_its_quotes(text: str) -> None:
    expression = Query.parse(text).fts5
    if expression is not None:
        outside = re.sub(r'"[^"]*"', "", expression)
        assert re.fullmatch(r"[() *]*(?:AND|OR|NOT|[() *])*", outside)


@given(scripts, st.integers(0, 14))
@settings(max_examples=tries(200, deep=1_000), deadline=None)
def test_each_token_has_a_place_wherever_a_text_is_cut(text: str, place: int) -> None:
    assert [word for word, _, _ in placed_tokens(text, 0, len(text))] == tokens(text)
    end = cut(text, min(place, len(text)))
    parts = [text[:end], text[end:]]
    if all(parts) and not (parts[0][-1].isspace() or parts[1][0].isspace()):
        assert TOKEN.findall("".join(map(folded, parts))) == tokens(text)


@given(any_text, any_text)
@settings(max_examples=tries(100, deep=300), deadline=None)
def test_marks_lie_in_the_snippet_in_order_and_apart(text: str, query: str) -> None:
    snippet, marks = highlight(text, Query.parse(query))
    places = [place for mark in marks for place in mark]
    assert places == sorted(places)
    assert all(0 <= start < end <= len(snippet) for start, end in marks)
    assert all(end < start for (_, end), (start, _) in pairwise(marks))


@given(st.text(st.sampled_from("ab é日本ßﬁ🙂-."), min_size=1, max_size=40), st.integers(0, 39))
@settings(max_examples=tries(100, deep=300), deadline=None)
def test_what_matches_is_marked(text: str, start: int) -> None:
    query = Query.parse('"' + text[start : start + 5] + '"')
    snippet, marks = highlight(text, query)
    assert bool(marks) == query.matches(text)
    for begin, end in marks:
        assert query.matches(snippet[begin:end])


@pytest.mark.parametrize(
    ("text", "query", "highlighted"),
    [
        ("a b a", "a", "[a] b [a]"),
        ("天気天気", "天気", "[天気天気]"),
        ("ab abc", "ab*", "[ab] [abc]"),
        ("fiance\u0301 here", "fiance", "[fiance\u0301] here"),
        (unicodedata.normalize("NFD", "각 여기"), "각", unicodedata.normalize("NFD", "[각] 여기")),
        ("ﾊﾞﾅﾅ ok", "バナナ", "[ﾊﾞﾅﾅ] ok"),
        ("ﾊﾞﾅﾅ ok", "ばなな", "[ﾊﾞﾅﾅ] ok"),
        ("वह हिन्दी में", "हिंदी", "वह [हिन्दी] में"),
        ("die Auf\u200clage 2", "auflage", "die [Auf\u200clage] 2"),
        ("می\u200cخواهم", "خواهم", "می\u200c[خواهم]"),
    ],
)
def test_hits_are_highlighted(text: str, query: str, highlighted: str) -> None:
    hit = highlighted_hit(SearchHit("s", ChatMessage.user(text), ""), Query.parse(query))
    assert hit.highlighted() == highlighted


@pytest.mark.parametrize("filler", ["word ", "文", "x"])
@pytest.mark.parametrize("gap", [" ", "." * 1_500])
def test_a_hit_is_found_wherever_in_a_long_text_it_is(filler: str, gap: str) -> None:
    before, after = filler * (20_000 // len(filler)), filler * 3_000
    phrase = f" red{gap}apple "
    query = Query.parse('"red apple" -tree')
    for place in [*range(3_900, 4_100, 9), *range(7_990, 8_010), 0, 20_000]:
        text = before[:place] + phrase + after
        snippet, marks = highlight(text, query)
        assert len(snippet) <= 162
        if len(gap) == 1:
            ((start, end),) = marks
            assert snippet[start:end] == "red apple"
            assert snippet.strip("…") in text
        else:  # it is longer than what is shown
            assert "red" in snippet


@pytest.mark.parametrize("place", [0, 1, 20, 60, 199, 200])
def test_a_snippet_is_cut_around_the_first_hit(place: int) -> None:
    words = [f"w{number}" for number in range(200)]
    words.insert(place, "needle")
    snippet, marks = highlight(" ".join(words), Query.parse("needle"))
    assert len(snippet) <= 162
    assert snippet.startswith("…") == (place > 10)
    assert snippet.endswith("…") == (place < 190)
    assert [snippet[start:end] for start, end in marks] == ["needle"]


def test_a_short_text_is_its_own_snippet() -> None:
    assert highlight("nothing here", Query.parse("needle")) == ("nothing here", ())


def test_rules_that_fold_otherwise_have_another_version() -> None:
    category = unicodedata.ucd_3_2_0.category  # what has not changed from one Python to the next
    letters = [chr(code) for code in range(0x30000) if category(chr(code))[0] != "C"]
    texts = [fold(" ".join(letters) + "".join(letters)) for fold in (folded, formerly_folded)]
    digests = [blake2b(text.encode(), digest_size=8).hexdigest() for text in texts]
    expected = (3, ["0ee5df98649c9f35", "4238ec2639a3d33e"])
    assert (FOLDING, digests) == expected, "raise FOLDING, and put this right"
