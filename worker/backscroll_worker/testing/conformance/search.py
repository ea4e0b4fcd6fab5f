"""What every store promises of search: what a query finds, where, and with which marks."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backscroll.contract.filters import SearchFilter, SearchHit
from backscroll.contract.messages import ChatMessage, from_micros
from backscroll_worker.stores.search.text import tokens
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    StoreUnderTest,
    apply_all,
    contents,
    found,
    requests,
    say,
)

NEEDS = "search"

FRUIT = (
    "the quick brown fox",
    "quick thinking, brown bread",
    "brown quick",
    "Quickly done",
    "nothing of the kind",
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("quick", {0, 1, 2}),
        ("QUICK", {0, 1, 2}),
        ("quick brown", {0, 1, 2}),
        ("brown quick", {0, 1, 2}),
        ("quick fox", {0}),
        ('"quick brown"', {0}),
        ('"brown quick"', {2}),
        ('"quick brown" fox', {0}),
        ('"quick brown', {0}),
        ("quick*", {0, 1, 2, 3}),
        ("qui*", {0, 1, 2, 3}),
        ("qui", set()),
        ("quick -fox", {1, 2}),
        ('quick -"brown fox"', {1, 2}),
        ("quick -brown", set()),
        ("quick* -quick", {3}),
        ("br* -bread -fox", {2}),
        ("brown-quick", {2}),
        ("brown, bread!", {1}),
        ("-quick", {0, 1, 2}),
        ("--quick", {0, 1, 2}),
        ("quick --brown", {0, 1, 2}),
        ("fox OR bread", {0, 1}),
        ("quick fox OR bread", {0, 1}),
        ("fox OR bread OR done quick*", {0, 1, 3}),
        ('"quick brown" OR "brown quick"', {0, 2}),
        ("nothing OR quickl*", {3, 4}),
        ("fox OR nothing -kind", {0}),
        ("quick or nothing", set()),
        ("", set()),
        ("   ", set()),
        ("*", set()),
        ('""', set()),
        ("-", set()),
        ("?!", set()),
        ("quick OR nothing", {0, 1, 2, 4}),
        ("NOT quick", set()),
        ("quick NEAR fox", set()),
        ("text:quick", set()),
    ],
)
def test_a_query_finds(store: StoreUnderTest, query: str, expected: set[int]) -> None:
    say(store, "s", *FRUIT)
    assert found(store, query) == {FRUIT[number] for number in expected}


def test_what_a_dash_excluded_is_said(store: StoreUnderTest) -> None:
    say(store, "s", "rm -rf /", "rm it", "git push --force")
    page = store.search("rm -rf")
    assert [hit.message.content for hit in page] == ["rm it"]
    assert page.excluded == ("rf",)
    assert store.search('it -"rm rf"*').excluded == ("rm rf*",)
    for query, said in (
        ('rm "-rf"', "rm -rf /"),
        ("-rf", "rm -rf /"),
        ("--force", "git push --force"),
    ):
        page = store.search(query)
        assert ([hit.message.content for hit in page], page.excluded) == ([said], ())


@pytest.mark.parametrize(
    ("content", "queries"),
    [
        ("我想预订明天去上海的火车票", ["我", "票", "上海", "火车票", "去上海的", "预订 火车"]),
        ("明日の天気を教えてください", ["天", "天気", "てください", "の天気を", "明日 教え"]),
        ("カタカナとｶﾀｶﾅ", ["カ", "タカ", "カタカナ", "ｶﾅ"]),
        ("오늘 날씨가 어때요", ["날", "씨가", "날씨", "어때요", "오늘 어때"]),
        ("วันนี้อากาศเป็นอย่างไร", ["อากาศ", "วัน", "อย่าง", "กา"]),
        ("ສະບາຍດີ ຊາວໂລກ", ["ສະບາຍ", "ໂລກ"]),
        ("သင်နေကောင်းလား", ["နေ", "ကောင်း"]),
        ("សួស្តី\u200bពិភពលោក", ["ពិភព", "លោក"]),
        ("see 東京タワー at 5pm", ["東京", "タワー", "see", "5pm", "see 東京", "京タ"]),
        ("漢字𠀀𠀁拡張", ["𠀀", "𠀀𠀁", "字𠀀"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_any_part_of_unspaced_writing_is_found(
    store: StoreUnderTest, content: str, queries: list[str]
) -> None:
    say(store, "s", content, "something else entirely")
    for query in queries:
        assert found(store, query) == {content}, query
        assert found(store, f'"{query}"') <= {content}


@pytest.mark.parametrize("query", ["上票", "海上", "天明", "票火车"])
def test_characters_must_stand_together_and_in_order(store: StoreUnderTest, query: str) -> None:
    say(store, "s", "我想预订明天去上海的火车票")
    assert found(store, query) == set()


@pytest.mark.parametrize(
    ("content", "query"),
    [
        ("Crème brûlée", "creme brulee"),
        ("creme brulee", "CRÈME BRÛLÉE"),
        ("Straße", "STRASSE"),
        ("ＦＵＬＬ width", "full"),
        ("ﬁne", "fine"),
        ("ΑΘΗΝΑ", "αθηνα"),
        ("Москва", "МОСКВА"),
        ("İstanbul", "istanbul"),
        ("e\u0301te\u0301", "ete"),
        ("שָׁלוֹם", "שלום"),
        ("मैं हिन्दी बोलता हूँ", "हिन्दी"),
        ("Đà Nẵng", "đa nang"),
        ("naïve café", "cafe naive"),
    ],
)
def test_case_accents_and_forms_do_not_matter(
    store: StoreUnderTest, content: str, query: str
) -> None:
    say(store, "s", content, "another")
    assert found(store, query) == {content}


def test_a_letter_with_a_mark_of_its_own_is_another_letter(store: StoreUnderTest) -> None:
    say(store, "s", "мой", "мои")
    assert found(store, "мой") == {"мой"}


@pytest.mark.parametrize("query", ["🎉", "party 🎉", "🎉🎉", "🚀"])
def test_emoji_are_found(store: StoreUnderTest, query: str) -> None:
    say(store, "s", "party 🎉🎉🚀 time", "no party")
    assert found(store, query) == {"party 🎉🎉🚀 time"}


def test_numbers_and_identifiers_are_found(store: StoreUnderTest) -> None:
    said = "order #12345 v2.10 snake_case foo@example.com https://a.b/c?d=1"
    say(store, "s", said, "the case of the snake, example of foo")
    for query in ("12345", "#12345", "v2.10", "snake_case", "foo@example.com", "a.b/c", "123*"):
        assert found(store, query) == {said}, query
    assert found(store, "2345") == set()


@given(st.text(max_size=80) | st.text(st.sampled_from("ab \"*-()^:{}+~\\'\0日é"), max_size=30))
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_is_a_query(store: StoreUnderTest, query: str) -> None:
    if not store.exists("s"):
        say(store, "s", "a b", "日本 é", "")
    for hit in store.search(query):
        assert hit.marks


@given(
    st.text(
        st.sampled_from("ab日本éßﬁk\u0301\u200dไ 가.-🙂\0K")
        | st.characters(exclude_categories=["Cs"]),
        min_size=1,
        max_size=30,
    )
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_with_a_word_in_it_finds_itself(store: StoreUnderTest, text: str) -> None:
    say(store, "s", text)
    quoted = '"' + text.replace('"', " ") + '"'
    hits = store.search(quoted, limit=1_000)
    if tokens(quoted):
        assert text in {hit.message.content for hit in hits}


def test_nothing_is_found_that_is_gone(open_store: Open) -> None:
    with open_store() as store:
        ids = say(store, "s", "needle one", "needle two", "needle three")
        store.remove("s", ids[1])
        assert found(store, "needle") == {"needle one", "needle three"}
        store.remove_last("s")
        assert found(store, "needle") == {"needle one"}
        store.replace("s", ChatMessage.user("haystack"))
        assert found(store, "needle") == set()
        assert found(store, "haystack") == {"haystack"}
        say(store, "t", "needle t")
        store.clear("t")
        say(store, "u", "needle u")
        store.delete("u")
        assert found(store, "needle") == set()
    assert found(open_store(), "needle") == set()


def test_a_message_replaced_in_its_group_is_found_by_its_last_words(store: StoreUnderTest) -> None:
    said = requests.append("s", (ChatMessage.user("first words"),), None)
    apply_all(
        store,
        [
            said,
            requests.replace("s", ChatMessage.user("second words"), said.op_id),
            requests.replace("s", ChatMessage.user("third words"), None),
        ],
    )
    assert found(store, "words") == {"third words"}
    assert found(store, "first") == found(store, "second") == set()


def test_an_empty_message_disturbs_no_search(store: StoreUnderTest) -> None:
    say(store, "s", "", "needle", "\0\0")
    assert found(store, "needle") == {"needle"}


def test_the_limit_is_kept(store: StoreUnderTest) -> None:
    say(store, "s", *(f"needle {number}" for number in range(30)))
    assert len(store.search("needle", limit=7)) == 7
    assert len(store.search("needle", limit=100)) == 30
    assert len(store.search("needle")) == 20


def test_a_hit_is_the_whole_message(store: StoreUnderTest) -> None:
    store.append("a/b", ChatMessage("tool", "the needle", {"n": [1]}))
    (hit,) = store.search("needle")
    assert hit.key == "a/b"
    assert hit.message == store.load("a/b")[0]


def test_search_is_filtered_by_session(store: StoreUnderTest) -> None:
    say(store, "a/b", "needle")
    say(store, "a_b", "needle")
    assert [hit.key for hit in store.search("needle", SearchFilter(key="a/b"))] == ["a/b"]
    assert not store.search("needle", SearchFilter(key="nobody"))


def test_search_is_filtered_by_role(store: StoreUnderTest) -> None:
    store.append("s", ChatMessage.user("needle"), ChatMessage.assistant("needle too"))
    hits = store.search("needle", SearchFilter(role="assistant"))
    assert [hit.message.content for hit in hits] == ["needle too"]


def test_search_is_filtered_by_channel_and_sender(store: StoreUnderTest) -> None:
    for key, channel, sender in (("a", "web", "bob"), ("b", "web", "eve"), ("c", "irc", "bob")):
        say(store, key, "needle")
        store.describe(key, channel=channel, sender=sender)
    say(store, "d", "needle")

    def sessions(channel: str | None = None, sender: str | None = None) -> set[str]:
        where = SearchFilter(channel=channel, sender=sender)
        return {hit.key for hit in store.search("needle", where)}

    assert sessions(channel="web") == {"a", "b"}
    assert sessions(sender="bob") == {"a", "c"}
    assert sessions("irc", "bob") == {"c"}
    assert sessions("nowhere") == set()


def test_since_is_inclusive_and_until_exclusive(store: StoreUnderTest) -> None:
    for micros in (10, 11, 12):
        moment = from_micros(micros)
        store.append("s", ChatMessage("user", f"needle {micros}", created_at=moment))

    def between(since: int | None, until: int | None) -> set[str]:
        where = SearchFilter(
            since=None if since is None else from_micros(since),
            until=None if until is None else from_micros(until),
        )
        return {hit.message.content for hit in store.search("needle", where)}

    assert between(11, None) == {"needle 11", "needle 12"}
    assert between(None, 11) == {"needle 10"}
    assert between(11, 12) == {"needle 11"}
    assert between(13, None) == set()


def test_renaming_does_not_disturb_search(store: StoreUnderTest) -> None:
    say(store, "s", "needle")
    store.describe("s", channel="web")
    store.describe("s", channel="irc")
    assert not store.search("needle", SearchFilter(channel="web"))
    assert len(store.search("needle", SearchFilter(channel="irc"))) == 1


@pytest.mark.parametrize(
    ("content", "query", "highlighted"),
    [
        ("the quick brown fox", "quick", "the [quick] brown fox"),
        ("the quick brown fox", '"quick brown"', "the [quick brown] fox"),
        ("the quick brown fox", "fox quick", "the [quick] brown [fox]"),
        ("the quick brown fox", "qu*", "the [quick] brown fox"),
        ("Quick, QUICK!", "quick", "[Quick], [QUICK]!"),
        ("明日の天気を", "天気", "明日の[天気]を"),
        ("قال مرحبا بالعالم", "مرحبا", "قال [مرحبا] بالعالم"),
        ("הוא אמר שלום לך", "שלום", "הוא אמר [שלום] לך"),
        ("Crème brûlée", "creme", "[Crème] brûlée"),
        ("e\u0301te fini", "ete", "[e\u0301te] fini"),
        ("die Straße da", "strasse", "die [Straße] da"),
        ("a 🎉 b", "🎉", "a [🎉] b"),
        ("foo_bar", "bar", "foo_[bar]"),
        ("quick -fox", "quick -brown", "[quick] -fox"),
        ("the quick brown fox", "fox OR hen OR quick", "the [quick] brown [fox]"),
    ],
)
def test_marks_point_at_the_hits(
    store: StoreUnderTest, content: str, query: str, highlighted: str
) -> None:
    say(store, "s", content)
    (hit,) = store.search(query)
    assert hit.highlighted() == highlighted


@pytest.mark.parametrize("place", [0, 1, 50, 99, 100])
def test_a_long_message_is_shown_around_the_hit(store: StoreUnderTest, place: int) -> None:
    words = ["filler"] * 100
    words.insert(place, "needle")
    say(store, "s", " ".join(words))
    (hit,) = store.search("needle")
    assert len(hit.snippet) < 200
    assert _marked(hit) == ["needle"]


def test_a_long_unspaced_message_is_shown_around_the_hit(store: StoreUnderTest) -> None:
    say(store, "s", "文" * 5_000 + "針" + "字" * 5_000)
    (hit,) = store.search("針")
    assert len(hit.snippet) < 200
    assert _marked(hit) == ["針"]


def test_hits_of_one_session_and_many_are_all_found(store: StoreUnderTest) -> None:
    for number in range(30):
        say(store, f"s{number}", f"needle {number}", "hay", f"needle again {number}")
    assert len(found(store, "needle")) == 60
    assert contents(store, "s0") == ["needle 0", "hay", "needle again 0"]


def _marked(hit: SearchHit) -> list[str]:
    return [hit.snippet[start:end] for start, end in hit.marks]
