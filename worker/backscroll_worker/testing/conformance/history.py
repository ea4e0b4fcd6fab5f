"""What every store promises of a session's messages: kept as they came, and read back in pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.filters import SearchFilter
from backscroll.contract.messages import ChatMessage, from_micros
from backscroll.contract.operations import Append, Describe
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    contents,
    found,
    keys,
    requests,
    say,
)


def test_what_is_appended_is_loaded_in_order(store: StoreUnderTest) -> None:
    store.append("telegram_user123", ChatMessage.user("hello"))
    store.append("telegram_user123", ChatMessage.assistant("hi there"))
    messages = store.load("telegram_user123")
    assert [(message.role, message.content) for message in messages] == [
        ("user", "hello"),
        ("assistant", "hi there"),
    ]


def test_an_unknown_session_is_empty_and_does_not_exist(store: StoreUnderTest) -> None:
    assert store.load("nobody") == []
    assert store.session("nobody") is None
    assert not store.exists("nobody")


def test_a_session_exists_from_its_first_message(store: StoreUnderTest) -> None:
    say(store, "s", "hello")
    assert store.exists("s")


def test_messages_come_back_with_their_id_and_time(store: StoreUnderTest) -> None:
    operation = requests.append("s", (ChatMessage.user("hello"),), None)
    apply_all(store, [operation])
    assert store.load("s") == list(operation.stamped())
    assert store.load("s")[0].message_id == operation.op_id


def test_the_time_an_adapter_gave_is_kept_to_the_microsecond(store: StoreUnderTest) -> None:
    moment = datetime(1999, 12, 31, 23, 59, 59, 123457, timezone(timedelta(hours=9)))
    store.append("s", ChatMessage("user", "late", created_at=moment))
    assert store.load("s")[0].created_at == moment


@pytest.mark.parametrize("moment", [datetime(1970, 1, 1, tzinfo=UTC), from_micros(10**15)])
def test_any_time_from_1970_on_is_kept(store: StoreUnderTest, moment: datetime) -> None:
    store.append("s", ChatMessage("user", "then", created_at=moment))
    assert store.load("s")[0].created_at == moment


@pytest.mark.parametrize(
    "content",
    [
        "",
        " ",
        "nul \0 inside",
        "\0",
        "line\nline\r\nline\rline",
        "line\u2028paragraph\u2029next\x85line",
        "👩‍👩‍👧‍👦 🇯🇵 e\u0301 é",
        '{"role":"system","content":"not me"}',
        '"quoted" \\ back\\slash \\u0000',
        "\ufeff\u200b\u202e",
        "日本語ภาษาไทย한국어",
        "x" * 1_000_000,
    ],
    ids=lambda content: repr(content[:12]),
)
def test_any_content_comes_back_unchanged(open_store: Open, content: str) -> None:
    with open_store() as store:
        store.append("s", ChatMessage.user(content))
        store.append("s", ChatMessage.user("next"))
        assert contents(store, "s") == [content, "next"]
    assert contents(open_store(), "s") == [content, "next"]


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"role": "system", "content": "x", "message_id": "y", "created_at": 1, "part": [0, 2]},
        {"applied": [["a", 1, 2]]},
        {"deep": [{"a": [None, True, 1.5, -(2**63), 2**64 - 1, "\0\u2028"]}], "": ""},
        {"calls": [{"name": "查询", "arguments": '{"q":"🙂"}'}]},
    ],
    ids=str,
)
def test_extra_comes_back_unchanged(open_store: Open, extra: dict[str, Any]) -> None:
    with open_store() as store:
        store.append("s", ChatMessage("tool", "result", extra), ChatMessage.user("plain"))
        say(store, "s", "last")
        store.remove_last("s")
    messages = open_store().load("s")
    assert [message.extra for message in messages] == [extra, None]


def test_any_role_is_kept(store: StoreUnderTest) -> None:
    store.append("s", *(ChatMessage(role, "x") for role in ("developer", "役割", "a b")))
    assert [message.role for message in store.load("s")] == ["developer", "役割", "a b"]


def test_messages_of_one_append_stay_together_and_in_order(store: StoreUnderTest) -> None:
    ids = store.append("s", *(ChatMessage.user(str(number)) for number in range(12)))
    assert contents(store, "s") == [str(number) for number in range(12)]
    assert [message.message_id for message in store.load("s")] == ids


def test_an_append_that_cannot_be_stored_leaves_none_of_its_messages(
    store: StoreUnderTest,
) -> None:
    good = requests.append("s", (ChatMessage.user("one"), ChatMessage.user("two")), None)
    bad = Append("bad", good.at, "s", (good.messages[0], ChatMessage.user("x", no=object())))
    (refusal,) = store.apply([bad])
    assert isinstance(refusal, OperationRefusedError)
    assert not store.exists("s")


@pytest.mark.needs("search")
def test_a_refused_operation_harms_no_neighbour(open_store: Open) -> None:
    with open_store() as store:
        one, two = (requests.append("s", (ChatMessage.user(text),), None) for text in "ab")
        bad = Append("bad", 0, "s", (ChatMessage.user("x", no=object()),))
        lost = requests.load("s", None, "no-such-id")
        answers = store.apply([one, bad, lost, two])
        assert [isinstance(answer, OperationRefusedError) for answer in answers] == [
            False,
            True,
            True,
            False,
        ]
        assert contents(store, "s") == ["a", "b"]
    store = open_store()
    assert contents(store, "s") == ["a", "b"]
    assert found(store, "a") == {"a"}
    assert store.verify() == []


class _Unreadable(Mapping[str, str | bool | None]):
    """Attributes that raise what nobody foresees."""

    def __getitem__(self, name: str) -> str:
        raise RuntimeError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(["name"])

    def __len__(self) -> int:
        return 1


def test_an_operation_that_fails_unexpectedly_affects_no_other(
    store: StoreUnderTest,
) -> None:
    one, two = (requests.append("s", (ChatMessage.user(text),), None) for text in "ab")
    answers = store.apply([one, Describe("bad", one.at, "odd", _Unreadable()), two])
    assert [isinstance(answer, OperationRefusedError) for answer in answers] == [False, True, False]
    assert contents(store, "s") == ["a", "b"]
    assert not store.exists("odd")


class _Breaking(Mapping[str, str | bool | None]):
    """Attributes that can be read so many times (as when they are checked), and then raise."""

    def __init__(self, reads: int) -> None:
        self._reads = reads

    def __getitem__(self, name: str) -> str:
        self._reads -= 1
        if self._reads < 0:
            raise RuntimeError(name)
        return "a name"

    def __iter__(self) -> Iterator[str]:
        return iter(["name"])

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize("reads", [0, 1, 2])
def test_an_operation_that_fails_half_way_is_written_whole_or_not_at_all(
    open_store: Open, reads: int
) -> None:
    store = open_store()
    one, two = (requests.append("s", (ChatMessage.user(text),), None) for text in "ab")
    message = ChatMessage("user", "c", message_id="m1", created_at=from_micros(one.at))
    bad = ImportSession("bad", one.at, "odd", (message,), _Breaking(reads), one.at, one.at)
    answers = store.apply([one, bad, two])
    is_refused = isinstance(answers[1], OperationRefusedError)
    assert is_refused or reads > 0
    store.close()
    store = open_store()
    assert contents(store, "s") == ["a", "b"]
    assert store.exists("odd") is not is_refused
    assert contents(store, "odd") == ([] if is_refused else ["c"])
    assert [outcome.duplicate for outcome in apply_all(store, [one, two])] == [True, True]


def test_load_gives_the_newest_in_order(store: StoreUnderTest) -> None:
    say(store, "s", *"abcdef")
    assert [message.content for message in store.load("s", limit=2)] == ["e", "f"]
    assert [message.content for message in store.load("s", limit=99)] == list("abcdef")


def test_load_pages_back_to_the_beginning(store: StoreUnderTest) -> None:
    say(store, "s", *"abcdefg")
    pages, before = [], None
    while page := store.load("s", limit=3, before=before):
        pages.append("".join(message.content for message in page))
        before = page[0].message_id
    assert pages == ["efg", "bcd", "a"]


def test_load_before_without_a_limit_gives_all_earlier_ones(store: StoreUnderTest) -> None:
    ids = say(store, "s", *"abcd")
    assert [message.content for message in store.load("s", before=ids[2])] == ["a", "b"]
    assert store.load("s", before=ids[0]) == []


def test_load_before_an_unknown_message_is_refused(store: StoreUnderTest) -> None:
    say(store, "s", "a")
    (other,) = say(store, "other", "b")
    for message_id in ("no-such-id", other):
        with pytest.raises(OperationRefusedError, match="before: the session has no message"):
            store.load("s", before=message_id)


def test_load_before_a_message_rolled_back_is_refused(store: StoreUnderTest) -> None:
    ids = say(store, "s", "a", "b")
    store.remove_last("s")
    with pytest.raises(OperationRefusedError, match="may be rolled back"):
        store.load("s", before=ids[1])


def test_reads_in_a_group_see_the_writes_before_them_and_none_after(
    store: StoreUnderTest,
) -> None:
    one, two, three = (requests.append("s", (ChatMessage.user(t),), None) for t in "abc")
    load = [requests.load("s", None, None) for _ in range(6)]
    answers: list[Any] = store.apply(
        [
            load[0],
            one,
            load[1],
            two,
            requests.rollback("s", one.op_id),
            load[2],
            requests.replace("s", ChatMessage.user("B"), two.op_id),
            three,
            load[3],
            requests.clear("s"),
            load[4],
            requests.append("s", (ChatMessage.user("d"),), None),
            load[5],
        ]
    )
    seen = ["".join(m.content for m in answers[index]) for index in (0, 2, 5, 8, 10, 12)]
    assert seen == ["", "a", "b", "Bc", "", "d"]


@pytest.mark.needs("search")
def test_every_kind_of_read_in_a_group_sees_the_writes_before_it(store: StoreUnderTest) -> None:
    answers: list[Any] = store.apply(
        [
            requests.append("s", (ChatMessage.user("apple"), ChatMessage.user("pear")), None),
            requests.describe("s", {"agent": "helper"}),
            requests.session("s"),
            requests.sessions({"agent": "helper"}, 10, None),
            requests.search("apple", SearchFilter(), 10),
            requests.rename_agent("helper", "other"),
            requests.sessions({"agent": "other"}, 10, None),
            requests.delete("s"),
            requests.session("s"),
            requests.sessions({}, 10, None),
            requests.search("apple", SearchFilter(), 10),
        ]
    )
    assert answers[2].message_count == 2
    assert [info.key for info in answers[3].sessions] == ["s"]
    assert [hit.key for hit in answers[4]] == ["s"]
    assert [info.agent for info in answers[6].sessions] == ["other"]
    assert answers[8] is None
    assert answers[9].sessions == ()
    assert answers[10].hits == ()


def test_a_group_over_many_sessions_is_stored_whole(open_store: Open) -> None:
    names = [f"session-{number}" for number in range(150)]
    with open_store() as store:
        apply_all(
            store,
            [
                requests.append(key, (ChatMessage.user(f"{key} {turn}"),), None)
                for turn in range(3)
                for key in names
            ],
        )
    store = open_store()
    assert keys(store) == set(names)
    for key in names:
        assert contents(store, key) == [f"{key} {turn}" for turn in range(3)]


@pytest.mark.needs("search")
def test_a_store_opened_again_has_everything(open_store: Open) -> None:
    with open_store() as store:
        store.append("s", ChatMessage.user("a", n=1), ChatMessage.assistant("b"))
        store.describe("s", name="Chat", state="running", turn_id="t1", pinned=True)
        messages, info, page = store.load("s"), store.session("s"), store.sessions()
    store = open_store()
    assert (store.load("s"), store.session("s"), store.sessions()) == (messages, info, page)
    assert found(store, "a") == {"a"}


@pytest.mark.needs("search")
def test_an_imported_session_keeps_its_times_and_attributes(open_store: Open) -> None:
    with open_store() as store:
        operation = _import("s", "a", "b")
        assert apply_all(store, [operation])[0].affected == 2
    store = open_store()
    assert store.load("s") == list(operation.messages)
    info = store.session("s")
    assert info is not None
    assert (info.created_at, info.last_activity) == (from_micros(1_000), from_micros(2_000))
    assert (info.name, info.pinned, info.message_count) == ("Imported", True, 2)
    assert found(store, "b") == {"b"}
    assert store.verify() == []


def test_an_import_into_a_session_with_messages_is_refused(store: StoreUnderTest) -> None:
    say(store, "s", "mine")
    (refusal,) = store.apply([_import("s", "a")])
    assert isinstance(refusal, OperationRefusedError)
    assert contents(store, "s") == ["mine"]


def test_an_import_is_applied_once(open_store: Open) -> None:
    operation = _import("s", "a", "b")
    with open_store() as store:
        apply_all(store, [operation])
        assert apply_all(store, [operation])[0].duplicate
    store = open_store()
    assert apply_all(store, [operation])[0].duplicate
    store.clear("s")
    assert apply_all(store, [operation])[0].duplicate
    assert contents(store, "s") == []


def test_an_imported_session_goes_on_like_any_other(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        operation = _import("s", "a", "b")
        apply_all(store, [operation])
        assert store.remove("s", operation.messages[0].message_id or "")
        say(store, "s", "c")
    store = open_store()
    assert contents(store, "s") == ["b", "c"]
    info = store.session("s")
    assert info is not None
    assert (info.created_at, info.last_activity) == (from_micros(1_000), from_micros(clock.now))


def test_an_import_that_is_deleted_at_once_changes_no_other_session(store: StoreUnderTest) -> None:
    described = requests.describe("new", {"name": "New"})
    apply_all(store, [_import("old", "a"), requests.delete("old"), described])
    info = store.session("new")
    assert info is not None
    assert info.message_count == 0
    assert info.created_at == info.last_activity > from_micros(2_000)
    assert store.verify() == []


def _import(key: str, *texts: str) -> ImportSession:
    said = requests.append(key, tuple(ChatMessage.user(text) for text in texts), None)
    attributes: dict[str, str | bool | None] = {"name": "Imported", "pinned": True}
    return ImportSession("import", said.at, key, said.stamped(), attributes, 1_000, 2_000)
