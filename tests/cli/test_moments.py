"""Points in time as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from backscroll import ChatMessage
from backscroll_worker.cli.moments import Moment
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import document, run


def moment(text: str) -> datetime:
    return Moment().convert(text, None, None)


def local(*parts: int) -> datetime:
    return datetime(*parts).astimezone()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", local(2026, 1, 31)),
        ("2026-10", local(2026, 10, 1)),
        ("2026-01-31T18:00Z", datetime(2026, 1, 31, 18, tzinfo=UTC)),
        ("2026-01-31 18:00", local(2026, 1, 31, 18)),
        (" 2026-10 ", local(2026, 10, 1)),
    ],
)
def test_a_day_and_a_month_stand_for_their_beginning(text: str, expected: datetime) -> None:
    assert moment(text) == expected


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90m", timedelta(minutes=90)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(days=30)),
        ("1w", timedelta(weeks=1)),
        ("1y", timedelta(days=365)),
    ],
)
def test_a_duration_is_so_long_ago(text: str, ago: timedelta) -> None:
    before = datetime.now(UTC) - ago
    assert before <= moment(text) <= datetime.now(UTC) - ago


def test_today_and_yesterday_begin_at_midnight_here() -> None:
    day = datetime.now().astimezone().date()
    found = moment("today"), moment("Yesterday")
    if datetime.now().astimezone().date() == day:  # else midnight has just passed
        assert [each.date() for each in found] == [day, day - timedelta(days=1)]
    assert all((each.hour, each.minute, each.second) == (0, 0, 0) for each in found)


@pytest.mark.parametrize("text", ["99y", "1000y", "3000y", "999999y"])
def test_nothing_is_before_1970(text: str) -> None:
    assert moment(text) == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-13", "2026-1", "30", "-1d", "0d", "30 days", "d"]
)
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"2026-01, .* yesterday or 30d \(ago"):
        moment(text)


@pytest.fixture
def aged(settings: Settings) -> Settings:
    """A session of ten days ago, and one of today."""
    now = datetime.now(UTC)
    for key, at in (("old", now - timedelta(days=10)), ("new", now)):
        micros = int(at.timestamp() * 1e6)
        with open_tested(settings.store, clock=lambda micros=micros: micros) as store:  # type: ignore[misc]
            store.append(key, ChatMessage("user", "hello", created_at=at))
    return settings


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("since", "9d"), {"new"}),
        (("since", "1w"), {"new"}),
        (("since", "2020-01"), {"old", "new"}),
        (("until", "9d"), {"old"}),
        (("until", "yesterday"), {"old"}),
    ],
)
def test_every_command_with_such_an_option_takes_them(
    aged: Settings, tmp_path: Path, options: tuple[str, str], expected: set[str]
) -> None:
    name, text = options
    hits = document(aged, "search", "hello", f"--{name}", text)["hits"]
    assert {hit["key"] for hit in hits} == expected
    listed = document(aged, "sessions", f"--active-{name}", text)["sessions"]
    assert {info["key"] for info in listed} == expected
    path = tmp_path / "export.md"
    run(aged, "export", f"--{name}", text, "--format", "markdown", "--output", str(path))
    assert all((key in path.read_text()) == (key in expected) for key in ("old", "new"))


@pytest.mark.parametrize(
    "arguments",
    [("search", "x", "--since"), ("sessions", "--active-until"), ("export", "--since")],
)
def test_a_command_says_what_a_time_may_be(settings: Settings, arguments: tuple[str, ...]) -> None:
    result = run(settings, *arguments, "last month")
    assert (result.exit_code, "yesterday" in result.stderr) == (ExitCode.USAGE, True)
