"""Retention rules: which one holds, what it says, and files that are wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backscroll.contract.errors import InvalidSettingError
from backscroll_worker.contract.retention import Retention
from backscroll_worker.settings import Settings

HOUR = 3_600_000_000
DAY = 24 * HOUR


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "retention.toml"


def loaded(path: Path, text: str, ttl_hours: float | None = None) -> Retention:
    path.write_text(text)
    return Retention.load(path, ttl_hours)


def test_the_rule_with_the_most_literal_characters_holds(path: Path) -> None:
    retention = loaded(
        path,
        """
        [[rule]]
        channel = "*"
        ttl = "1d"
        [[rule]]
        channel = "slack"
        ttl = "2d"
        [[rule]]
        channel = "slack"
        room = "support-*"
        ttl = "3d"
        [[rule]]
        room = "support-europe-*"
        ttl = "4d"
        """,
        24 * 9,
    )

    def days(**attributes: str | None) -> float:
        return (retention.rule_for(attributes).ttl_micros or 0) / DAY

    assert days() == 9
    assert days(channel=None) == 9
    assert days(channel="irc") == 1
    assert days(channel="slack") == 2
    assert days(channel="slack", room="general") == 2
    assert days(channel="slack", room="support-1") == 3
    assert days(channel="slack", room="support-europe-1") == 4, "16 characters against 13"
    assert days(channel="Slack") == 1, "case counts"


def test_of_equally_specific_rules_the_first_holds(path: Path) -> None:
    retention = loaded(path, '[[rule]]\nroom="ab*"\nttl="1d"\n[[rule]]\nsender="xy"\nttl="2d"\n')
    assert retention.rule_for({"room": "abc", "sender": "xy"}).ttl_micros == DAY
    assert retention.rule_for({"sender": "xy"}).ttl_micros == 2 * DAY


@pytest.mark.parametrize(
    ("pattern", "literals"),
    [("*", 0), ("a*b?c", 3), ("[ab]c", 1), ("[!a-z]x[]]", 1), ("plain.+", 7), ("日*", 1)],
)
def test_wildcards_and_sets_are_no_literal_characters(
    path: Path, pattern: str, literals: int
) -> None:
    (rule,) = loaded(path, f'[[rule]]\nname="{pattern}"\nttl="1d"').rules
    assert rule.literals == literals


def test_a_pattern_is_for_the_whole_value_and_no_expression(path: Path) -> None:
    (rule,) = loaded(path, '[[rule]]\nkey="telegram_*.[0-9]"\nttl="1d"').rules
    assert rule.fits({"key": "telegram_a\nb.7"})
    assert not rule.fits({"key": "telegram_ax7"})
    assert not rule.fits({"key": "xtelegram_.7"})
    assert not rule.fits({"key": "telegram_.7x"})


def test_a_pattern_made_to_be_slow_is_not(path: Path) -> None:
    (rule,) = loaded(path, f'[[rule]]\nname="{"*a" * 100}b"\nttl="1d"').rules
    assert not rule.fits({"name": "a" * 512})


def test_what_a_rule_does_not_say_the_default_says(path: Path) -> None:
    retention = loaded(
        path,
        """
        [default]
        ttl = "12h"
        keep_messages = 100
        [[rule]]
        room = "a"
        keep_messages = 5
        [[rule]]
        room = "b"
        ttl = "forever"
        keep_messages = "all"
        """,
        1,
    )
    said = {
        room: (rule.ttl_micros, rule.keep_messages)
        for room in "abc"
        for rule in [retention.rule_for({"room": room})]
    }
    assert said == {"a": (12 * HOUR, 5), "b": (None, None), "c": (12 * HOUR, 100)}
    assert (retention.shortest_ttl, retention.smallest_cap) == (12 * HOUR, 5)


@pytest.mark.parametrize(
    ("text", "micros"),
    [("90m", 90 * HOUR // 60), ("12h", 12 * HOUR), ("30d", 30 * DAY), ("8w", 56 * DAY),
     ("1y", 365 * DAY), ("30 d", 30 * DAY), ("forever", None), ("none", None)],
)  # fmt: skip
def test_durations_are_readable(path: Path, text: str, micros: int | None) -> None:
    assert loaded(path, f'[default]\nttl="{text}"', 1).default.ttl_micros == micros


def test_a_rule_for_an_author_is_chosen_among_these_alone(path: Path) -> None:
    text = """
        [[rule]]
        room = "a room of a very long name"
        ttl = "1d"
        [[rule]]
        author = "*"
        ttl = "30d"
        [[rule]]
        author = "bot-?"
        room = "a*"
        ttl = "2d"
    """
    retention = loaded(path, text, 5)

    def days(author: str, room: str | None = None) -> float:
        rule = retention.rule_for_author({"room": room, "key": "k"}, author)
        return ((rule and rule.ttl_micros) or 0) / DAY

    assert (days("bot-1"), days("bot-1", "ab"), days("ada", "ab")) == (30, 2, 30)
    assert retention.rule_for({"room": "ab", "author": "bot-1"}) is retention.default
    assert (retention.shortest_ttl, [rule.name for rule in retention.author_rules]) == (
        5 * HOUR,
        ["room=a*, author=bot-?", "author=*"],
    )


def test_a_ttl_that_is_asked_for_is_the_defaults_and_no_rules(path: Path) -> None:
    path.write_text('[default]\nttl="30d"\nkeep_messages=7\n[[rule]]\nroom="a"\nttl="forever"')
    settings = Settings(None, path.parent, "sqlite:///x.db", ttl_hours=1, retention=path)
    asked = settings.load_retention(2)
    assert (asked.default.ttl_micros, asked.default.keep_messages) == (2 * HOUR, 7)
    assert asked.rule_for({"room": "a"}).ttl_micros is None
    assert settings.load_retention().default.ttl_micros == 30 * DAY


def test_without_a_file_the_ttl_of_the_settings_holds() -> None:
    settings = Settings.from_environment({"BACKSCROLL_TTL_HOURS": "5"})
    assert settings.load_retention().default.ttl_micros == 5 * HOUR
    assert Settings.from_environment({}).load_retention().shortest_ttl is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ttl = ", "is not valid TOML"),
        ("\x00", "is not valid TOML"),
        ('ttl = "1d"', r"'ttl' is not \[default\]"),
        ("rule = 1", r"\[\[rule\]\] in double"),
        ('default = "1d"', r"\[default\] in single"),
        ('[rule]\nroom="a"\nttl="1d"', r"\[\[rule\]\] in double"),
        ("rule = [1]", "rule 1 is not a table"),
        ('[[rule]]\nttl="1d"', "rule 1: needs a pattern for key or name"),
        ('[[rule]]\nroom="a"', "rule 1: needs ttl or keep_messages"),
        ('[[rule]]\nroom="a"\nttl="1d"\n[[rule]]\nroom="b"\nttl="soon"', "rule 2, ttl: 'soon'"),
        ('[[rule]]\nroom="a"\nttl="0d"', "rule 1, ttl: '0d'"),
        ('[[rule]]\nroom="a"\nttl="-1d"', "rule 1, ttl"),
        ('[[rule]]\nroom="a"\nttl="300000y"', "rule 1, ttl: '300000y' is too long"),
        ('[[rule]]\nroom="a"\nttl=30', "rule 1, ttl: 30 is not a valid duration"),
        ('[[rule]]\nroom="a"\nttl=[]', "rule 1, ttl"),
        ('[[rule]]\nroom="a"\nkeep_messages=0', "rule 1, keep_messages: 0"),
        ('[[rule]]\nroom="a"\nkeep_messages=true', "rule 1, keep_messages: True"),
        ('[[rule]]\nroom="a"\nkeep_messages="many"', "rule 1, keep_messages"),
        ('[[rule]]\nroom=1\nttl="1d"', "rule 1, room: must be text"),
        ('[[rule]]\nroom=""\nttl="1d"', "rule 1, room"),
        ('[[rule]]\nroom="a"\ntll="1d"', "rule 1: 'tll' is not a valid field"),
        ('[[rule]]\nauthor="a"', "rule 1: needs ttl or keep_messages"),
        ('[[rule]]\nauthor="a"\nkeep_messages=5', "rule 1: a rule for an author needs a ttl"),
        (
            '[[rule]]\nauthor="a"\nttl="1d"\nkeep_messages=5',
            "rule 1: a rule for an author takes no keep_messages",
        ),
        ('[default]\nroom="a"', r"\[default\]: 'room' is not a valid field"),
    ],
)
def test_an_error_names_the_file_the_rule_and_the_field(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    with pytest.raises(InvalidSettingError, match=said) as caught:
        Retention.load(path, None)
    assert re.match(f"BACKSCROLL_RETENTION: {path}: ", str(caught.value))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_an_error(path: Path) -> None:
    with pytest.raises(InvalidSettingError, match="No such file"):
        Retention.load(path, None)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidSettingError, match="is not valid TOML"):
        Retention.load(path, None)
