"""An export, taken into another store, makes it the same; and a second time changes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings

from backscroll.contract.ids import new_op_id
from backscroll.contract.messages import ChatMessage, SessionPage, from_micros
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.testing.stores import Clock, StoreUnderTest, apply_all, open_tested, requests
from backscroll_worker.transfer import store as intake
from backscroll_worker.transfer.chats.conversation import Options
from backscroll_worker.transfer.import_files import import_files
from backscroll_worker.transfer.sessions import Wanted, find
from backscroll_worker.transfer.source import Advance, Total
from tests.transfer.sessions import everything, export, fill, several, take

KINDS = ("sqlite", "jsonl")


@pytest.mark.parametrize(("kind", "other"), [(a, b) for a in KINDS for b in KINDS])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations=several)
def test_whatever_a_store_holds_comes_back_exactly(
    kind: str, other: str, operations: list[ImportSession]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        first, second = f"{kind}://{name}/a", f"{other}://{name}/b"
        fill(first, operations)
        content = export(first, "jsonl")
        report = take(second, Path(name) / "x", content)
        assert (report.sessions, report.refused, report.left_out) == (len(operations), [], [])
        assert everything(second) == everything(first)
        assert export(second, "jsonl") == content
        again = take(second, Path(name) / "x", content)
        assert (again.sessions, again.known, again.refused) == (0, len(operations), [])
        assert export(second, "jsonl") == content


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}://{tmp_path / 'store'}"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with sessions that went through everything."""
    url = f"sqlite://{tmp_path_factory.mktemp('source') / 'source.db'}"
    clock = Clock()
    with open_tested(url, keep_edits=True, clock=clock) as backend:
        for number in range(20):
            key, clock.now = f"chat {number:02}", clock.now + 1
            said = tuple(ChatMessage.user(f"{turn} of {key}") for turn in range(5))
            attributes: dict[str, Any] = {"name": key.upper(), "channel": f"c{number % 2}"}
            attributes |= {"pinned": number == 3, "ttl_hours": float(number) or None}
            apply_all(
                backend,
                [
                    requests.append(key, said, None),
                    requests.replace(key, ChatMessage.assistant("changed", by="me"), None),
                    requests.describe(key, attributes),
                ],
            )
    return url


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path / 'store.db'}"


def test_a_filled_store_keeps_what_it_has_and_gets_the_rest(
    source: str, store: str, tmp_path: Path
) -> None:
    with open_tested(store) as backend:
        backend.append("mine", ChatMessage.user("mine"))
        backend.append("chat 05", ChatMessage.user("another history"))
    report = take(store, tmp_path / "x", export(source, "jsonl"))
    assert (report.sessions, report.known, len(report.refused)) == (19, 0, 1)
    assert "x:37: the store has a session 'chat 05' with another history" in report.refused[0]
    expected, got = everything(source), everything(store)
    del expected["chat 05"]
    assert expected.items() <= got.items()
    assert [message.content for message in got["chat 05"][1]] == ["another history"]


def test_into_the_store_it_came_from_nothing_changes(source: str, tmp_path: Path) -> None:
    before = export(source, "jsonl")
    report = take(source, tmp_path / "x", before)
    assert (report.sessions, report.known, report.refused) == (0, 20, [])
    assert export(source, "jsonl") == before


def test_a_session_that_went_on_since_is_known(source: str, store: str, tmp_path: Path) -> None:
    content = export(source, "jsonl")
    take(store, tmp_path / "x", content)
    with open_tested(store) as backend:
        backend.append("chat 07", ChatMessage.user("more"))
        finish(backend.compact(0))  # forgets the op ids
    assert take(store, tmp_path / "x", content).known == 20
    assert everything(store)["chat 07"][1][-1].content == "more"


def test_a_session_that_was_deleted_since_comes_back(
    source: str, store: str, tmp_path: Path
) -> None:
    content = export(source, "jsonl")
    take(store, tmp_path / "x", content)
    with open_tested(store) as backend:
        backend.delete("chat 07")
    report = take(store, tmp_path / "x", content)
    assert (report.sessions, report.known) == (1, 19)
    assert everything(store) == everything(source)


def test_what_was_erased_since_does_not_come_back(source: str, store: str, tmp_path: Path) -> None:
    content = export(source, "jsonl")
    take(store, tmp_path / "x", content)
    with open_tested(store) as backend:
        finish(backend.erase(key="chat 07"))
    report = take(store, tmp_path / "x", content)
    assert (report.known, len(report.refused)) == (19, 1)
    assert "was erased" in report.refused[0]
    assert "chat 07" not in everything(store)


def test_what_an_erased_author_said_does_not_come_back(store: str, tmp_path: Path) -> None:
    origin = f"sqlite://{tmp_path / 'origin.db'}"
    with open_tested(origin) as backend:
        for author in ("zebra", "bob", "zebra"):
            backend.append("group", ChatMessage.user(f"of {author}", author=author))
    content = export(origin, "jsonl")
    with open_tested(store) as backend:
        finish(backend.erase(author="zebra"))
    for sessions, known in ((1, 0), (0, 1)):
        report = take(store, tmp_path / "x", content)
        assert (report.sessions, report.known, report.refused) == (sessions, known, [])
        (message,) = everything(store)["group"][1]
        assert message.content == "of bob"


@pytest.mark.parametrize("moment", [3, 60, 100, 139])
def test_killed_anywhere_a_second_run_completes_it(
    source: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    monkeypatch.setattr(intake, "MESSAGES_PER_GROUP", 12)
    path = tmp_path / "x"
    path.write_bytes(export(source, "jsonl"))
    counter = count()

    class Killed(BaseException):
        pass

    def die(_: Total | Advance) -> None:
        if next(counter) == moment:
            raise Killed

    with pytest.raises(Killed):
        import_files([path], store, Options(), die)
    partial = everything(store)
    assert partial.items() <= everything(source).items()  # whole sessions only
    report = import_files([path], store, Options(), lambda _: None)
    assert (report.sessions, report.known) == (20 - len(partial), len(partial))
    assert everything(store) == everything(source)


def damaged(lines: list[bytes]) -> Iterator[tuple[int, list[bytes], str]]:
    """Ways to spoil the second session, whose lines are 9 to 15; the number of the bad line."""
    yield 12, [*lines[:11], b'{"role":"user","cont\n', *lines[12:]], "not JSON"
    yield 12, [*lines[:11], b"[1]\n", *lines[12:]], "not a JSON object"
    yield 12, [*lines[:11], b'{"role":"","content":""}\n', *lines[12:]], "is missing"
    yield 12, [*lines[:11], lines[11].replace(b'"user"', b'""'), *lines[12:]], "role: must not be"
    yield 12, [*lines[:11], lines[11].replace(b"{", b'{"a":1,', 1), *lines[12:]], "unknown field"
    yield 15, [*lines[:11], *lines[12:]], "has 4 messages, not 5"
    yield 9, [*lines[:14], *lines[15:]], "the end of this session is missing"
    yield 9, [*lines[:8], b'{"session":{"key":"a\\u0007"}}\n', *lines[9:]], "control characters"
    yield 9, [*lines[:8], b'{"session":7}\n', *lines[9:]], "must be a JSON object"
    yield 12, [*lines[:11], b"\xff\n", *lines[12:]], "not JSON"


@pytest.mark.parametrize("number", range(10))
def test_a_bad_line_is_named_and_costs_only_its_session(
    source: str, sqlite: str, tmp_path: Path, number: int
) -> None:
    lines = export(source, "jsonl").splitlines(keepends=True)
    bad, content, why = list(damaged(lines))[number]
    report = take(sqlite, tmp_path / "x", b"".join(content))
    (refused,) = report.refused
    place = bad - 1 if why.startswith("has 4") else bad
    assert refused.startswith(f"{tmp_path / 'x'}:{place}: ")
    assert why in refused
    assert report.sessions == 19
    expected = everything(source)
    del expected["chat 01"]
    assert everything(sqlite) == expected


def test_a_file_cut_off_anywhere_gives_its_whole_sessions_only(
    source: str, sqlite: str, tmp_path: Path
) -> None:
    content = export(source, "jsonl")
    cut = len(content) * 2 // 3
    report = take(sqlite, tmp_path / "x", content[:cut])
    assert report.sessions > 10
    assert len(report.refused) == 1
    assert everything(sqlite).items() <= everything(source).items()


def test_two_exports_in_one_file_are_two_exports(source: str, sqlite: str, tmp_path: Path) -> None:
    halves = [export(source, "jsonl", Wanted(channel=channel)) for channel in ("c0", "c1")]
    report = take(sqlite, tmp_path / "x", b"".join(halves))
    assert (report.sessions, report.refused) == (20, [])
    assert everything(sqlite) == everything(source)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n", "neither an export"),
        (b'{"role":"user","content":"x"}\n', "backscroll migrate"),
        (b'{"messages":[]}\n', "--key-prefix"),
        (b'{"backscroll_export":2}\n{"session":{}}\n', "written by a newer one"),
        (b"SQLite format 3\0" + bytes(100), "not a database"),
    ],
)
def test_a_file_that_is_no_export_is_refused(
    sqlite: str, tmp_path: Path, content: bytes, why: str
) -> None:
    report = take(sqlite, tmp_path / "x", content)
    assert report.sessions == 0
    assert any(why in line for line in report.refused)


def test_a_filter_and_names_choose_the_sessions(source: str) -> None:
    infos = [info for info, _ in everything(source).values() if info is not None]
    times = sorted(info.last_activity for info in infos)

    def chosen(**wanted: object) -> int:
        return export(source, "jsonl", Wanted(**wanted)).count(b'{"session":')  # type: ignore[arg-type]

    assert chosen() == 20
    assert chosen(channel="c1") == 10
    assert chosen(channel="c1", keys=("chat 01", "chat 02", "chat 03", "none")) == 2
    assert chosen(since=times[5]) == sum(time >= times[5] for time in times)
    assert chosen(until=times[5]) == sum(time < times[5] for time in times)
    assert chosen(sender="nobody") == 0


def test_a_session_longer_than_a_page_comes_whole_and_in_order(store: str, tmp_path: Path) -> None:
    with open_tested(store) as backend:
        for start in range(0, 2_500, 500):
            said = [ChatMessage.user(str(number)) for number in range(start, start + 500)]
            backend.append("long", *said)
        said_all = [message.content for message in backend.stream("long")]
    assert said_all == [str(number) for number in range(2_500)]
    other = f"sqlite://{tmp_path / 'other.db'}"
    assert take(other, tmp_path / "x", export(store, "jsonl")).messages == 2_500
    assert everything(other) == everything(store)
    assert all(a < b for a, b in pairwise(int(m.content) for m in everything(other)["long"][1]))


class Busy:
    """A reader of a store in which somebody says something in the oldest session all the time."""

    def __init__(self, store: StoreUnderTest, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def sessions(self, **where: Any) -> SessionPage:
        page = self._store.sessions(**where)
        self._clock.advance(seconds=1)
        self._store.append("chat 0", ChatMessage.user("again"))
        return page


def test_a_session_that_moves_while_all_are_listed_is_not_missed(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backscroll_worker.transfer.sessions._PAGE", 3)
    clock = Clock()
    with open_tested(store, clock=clock) as backend:
        for number in range(10):
            backend.append(f"chat {number}", ChatMessage.user("x"))
            clock.advance(seconds=1)
        busy = cast(StoreUnderTest, Busy(backend, clock))
        assert [info.key for info in find(busy, Wanted())] == [f"chat {n}" for n in range(10)]


def test_ids_of_another_program_need_only_be_different_in_a_session(tmp_path: Path) -> None:
    first, second = f"jsonl://{tmp_path / 'a'}", f"sqlite://{tmp_path / 'b'}"
    moment = from_micros(5)
    fill(
        first,
        [
            ImportSession(
                new_op_id(), 1, key, (ChatMessage("u", key, None, "17", moment),), {}, 5, 5
            )
            for key in "ab"
        ],
    )
    assert take(second, tmp_path / "x", export(first, "jsonl")).refused == []
    with open_tested(second, read_only=True) as backend:
        said = [message for key in "ab" for message in backend.load(key)]
    assert [message.content for message in said] == ["a", "b"]
    assert [message.extra for message in said].count({"message_id": "17"}) == 1
