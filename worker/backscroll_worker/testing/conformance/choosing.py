"""What every store promises of the history that a model gets: chosen by filter, tokens, calls."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from backscroll.contract.errors import InvalidInputError, OperationRefusedError
from backscroll.contract.filters import SearchFilter
from backscroll.contract.messages import ChatMessage, from_micros
from backscroll.contract.tokens import tokens_of
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    requests,
    say,
)

CALL = ChatMessage.assistant("", tool_calls=[{"id": "c1", "function": {"name": "sum"}}])
RESULT = ChatMessage.tool("3", tool_call_id="c1")
BLOCKS: list[Any] = [{"type": "text", "text": ""}, {"type": "tool_use", "id": "u1"}]
USE = ChatMessage.assistant("", extra={"content": BLOCKS})
USED = ChatMessage.user("", blocks=[{"type": "tool_result", "tool_use_id": "u1"}])


def texts(messages: Sequence[ChatMessage]) -> str:
    return "".join(message.content for message in messages)


def _given(name: str, value: object) -> dict[str, Any]:
    return {name: value}


def test_paging_forward_gives_each_message_once(store: StoreUnderTest) -> None:
    ids = say(store, "s", *"abcdefgh")
    pages, after = [], ids[0]
    while page := store.load("s", 3, after=after):
        pages.append(texts(page))
        after = page[-1].message_id or ""
    assert pages == ["bcd", "efg", "h"]
    assert texts(store.load("s", after=ids[5])) == "gh"
    assert store.load("nobody", after=ids[5]) == []


def test_the_messages_between_two_are_loaded(store: StoreUnderTest) -> None:
    ids = say(store, "s", *"abcdefgh")
    assert texts(store.load("s", after=ids[1], before=ids[5])) == "cde"
    assert texts(store.load("s", 2, after=ids[1], before=ids[5])) == "cd"
    assert store.load("s", after=ids[5], before=ids[1]) == []


def test_the_oldest_messages_are_loaded_in_their_order(store: StoreUnderTest) -> None:
    ids = say(store, "s", *"abcdefgh")
    assert texts(store.load("s", 3, oldest=True)) == "abc"
    assert texts(store.load("s", oldest=True)) == "abcdefgh"
    assert texts(store.load("s", 3, oldest=True, before=ids[2])) == "ab"
    assert texts(store.load("s", 2, oldest=True, after=ids[2])) == "de"
    store.remove("s", ids[0])
    assert texts(store.load("s", 2, oldest=True)) == "bc"
    assert store.load("nobody", 2, oldest=True) == []
    for other in ({"active": True}, {"around": ids[3]}):
        with pytest.raises(InvalidInputError, match="cannot be given together with oldest"):
            store.load("s", oldest=True, **other)


@pytest.mark.parametrize("argument", ["before", "after"])
def test_a_place_that_is_not_in_the_session_is_refused(
    store: StoreUnderTest, argument: str
) -> None:
    (elsewhere,) = say(store, "another", "x")
    ids = say(store, "s", "a", "b")
    store.remove("s", ids[0])
    for place in (elsewhere, ids[0], "unknown"):
        with pytest.raises(OperationRefusedError, match=f"{argument}: the session has no message"):
            store.load("s", legal=True, **_given(argument, place))
    with pytest.raises(OperationRefusedError, match="before: the session has no message"):
        store.load("s", after=ids[1], before=elsewhere)


def test_only_messages_that_pass_the_filter_count(store: StoreUnderTest, clock: Clock) -> None:
    start = from_micros(clock.now)
    ids = []
    for number, text in enumerate("abcdefgh"):
        role, author = ("user", "assistant")[number % 2], ("ann", None, "bob", None)[number % 4]
        at = start + timedelta(hours=number)
        ids += store.append("s", ChatMessage(role, text, author=author, created_at=at))
    assert texts(store.load("s", role="user")) == "aceg"
    assert texts(store.load("s", 2, role="user")) == "eg"
    assert texts(store.load("s", 2, ids[6], role="user")) == "ce"
    assert texts(store.load("s", author="bob")) == "cg"
    assert texts(store.load("s", 1, author="ann")) == "e"
    assert texts(store.load("s", 1, author="bob", after=ids[0])) == "c"
    since, until = start + timedelta(hours=2), start + timedelta(hours=5)
    assert texts(store.load("s", since=since, until=until)) == "cde"
    assert texts(store.load("s", 2, since=since, role="assistant")) == "fh"
    assert texts(store.load("s", 2, since=since, role="assistant", after=ids[0])) == "df"
    assert store.load("s", author="ann", role="assistant") == []


def test_the_newest_messages_within_so_many_tokens_are_loaded(store: StoreUnderTest) -> None:
    ids = []
    for text, tokens in (("a", 5), ("b", 30), ("c", 10), ("d", 0), ("e", 20)):
        ids += store.append("s", ChatMessage.user(text, tokens=tokens))
    expected = {1: "", 19: "", 20: "de", 29: "de", 30: "cde", 60: "bcde", 64: "bcde", 65: "abcde"}
    for max_tokens, content in expected.items():
        assert texts(store.load("s", max_tokens=max_tokens)) == content
    assert texts(store.load("s", 2, max_tokens=100)) == "de"
    assert texts(store.load("s", before=ids[3], max_tokens=40)) == "bc"
    assert texts(store.load("s", after=ids[0], max_tokens=40)) == "bcd"
    assert texts(store.load("s", after=ids[0], before=ids[2], max_tokens=99)) == "b"


def test_a_count_that_nobody_gave_is_estimated_from_the_bytes(store: StoreUnderTest) -> None:
    store.append(
        "s", ChatMessage.user("x" * 9), ChatMessage.user("é" * 4, n=1), ChatMessage.user("")
    )
    assert [tokens_of(message) for message in store.load("s")] == [3, 4, 0]
    assert len(store.load("s", max_tokens=7)) == 3
    assert len(store.load("s", max_tokens=6)) == 2


def test_an_adapter_counts_what_has_no_count(store: StoreUnderTest) -> None:
    ids = []
    for number in range(100):
        tokens = 3 if number == 99 else None
        ids += store.append("s", ChatMessage.user(f"{number} ", tokens=tokens))
    counted: list[str] = []

    def count(message: ChatMessage) -> int:
        counted.append(message.content)
        return 2

    loaded = store.load("s", max_tokens=100, count_tokens=count)
    assert [message.message_id for message in loaded] == ids[51:]
    assert len(counted) == len(set(counted)) < 70
    assert "99 " not in counted
    assert len(store.load("s", 30, max_tokens=100, count_tokens=count)) == 30
    assert len(store.load("s", max_tokens=1_000, count_tokens=count)) == 100
    assert store.load("s", max_tokens=2, count_tokens=count) == []
    forward = store.load("s", after=ids[9], max_tokens=100, count_tokens=count)
    assert [message.message_id for message in forward] == ids[10:60]


def test_what_an_adapter_counts_is_legal_too(store: StoreUnderTest) -> None:
    say(store, "s", *"abc")
    store.append("s", CALL, RESULT, ChatMessage.user("d"))
    loaded = store.load("s", max_tokens=2, legal=True, count_tokens=lambda _: 1)
    assert texts(loaded) == "d"
    assert texts(store.load("s", max_tokens=4, legal=True, count_tokens=lambda _: 1)) == "c3d"


@pytest.mark.parametrize("count", [-1, 1.5, None, True])
def test_a_count_that_is_not_one_is_refused(store: StoreUnderTest, count: Any) -> None:
    say(store, "s", "a")
    with pytest.raises(InvalidInputError, match="count_tokens"):
        store.load("s", max_tokens=5, count_tokens=lambda _: count)
    with pytest.raises(InvalidInputError, match="count_tokens: needs max_tokens"):
        store.load("s", count_tokens=lambda _: 1)
    with pytest.raises(InvalidInputError, match="count_tokens"):
        store.load("s", max_tokens=5, count_tokens="len")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "result"), [(CALL, RESULT), (USE, USED)], ids=["openai", "blocks"]
)
def test_no_result_comes_without_its_call(
    store: StoreUnderTest, call: ChatMessage, result: ChatMessage
) -> None:
    first, called, answered, last = store.append(
        "s", ChatMessage.user("a"), call, result, ChatMessage.assistant("b")
    )
    for limit, expected in ((1, [last]), (2, [last]), (3, [called, answered, last])):
        loaded = store.load("s", limit, legal=True)
        assert [message.message_id for message in loaded] == expected
        assert loaded.open_calls == ()
    assert [each.message_id for each in store.load("s", 2)] == [answered, last]
    after = store.load("s", after=called, legal=True)
    assert [message.message_id for message in after] == [last]
    store.remove("s", called)
    assert [each.message_id for each in store.load("s", legal=True)] == [first, last]


def test_calls_without_a_result_are_reported(store: StoreUnderTest) -> None:
    two = ChatMessage.assistant("", tool_calls=[{"id": "c1"}, {"id": "c2"}])
    store.append("s", two, RESULT, CALL, USE, ChatMessage.user("and?"))
    assert store.load("s").open_calls == ("c2", "c1", "u1")
    assert store.load("s", 4, legal=True).open_calls == ("c1", "u1")
    store.append("s", USED, RESULT)
    assert store.load("s", legal=True).open_calls == ("c2",)
    assert store.load("nobody").open_calls == ()


def test_tokens_come_before_calls_so_that_the_sum_stays_below(store: StoreUnderTest) -> None:
    said = [ChatMessage.user("a", tokens=10), CALL, RESULT, ChatMessage.assistant("b", tokens=10)]
    store.append("s", *said)
    cost = 10 + tokens_of(RESULT)
    assert texts(store.load("s", max_tokens=cost)) == "3b"
    assert texts(store.load("s", max_tokens=cost, legal=True)) == "b"
    assert texts(store.load("s", max_tokens=cost + tokens_of(CALL), legal=True)) == "3b"


def test_the_active_history_begins_with_the_newest_summary(open_store: Open) -> None:
    with open_store() as store:
        ids = say(store, "s", *"abcd")
        assert texts(store.load("s", active=True)) == "abcd"
        store.append("s", ChatMessage.summary("A", upto=ids[0]))
        assert texts(store.load("s", active=True)) == "Abcd"
        ids += say(store, "s", *"ef")
        (second,) = store.append("s", ChatMessage.summary("D", upto=ids[3], role="user"))
        ids += say(store, "s", *"gh")
    store = open_store()
    active = store.load("s", active=True)
    assert texts(active) == "Defgh"
    assert active[0].upto == ids[3]
    assert texts(store.load("s", 3, active=True)) == "Dgh"
    assert texts(store.load("s", 1, active=True)) == "D"
    assert texts(store.load("s", before=ids[6], active=True)) == "Def"
    assert texts(store.load("s", before=second, active=True)) == "Abcdef"
    assert texts(store.load("s")) == "abcdAefDgh"
    store.append("s", ChatMessage.summary("E", upto=ids[3]))
    assert texts(store.load("s", 4, active=True)) == "Efgh"  # other summaries do not count
    assert store.load("nobody", active=True) == []


def test_a_choice_in_a_group_sees_the_writes_before_it(store: StoreUnderTest) -> None:
    append = requests.append("s", (CALL, ChatMessage.user("a")))
    summary = ChatMessage.summary("S", upto=append.message_ids[0])
    answers: list[Any] = store.apply(
        [
            append,
            requests.load("s", legal=True),
            requests.append("s", (summary, RESULT)),
            requests.load("s", active=True),
            requests.load("s", 1, after=append.op_id),
            requests.rollback("s", append.op_id),
            requests.load("s", legal=True, max_tokens=9),
        ]
    )
    seen = [texts(answers[index]) for index in (1, 3, 4, 6)]
    assert seen == ["a", "Sa3", "a", "aS"]


@pytest.mark.needs("search")
def test_what_a_summary_stands_for_stays_where_it_is(store: StoreUnderTest) -> None:
    ids = say(store, "s", "apple", "pear")
    store.append("s", ChatMessage.summary("fruit", upto=ids[1]))
    assert [message.content for message in store.load("s", active=True)] == ["fruit"]
    assert [hit.message.message_id for hit in store.search("apple")] == [ids[0]]
    assert [message.content for message in store.stream("s")] == ["apple", "pear", "fruit"]


def test_a_summary_counts_first_of_all(store: StoreUnderTest) -> None:
    ids = [store.append("s", ChatMessage.user(text, tokens=10))[0] for text in "abcd"]
    store.append("s", ChatMessage.summary("S" * 20, upto=ids[1]))  # 5 tokens
    expected = {4: "", 5: "S" * 20, 14: "S" * 20, 15: "S" * 20 + "d", 25: "S" * 20 + "cd"}
    for max_tokens, content in expected.items():
        assert texts(store.load("s", active=True, max_tokens=max_tokens)) == content
        counted = store.load("s", active=True, max_tokens=max_tokens, count_tokens=lambda _: 5)
        assert texts(counted) == content
    store.append("s", ChatMessage.summary("T", upto=ids[1], tokens=6))
    assert texts(store.load("s", active=True, max_tokens=15)) == "T"


def test_an_active_history_is_legal_where_the_summary_ends_between_call_and_result(
    store: StoreUnderTest,
) -> None:
    (called,) = store.append("s", CALL)
    store.append("s", RESULT, ChatMessage.user("a"), ChatMessage.summary("S", upto=called))
    assert texts(store.load("s", active=True)) == "S3a"
    assert texts(store.load("s", active=True, legal=True)) == "Sa"


def test_a_summary_holds_though_the_message_where_it_ends_is_gone(store: StoreUnderTest) -> None:
    ids = say(store, "s", *"abcd")
    store.append("s", ChatMessage.summary("S", upto=ids[1]))
    ids += say(store, "s", "e")
    store.remove("s", ids[1])
    assert texts(store.load("s", active=True)) == "Scde"
    assert texts(store.load("s", 2, active=True)) == "Se"
    store.append("s", ChatMessage.summary("T", upto="of another program"))
    say(store, "s", "f")
    assert texts(store.load("s", active=True)) == "Tf"


@pytest.mark.parametrize("forked", [False, True])
def test_a_summary_holds_for_what_was_sent_together(store: StoreUnderTest, forked: bool) -> None:
    ids = say(store, "s", *"ab") if forked else store.append("s", *map(ChatMessage.user, "ab"))
    store.append("s", ChatMessage.summary("S", upto=ids[0]))
    key = "fork" if forked else "s"
    if forked:
        store.fork("s", key)
    first, *_ = store.load(key)
    assert first.message_id
    store.remove(key, first.message_id)
    assert texts(store.load(key, active=True)) == "Sb"


@pytest.mark.needs("edits")
def test_earlier_versions_come_with_what_was_chosen(open_keeping: Open) -> None:
    store = open_keeping()
    ids = say(store, "s", *"abc")
    (summary,) = store.append("s", ChatMessage.summary("S", upto=ids[0]))
    for id_ in (ids[1], summary):
        store.replace("s", ChatMessage.user("new"), id_)
    options: dict[str, Any]
    for options in ({"active": True}, {"legal": True}, {"after": ids[0]}, {"max_tokens": 9}):
        loaded = store.load("s", include_edits=True, **options)
        edited = {each.message_id: each.edits[0].content for each in loaded if each.edits}
        assert edited == {ids[1]: "b", summary: "S"}
        assert not any(each.edits for each in store.load("s", **options))


def test_tokens_are_added_up_by_session_author_and_role(
    store: StoreUnderTest, clock: Clock
) -> None:
    say(store, "uncounted", "x")
    at = from_micros(clock.now)
    for key in ("s", "t"):
        store.append(
            key,
            ChatMessage.user("a", author="ann", tokens=1),
            ChatMessage.user("b", author="bob", tokens=20, created_at=at),
            ChatMessage.user("c", author="bob"),
            ChatMessage.assistant("d", tokens=300),
        )
    store.describe("t", channel="slack")
    for used in (store.usage(key="s"), store.usage(channel="slack")):
        assert (used.messages, used.uncounted, used.tokens) == (4, 1, 321)
        assert used.by_author == {"ann": 1, "bob": 20}
        assert used.by_role == {"user": 21, "assistant": 300}
    assert (store.usage().messages, store.usage().tokens) == (9, 642)
    assert store.usage(author="bob").by_role == {"user": 40}
    assert store.usage(author="bob", key="s", until=at).tokens == 0
    assert store.usage(author="bob", key="s", since=at, role="user").tokens == 20
    assert store.usage(SearchFilter(role="user"), key="s").tokens == 21
    nothing = store.usage(key="nobody")
    assert (nothing.messages, nothing.tokens, nothing.by_author) == (0, 0, {})
    store.delete("t")
    assert store.usage(author="ann").tokens == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"around": "m", "after": "n"}, "around"),
        ({"around": "m", "legal": True}, "around"),
        ({"around": "m", "role": "user"}, "around"),
        ({"around": "m", "max_tokens": 9}, "around"),
        ({"around": "m", "active": True}, "around"),
        ({"active": True, "after": "m"}, "active"),
        ({"active": True, "author": "ann"}, "active"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"legal": 1}, "legal"),
        ({"role": ""}, "role"),
        ({"since": "yesterday"}, "since"),
    ],
)
def test_what_does_not_go_together_is_refused(
    store: StoreUnderTest, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidInputError) as raised:
        store.load("s", **options)
    assert raised.value.field == named
