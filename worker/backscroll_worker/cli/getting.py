"""The command for one message by its id: get."""

from __future__ import annotations

import click
from rich.text import Text

from backscroll_worker.cli.access import open_reader
from backscroll_worker.cli.arguments import TextCommand
from backscroll_worker.cli.output import console, json_option, note, one_line, print_json
from backscroll_worker.cli.reading import show_message
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings


@click.command(cls=TextCommand)
@click.argument("message_id", metavar="MESSAGE-ID")
@json_option
@click.pass_obj
def get(settings: Settings, message_id: str, as_json: bool) -> None:
    """Show one message and the session that it is in.

    The exit code is 1 when no session has it.

    \b
    Example:
      backscroll get 0193e1f2a3b47c5d8e9f0a1b2c3d4e5f
    """
    with open_reader(settings) as reader:
        found = reader.get(message_id)
    if as_json:
        print_json(found)
    elif found is not None:
        out = console()
        out.print(Text(one_line(found.key)), soft_wrap=True)
        show_message(out, found.message)
    if found is None:
        note("no session has this message")
        raise click.exceptions.Exit(ExitCode.FAILED)


COMMANDS = (get,)
