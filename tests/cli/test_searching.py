"""Search as somebody types it who half remembers something, and what it says when it found none."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import redis

from backscroll import ChatMessage
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import document, done, run
from tests.processes import running_worker


@pytest.fixture
def trip(settings: Settings) -> Settings:
    """A store with one conversation about a trip, and another."""
    with open_tested(settings.store) as store:
        store.append("trip", ChatMessage.user("a flight to Naples, and a recipe with lemon?"))
        store.append("trip", ChatMessage.assistant("take ten lemons"), ChatMessage.user("no bus"))
        store.describe("trip", name="Italy", channel="web", sender="ann", room="hall", agent="a1")
        store.append("other", ChatMessage.user("東京の火車"), ChatMessage.user("-h is for help"))
    return settings


def keys(settings: Settings, *arguments: str) -> set[str]:
    page = orjson.loads(done(settings, "search", "--json", *arguments))
    return {hit["key"] for hit in page["hits"]}


def said(settings: Settings, *arguments: str) -> list[str]:
    """What a search says besides its hits."""
    result = run(settings, "search", *arguments)
    assert result.exit_code == 0, result.stderr
    return result.stderr.splitlines()


def hint(settings: Settings, *arguments: str) -> str:
    """The one line after the number of hits, which is 0."""
    _, found, line = said(settings, *arguments)
    assert found.startswith("backscroll: found 0 ")
    return line.removeprefix("backscroll: ")


def test_a_search_says_which_words_it_excluded(trip: Settings) -> None:
    assert any(
        'messages with bus are excluded; "-bus"' in line for line in said(trip, "ten", "-bus")
    )
    assert keys(trip, "no", '"-bus"') == {"trip"}
    assert not any("excluded" in line for line in said(trip, "ten"))


def test_extra_is_searched_when_asked_for(trip: Settings) -> None:
    with open_tested(trip.store) as store:
        store.append("files", ChatMessage.user("see there", file="tickets.pdf"))
    assert keys(trip, "tickets.pdf") == set()
    assert keys(trip, "tickets.pdf", "--in", "extra") == {"files"}
    assert "tickets.pdf" in done(trip, "search", "pdf", "--in", "extra")
    assert "try without --in extra" in hint(trip, "lemons", "--in", "extra")
    assert run(trip, "search", "pdf", "--in", "extra", "--by-session").exit_code != 0


def test_words_in_different_messages_are_found_by_session(trip: Settings) -> None:
    shown = done(trip, "search", "naples lemons", "--by-session")
    assert "words in different messages" in shown
    assert "a flight to Naples" in shown


def test_words_need_no_quotes(trip: Settings) -> None:
    assert keys(trip, "ten", "lemons") == {"trip"}
    assert keys(trip, "ten", "nothing") == set()
    assert keys(trip, "--by-session", "naples", "--channel", "web", "lemons") == {"trip"}


@pytest.mark.parametrize(
    ("arguments", "is_found"),
    [
        (("lemon*", "-bus"), True),
        (("lemon*", "-ten", "-recipe"), False),
        (("lemon*", "--role", "user", "-hotel"), True),
        (("lemon*", "-limit"), True),
        (("-bus", "lemon*"), True),
        (("--", "-bus", "lemon*"), True),
        (("lemon*", "--", "-limit"), True),
        (("ten", "--", "-take"), False),
        (("lemon*", "--", "--limit"), False),
        (("ten", "--", "--take"), True),
        (("-lemonade",), False),
        (("-ten",), True),
        (("bus", "OR", "ten"), True),
        (("lemon*", "-h"), True),
        (("naples", "-a"), False),
        (("-recipe lemon*",), True),
        (("-recipe -ten lemon*",), False),
    ],
)
def test_a_word_with_a_dash_is_an_exclusion_and_no_option(
    trip: Settings, arguments: tuple[str, ...], is_found: bool
) -> None:
    assert keys(trip, *arguments) == ({"trip"} if is_found else set())


@pytest.mark.parametrize("option", ["--lemit", "--since-when", "--by-sessions"])
@pytest.mark.parametrize("rest", [(), ("--", "ten", "--naples")])
def test_an_option_that_is_none_is_no_word(
    trip: Settings, option: str, rest: tuple[str, ...]
) -> None:
    result = run(trip, "search", "lemons", option, *rest)
    assert result.exit_code == ExitCode.USAGE
    assert option in result.stderr


def test_an_options_value_may_look_like_an_option(trip: Settings) -> None:
    assert "session '-h' does not exist" in hint(trip, "lemons", "--key", "-h")
    with open_tested(trip.store) as store:
        store.append("-h", ChatMessage.user("lemons"))
    assert keys(trip, "lemons", "--key", "-h") == {"-h"}


@pytest.mark.parametrize("arguments", [("-h",), ("--help",), ("lemons", "--help")])
def test_help_is_shown(settings: Settings, arguments: tuple[str, ...]) -> None:
    assert "Find messages, best first." in done(settings, "search", *arguments)


def test_a_query_is_required(settings: Settings) -> None:
    result = run(settings, "search", "--by-session")
    assert (result.exit_code, "QUERY" in result.stderr) == (ExitCode.USAGE, True)


@pytest.mark.parametrize(
    ("arguments", "expected", "left_out"),
    [
        (
            ("naples", "lemons"),
            ("fewer", "napl*", "--by-session", "sessions --name naples"),
            ("filters", "quotes", "exclusions"),
        ),
        (
            ("naples", "nothing", "--by-session"),
            ("no session", "fewer", "nothi*"),
            ("--by-session",),
        ),
        (
            ("lemonade",),
            ("no message contains this word", "lemona*", "--name lemonade"),
            ("fewer", "--by-"),
        ),
        (("lime*",), ("--name lime",), ("a prefix", "lime*", "fewer")),
        (("lime*", "lemon*"), ("fewer", "--by-session"), ("a prefix",)),
        (("ten", "-take"), ("no exclusions", '"-take"', "ten*"), ("--by-session", "fewer")),
        (('"lemons ten"',), ("no quotes",), ("exclusions",)),
        (("ten", "--role", "user"), ("fewer filters",), ("fewer,",)),
        (("火車票",), ("sessions --name '火 車 票'",), ("a prefix", "quotes")),
        (("it's",), ("--name 'it s'",), ("quotes",)),
        (('-a"b"',), ("no message contains this word", "--name b"), ("a prefix",)),
        (("one", "two", "three", "four", "five", "six", "seven"), ("fewer",), ("--by-session",)),
        (("x*", "lemonade"), ("fewer",), ("--by-session",)),
        (("lime", "OR", "lemonade"), ("no message contains any of these words",), ("--by-",)),
        (
            ("x*", "lemonade", "--by-session"),
            ("no message contains all",),
            ("no session contains",),
        ),
        (("-lime",), ("no message contains this word", "--name lime"), ("exclusions",)),
        (("",), ("the query contains no words",), ("try",)),
        (("*",), ("the query contains no words",), ("try",)),
        (("", "--by-session"), ("no words", "'backscroll sessions' lists them"), ("try",)),
        (("ten", "--key", "nobody"), ("session 'nobody' does not exist",), ("try",)),
        (("ten", "--sender", "bob"), ("no session has the sender 'bob'",), ("try",)),
        (("ten", "--room", "attic"), ("no session has the room 'attic'",), ("try",)),
        (("x", "--sender", "ann", "--key", "trip"), ("fewer filters",), ("no session has the",)),
    ],
)
def test_a_search_that_finds_nothing_says_what_to_try(
    trip: Settings, arguments: tuple[str, ...], expected: tuple[str, ...], left_out: tuple[str, ...]
) -> None:
    line = hint(trip, *arguments)
    assert [part for part in expected if part not in line] == []
    assert [part for part in left_out if part in line] == []


def test_after_the_last_hit_there_are_no_more(trip: Settings) -> None:
    page = document(trip, "search", "lemon*", "--limit", "1")
    listed = document(trip, "sessions", "--limit", "1")
    with open_tested(trip.store) as store:
        store.delete("trip")
        store.delete("other")
    more = "backscroll: no more results"
    assert said(trip, "lemon*", "--limit", "1", "--cursor", page["cursor"])[1:] == [
        "backscroll: found 0 messages",
        more,
    ]
    result = run(trip, "sessions", "--limit", "1", "--cursor", listed["cursor"])
    assert result.stderr.splitlines()[1:] == [more]


def test_what_it_suggests_finds_it(trip: Settings) -> None:
    assert "(napl*)" in hint(trip, "naples", "lemons")
    assert keys(trip, "napl*") == keys(trip, "naples lemons", "--by-session") == {"trip"}


def test_a_document_comes_without_advice(trip: Settings) -> None:
    result = run(trip, "search", "nothing", "--json")
    assert "try" not in result.stderr


def test_a_worker_is_asked_for_the_advice_too(
    trip: Settings, client: redis.Redis, log: Path
) -> None:
    with running_worker(trip, client, log):
        assert said(trip, "ten", "--sender", "bob") == [
            "backscroll: found 0 messages",
            "backscroll: no session has the sender 'bob': 'backscroll sessions' lists them",
        ]


def test_from_a_hit_there_is_a_way_to_its_conversation(trip: Settings) -> None:
    with open_tested(trip.store) as store:
        ids = [message.message_id for message in store.load("trip")]
    result = run(trip, "search", "lemons")
    assert str(ids[1]) in result.stdout.splitlines()[0]
    assert "load KEY --around ID" in result.stderr
    around = document(trip, "load", "trip", "--around", str(ids[1]), "--limit", "2")
    assert [message["message_id"] for message in around] == ids[:2]
    assert len(document(trip, "load", "trip", "--around", str(ids[1]))) == 3


def test_a_message_that_is_not_there_has_nothing_around_it(trip: Settings) -> None:
    result = run(trip, "load", "trip", "--around", "unknown")
    assert (result.exit_code, "unknown" in result.stderr) == (ExitCode.REFUSED, True)
    result = run(trip, "load", "trip", "--around", "a", "--before", "b")
    told = "around: cannot be given together with before"
    assert (result.exit_code, told in result.stderr) == (ExitCode.USAGE, True)
