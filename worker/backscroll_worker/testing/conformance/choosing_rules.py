"""The history that a model gets, compared with the rules in plain Python, for any choice."""

from __future__ import annotations

from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from backscroll.contract.messages import ChatMessage
from backscroll.contract.tokens import tokens_of
from backscroll_worker.testing.stores import StoreUnderTest

_IDS = st.sampled_from("ab")
_MESSAGES = st.builds(
    ChatMessage,
    st.sampled_from(["user", "tool"]),
    st.sampled_from(["", "x" * 7, "y" * 40]),
    st.one_of(
        st.none(),
        st.builds(lambda id_: {"tool_calls": [{"id": id_}]}, _IDS),
        st.builds(lambda id_: {"tool_call_id": id_}, _IDS),
        st.builds(lambda id_: {"blocks": [{"type": "tool_use", "id": id_}]}, _IDS),
        st.builds(lambda id_: {"blocks": [{"type": "tool_result", "tool_use_id": id_}]}, _IDS),
    ),
    author=st.sampled_from([None, "ann"]),
    tokens=st.sampled_from([None, 0, 5]),
)


_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "limit": st.integers(1, 6),
        "role": st.just("user"),
        "author": st.just("ann"),
        "max_tokens": st.integers(1, 40),
        "legal": st.just(True),
        "oldest": st.just(True),
    },
)


def test_what_is_chosen_is_as_the_rules_say(store: StoreUnderTest) -> None:
    keys = map(str, count())

    @given(st.lists(_MESSAGES, max_size=12), _OPTIONS, st.integers(-1, 11), st.integers(-1, 11))
    @settings(max_examples=100, deadline=None)
    def check(said: list[ChatMessage], options: dict[str, Any], before: int, after: int) -> None:
        key = next(keys)
        if said:
            store.append(key, *said)
        everything = list(store.load(key))
        places = {"before": before, "after": after}
        given = {name: place for name, place in places.items() if 0 <= place < len(said)}
        ids: dict[str, Any] = {name: everything[place].message_id for name, place in given.items()}
        expected = _expected(everything, given, **options)
        assert store.load(key, **ids, **options) == expected
        if "max_tokens" in options:
            assert store.load(key, **ids, **options, count_tokens=tokens_of) == expected

    check()


def _expected(
    everything: list[ChatMessage],
    given: dict[str, int],
    limit: int = 99,
    role: str | None = None,
    author: str | None = None,
    max_tokens: int | None = None,
    legal: bool = False,
    oldest: bool = False,
) -> list[ChatMessage]:
    """The rules in plain Python, over the whole session."""
    is_forward = oldest or "after" in given
    found = everything[given.get("after", -1) + 1 : given.get("before")]
    found = [each for each in found if role in (None, each.role) and author in (None, each.author)]
    if not is_forward:
        found.reverse()
    found = found[:limit]
    while max_tokens is not None and sum(map(tokens_of, found)) > max_tokens:
        found.pop()
    if not is_forward:
        found.reverse()
    kept: list[ChatMessage] = []
    called: set[str] = set()
    for message in found:
        (block,) = (message.extra or {}).get("blocks", [{}])
        (call,) = (message.extra or {}).get("tool_calls", [{}])
        answered = (message.extra or {}).get("tool_call_id") or block.get("tool_use_id")
        if not legal or answered is None or answered in called:
            kept.append(message)
            called.update(filter(None, (call.get("id"), block.get("id"))))
    return kept
