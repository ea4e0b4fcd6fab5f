"""Nothing that anybody wrote does anything to the terminal that shows it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import orjson
import pytest

from backscroll import ChatMessage
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from backscroll_worker.transfer.formats import FORMATS
from tests.cli.command import in_terminal, options, run, without_styles
from tests.prepared import run_prepared

# Clears the screen, sets the title, asks the terminal to answer, in C0 and in C1; turns text round.
HOSTILE = "a\x1b[2Jb\x9b2Jc\x1b]0;owned\x07d\x9d0;x\x9ce\x90q\x9cf\u202eg\u2066h\x7f\x08i\x85j\rk"
ACTING = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
COMMANDS = [
    ("load", "k"),
    ("load", "k", "--json"),
    ("search", "lemons"),
    ("search", "lemons", "--json"),
    ("load", HOSTILE),
    ("load", "k", "--before", HOSTILE),
    ("sessions", "--cursor", HOSTILE),
    ("sessions", "--state", HOSTILE),
    ("search", HOSTILE),
    ("search", "--key", HOSTILE, "x"),
    ("export", "-x", HOSTILE),
    ("load", "k", f"--{HOSTILE}"),
    ("load", "k", "x", HOSTILE),
    (HOSTILE,),
    ("load", "--limit", HOSTILE, "k"),
    ("sessions", "--active-since", HOSTILE),
    ("import", HOSTILE),
    ("backup", HOSTILE.replace("/", ""), "--skip-verify"),
    ("migrate", HOSTILE),
    ("failed", "discard", HOSTILE),
    ("failed", HOSTILE),
    ("append", "k", "user", "x", "--extra", HOSTILE),
    ("append", HOSTILE, "user", "x"),
    ("delete", HOSTILE),
    ("restore", HOSTILE, "--list"),
    ("describe", "k", "--name", HOSTILE),
]


@pytest.fixture
def hostile(settings: Settings) -> Settings:
    with open_tested(settings.store) as store:
        store.append("k", ChatMessage("user", f"lemons {HOSTILE}", {"x": HOSTILE}))
    return settings


def test_no_command_shows_a_character_that_a_terminal_obeys(
    hostile: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in COMMANDS:
        for given in (arguments, ("--debug", *arguments)):
            result = run(hostile, *given)
            shown = result.stderr if arguments[0] == "export" else result.output
            assert shown, given
            assert ACTING.findall(without_styles(shown)) == [], given


@pytest.mark.parametrize("form", list(FORMATS))
def test_an_export_on_a_terminal_does_nothing_to_it(hostile: Settings, form: str) -> None:
    _, shown = in_terminal(hostile, "export", "k", "--format", form, columns=4000)
    assert "lemons" in shown
    assert ACTING.findall(without_styles(shown)) == []


def test_an_export_into_a_pipe_is_exact(hostile: Settings) -> None:
    lines = run(hostile, "export", "k").stdout.split("\n")
    assert orjson.loads(lines[2])["content"] == f"lemons {HOSTILE}"


def test_the_log_shows_a_traceback_without_what_acts() -> None:
    program = (
        "import logging; from backscroll_worker.cli import logs\n"
        "logs.configure('DEBUG', dated=True)\n"
        f"try: raise ValueError({HOSTILE!r})\n"
        f"except ValueError: logging.getLogger('backscroll.x').exception({HOSTILE!r})\n"
    )
    shown = run_prepared("-c", program).stderr
    assert "ValueError" in shown
    assert ACTING.findall(shown) == []


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_that_knows_few_characters_is_shown_what_it_can(
    settings: Settings, encoding: str, tmp_path: Path
) -> None:
    with open_tested(settings.store) as store:
        store.append("k", ChatMessage.user("naïve 人工知能 😀 lemons"))
        store.describe("k", name="日本")
    for command in [("load", "k"), ("sessions",), ("search", "lemons", "--json"), ("load", "é")]:
        environ = {**os.environ, "PYTHONIOENCODING": encoding}
        ended = run_prepared(*options(settings), *command, env=environ, text=False)
        assert ended.returncode in (ExitCode.OK, ExitCode.FAILED), ended.stderr
        assert b"Error" not in ended.stderr
    exported = tmp_path / "x.jsonl"
    assert run(settings, "export", "--output", str(exported)).exit_code == ExitCode.OK
    assert "人工知能" in exported.read_text("utf-8")
