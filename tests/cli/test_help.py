"""Every command explains itself, and no explanation is out of date."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from backscroll_worker.cli import main
from backscroll_worker.ops.exit_codes import MEANINGS, ExitCode


def commands(group: click.Group, path: str = "backscroll") -> Iterator[tuple[str, click.Command]]:
    yield path, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = dict(commands(main))


def examples(command: click.Command) -> list[str]:
    _, _, block = (command.help or "").partition("Example:\n")
    lines = block.strip().partition("\n\n")[0].splitlines()
    return [line.rpartition("| ")[2].strip() for line in lines]


def parsed(example: str) -> str:
    """The path of the command that click finds in `example`, its arguments parsed."""
    name, *arguments = shlex.split(example)
    command: click.Command = main
    context = command.make_context(name, arguments)
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        found, subcommand, rest = command.resolve_command(context, rest)
        assert found is not None
        assert subcommand is not None
        context = subcommand.make_context(found, rest, parent=context)
        command = subcommand
    return context.command_path


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_an_example_of_itself_that_parses(path: str) -> None:
    given = examples(COMMANDS[path])
    assert given
    for example in given:
        assert example.startswith("backscroll ")
        assert parsed(example).startswith(path)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_says_what_it_and_its_options_do(path: str) -> None:
    command = COMMANDS[path]
    assert command.get_short_help_str(60).endswith(".")
    assert not command.get_short_help_str(60).endswith("...")
    for option in command.params:
        assert not isinstance(option, click.Option) or option.help, option.name


@pytest.mark.parametrize("path", COMMANDS)
def test_help_is_readable_at_80_columns(path: str) -> None:
    result = CliRunner().invoke(main, [*path.split()[1:], "--help"], terminal_width=80)
    assert (result.exit_code, "Usage:" in result.output) == (0, True)
    assert all(len(line) <= 80 for line in result.output.splitlines()), result.output


def test_there_is_a_command_for_everything_the_system_does() -> None:
    assert {path.partition(" ")[2] for path in COMMANDS} >= {
        "demo", "up", "worker", "scheduler", "dashboard", "append", "rollback", "load", "sessions",
        "search", "describe", "delete", "cleanup", "compact", "migrate", "failed list",
        "failed requeue", "failed discard", "stats", "check",
    }  # fmt: skip


def test_the_help_lists_every_exit_code_with_its_meaning() -> None:
    assert set(MEANINGS) == set(ExitCode)
    help_text = CliRunner().invoke(main, ["--help"]).output
    for code, meaning in MEANINGS.items():
        assert any(
            line.split() == [str(code.value), code.name, *meaning.split()]
            for line in help_text.splitlines()
        )


def test_the_version_is_the_distributions() -> None:
    result = CliRunner().invoke(main, ["--version"], prog_name="backscroll")
    assert result.output.startswith("backscroll 0.")
