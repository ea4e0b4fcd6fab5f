"""Keys and texts that begin with a dash are keys and texts; a misspelled option is an error."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from backscroll import ChatMessage
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import document, done, run, work_off

GROUP = "-1001234567890"
HARD = ["-h", "-5 degrees", "- milk", "-", "-\n-", "-limit", "-y", "-=", "-é", "-1"]


def test_every_command_takes_a_key_that_is_a_negative_number(
    settings: Settings, tmp_path: Path
) -> None:
    for text in ("-5 degrees", "- milk", "-limit 3"):
        done(settings, "append", GROUP, "user", text)
    done(settings, "describe", GROUP, "--name", "-the group", "--room", GROUP)
    done(settings, "replace", GROUP, "-bot", "-x-")
    done(settings, "append", GROUP, "user", "gone")
    done(settings, "rollback", GROUP)
    done(settings, "rename-agent", "-a", "-b")
    work_off(settings, tmp_path)
    said = document(settings, "load", GROUP)
    assert [(each["role"], each["content"]) for each in said] == [
        ("user", "-5 degrees"), ("user", "- milk"), ("-bot", "-x-"),
    ]  # fmt: skip
    assert GROUP in done(settings, "sessions", "--room", GROUP, "--name", "the")
    assert "-5 degrees" in done(settings, "export", GROUP)
    assert "-5 degrees" in done(settings, "search", "degrees", "--key", GROUP)
    done(settings, "clear", GROUP, "--yes")
    done(settings, "delete", "--yes", GROUP)
    work_off(settings, tmp_path)
    assert run(settings, "load", GROUP).exit_code == ExitCode.FAILED


@pytest.mark.parametrize("key", HARD)
def test_a_key_with_a_dash_is_not_taken_for_an_option(settings: Settings, key: str) -> None:
    with open_tested(settings.store) as store:
        store.append("other", ChatMessage.user("x"))
    result = run(settings, "load", "--limit", "1", key)
    if "\n" in key:
        assert result.exit_code == ExitCode.USAGE
    else:
        assert f"session {key!r} does not exist" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("load", "k", "--lemit", "3"),
        ("load", "--lemit", "k"),
        ("append", "k", "user", "--dedup-kay=x", "text"),
        ("append", "k", "user", "--- text"),
        ("delete", "--force", "k"),
        ("export", "--fromat", "html"),
        ("restore", "--liszt"),
    ],
)
def test_a_misspelled_option_is_an_error_that_names_it(
    settings: Settings, arguments: tuple[str, ...]
) -> None:
    result = run(settings, *arguments)
    assert result.exit_code == ExitCode.USAGE
    wrong = next(each for each in arguments if each.startswith("--"))
    assert f"No such option: {wrong}" in result.stderr
    assert "Traceback" not in result.stderr


def test_after_two_dashes_all_is_text(settings: Settings, tmp_path: Path) -> None:
    done(settings, "append", "--", "--key", "user", "--- text")
    work_off(settings, tmp_path)
    assert "--- text" in done(settings, "load", "--", "--key")


def test_every_command_takes_a_key_that_begins_with_two_dashes(
    settings: Settings, tmp_path: Path
) -> None:
    for text in ("--force", "--", "--wait"):
        done(settings, "append", "--", "--key", "user", text)
    done(settings, "replace", "--", "--key", "--bot", "--json")
    done(settings, "describe", "--name", "--the name", "--", "--key")
    done(settings, "append", "--", "--key", "user", "gone")
    done(settings, "rollback", "--", "--key")
    work_off(settings, tmp_path)
    said = orjson.loads(done(settings, "load", "--json", "--", "--key"))
    assert [each["content"] for each in said] == ["--force", "--", "--json"]
    assert "--force" in done(settings, "export", "--", "--key")
    assert "--force" in done(settings, "search", "--key", "--key", "--", "--force")
    assert "--key" in done(settings, "sessions", "--name", "--the name")
    done(settings, "clear", "--yes", "--", "--key")
    done(settings, "delete", "--yes", "--", "--key")
    work_off(settings, tmp_path)
    assert run(settings, "load", "--", "--key").exit_code == ExitCode.FAILED


@pytest.mark.parametrize(
    "arguments",
    [
        ("append", "k", "user", "--wait"),
        ("append", "k", "user", "--dedup-key"),
        ("search", "--json"),
        ("load", "--json"),
        ("delete", "--force"),
    ],
)
def test_a_text_that_is_taken_for_an_option_says_what_to_type(
    settings: Settings, arguments: tuple[str, ...]
) -> None:
    result = run(settings, *arguments)
    assert result.exit_code == ExitCode.USAGE
    shown = " ".join(result.stderr.split())
    assert "has to follow --," in shown or "put -- before it" in shown


@pytest.mark.parametrize("command", ["load", "append", "search", "delete", "export", "restore"])
def test_help_is_shown_for_either_of_its_names(settings: Settings, command: str) -> None:
    assert done(settings, command, "-h") == done(settings, command, "--help")


@pytest.mark.parametrize("seconds", ["nan", "inf", "-inf", "-1", "1e300", "x", ""])
@pytest.mark.parametrize(
    "arguments",
    [
        ("compact", "--timeout-seconds"),
        ("erase", "--sender", "x", "--yes", "--timeout-seconds"),
        ("sessions", "--stuck-seconds"),
        ("stats", "--watch"),
    ],
)
def test_a_time_that_nobody_can_wait_for_is_refused(
    settings: Settings, arguments: tuple[str, ...], seconds: str
) -> None:
    result = run(settings, *arguments, seconds)
    assert result.exit_code == ExitCode.USAGE
    assert "Traceback" not in result.stderr
