"""Output that nobody takes: its reader has gone, the disk is full, or the shell has closed it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backscroll import ChatMessage
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import options
from tests.prepared import Prepared, run_prepared

COMMANDS = (
    ("--help",),
    ("check",),
    ("check", "--json"),
    ("stats",),
    ("sessions",),
    ("sessions", "--json"),
    ("load", "k"),
    ("load", "k", "--json"),
    ("search", "word"),
    ("search", "word", "--json"),
    ("export",),
)


@pytest.fixture(scope="module")
def full_disk() -> Path:
    path = Path("/dev/full")
    if not path.exists():
        pytest.skip("this system has no /dev/full")
    return path


@pytest.fixture
def stored(settings: Settings) -> Settings:
    """A store with a message that is longer than a pipe or a buffer."""
    with open_tested(settings.store) as store:
        store.append("k", ChatMessage.user("word " * 40_000))
    return settings


def ended(
    settings: Settings, *arguments: str, stdout: int = subprocess.PIPE, stderr: int
) -> subprocess.CompletedProcess[str]:
    return run_prepared(*options(settings), *arguments, stdout=stdout, stderr=stderr)


def errors_of(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on standard error, but for the one that says who was asked."""
    lines = result.stderr.splitlines()
    return [line for line in lines if not line.endswith("reading the store directly")]


@pytest.fixture
def unread_pipe() -> int:
    """A pipe's end for writing, whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_reader_that_has_gone_ends_every_command_as_a_signal_would(
    stored: Settings, unread_pipe: int, arguments: tuple[str, ...]
) -> None:
    result = ended(stored, *arguments, stdout=unread_pipe, stderr=subprocess.PIPE)
    os.close(unread_pipe)
    assert (result.returncode, errors_of(result)) == (ExitCode.OUTPUT_CLOSED, [])


@pytest.mark.parametrize("arguments", [("load", "nobody"), ("no-command",), ("check",)])
def test_so_does_one_of_standard_error(
    stored: Settings, unread_pipe: int, arguments: tuple[str, ...]
) -> None:
    result = ended(stored, *arguments, stderr=unread_pipe)
    os.close(unread_pipe)
    assert result.returncode == ExitCode.OUTPUT_CLOSED


@pytest.mark.parametrize("arguments", [("export",), ("load", "k"), ("load", "k", "--json")])
def test_a_reader_that_has_seen_enough_ends_it_quietly(
    stored: Settings, arguments: tuple[str, ...]
) -> None:
    command, pipe = [*options(stored), *arguments], subprocess.PIPE
    with Prepared(command, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(process.stdout.read(10)) == 10
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, b"Error" in told) == (ExitCode.OUTPUT_CLOSED, False)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_full_disk_is_told_in_one_line(
    stored: Settings, full_disk: Path, arguments: tuple[str, ...]
) -> None:
    with full_disk.open("wb") as output:
        result = ended(stored, *arguments, stdout=output.fileno(), stderr=subprocess.PIPE)
    told = ["backscroll: standard output: No space left on device"]
    assert (result.returncode, errors_of(result)) == (ExitCode.OUTPUT, told)


def test_where_nothing_can_be_told_the_exit_code_is_left(stored: Settings, full_disk: Path) -> None:
    with full_disk.open("wb") as output:
        for arguments in (("sessions",), ("no-command",), ("load", "nobody")):
            result = ended(stored, *arguments, stdout=output.fileno(), stderr=subprocess.STDOUT)
            assert result.returncode == ExitCode.OUTPUT


@pytest.mark.parametrize(
    ("arguments", "closed", "code"),
    [
        (("sessions",), ">&-", ExitCode.OUTPUT),
        (("check", "--json"), ">&-", ExitCode.OUTPUT),
        (("worker", "--burst"), ">&-", ExitCode.OK),  # it writes nothing there
        (("check", "--deep", "--repair"), "2>&-", ExitCode.OK),
        (("delete", "k"), "<&-", ExitCode.USAGE),
        (("append", "k", "user", "-"), "<&-", ExitCode.USAGE),
    ],
)
def test_what_the_shell_has_closed_is_missed_only_by_those_who_use_it(
    stored: Settings, arguments: tuple[str, ...], closed: str, code: ExitCode
) -> None:
    command = [sys.executable, "-m", "backscroll_worker.cli", *options(stored), *arguments]
    result = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, "unexpected" in result.stderr) == (code, False), result.stderr
    if code == ExitCode.OUTPUT:
        assert errors_of(result) == ["backscroll: standard output: Bad file descriptor"]


def test_all_arrives_where_all_is_read(stored: Settings, tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    for _ in range(2):
        with file.open("ab") as output:
            result = ended(stored, "export", stdout=output.fileno(), stderr=subprocess.PIPE)
            assert (result.returncode, result.stderr) == (ExitCode.OK, "")
    assert file.read_text() == 2 * ended(stored, "export", stderr=subprocess.PIPE).stdout
    assert file.stat().st_size > 2 * 100_000
