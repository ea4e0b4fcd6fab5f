"""The command that exports sessions: export."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from backscroll_worker.cli.access import open_exported
from backscroll_worker.cli.arguments import TextCommand
from backscroll_worker.cli.moments import SINCE_HELP, UNTIL_HELP, Moment
from backscroll_worker.cli.output import counted, for_terminal, note, progress_bar
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.transfer.formats import FORMATS
from backscroll_worker.transfer.output import write_file, write_out
from backscroll_worker.transfer.sessions import Wanted, find, read

_LONG_MESSAGES: Final = 5_000


@click.command(cls=TextCommand)
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@click.option(
    "--format", "form", type=click.Choice(list(FORMATS)), default="jsonl", show_default=True,
    help="jsonl is exact, and import reads it.",
)  # fmt: skip
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file, completely or not at all, instead of standard output.",
)  # fmt: skip
@click.option("--channel", help="Only sessions of this channel.")
@click.option("--room", help="Only sessions of this room.")
@click.option("--sender", help="Only sessions of this sender.")
@click.option("--agent", help="Only sessions of this agent.")
@click.option("--author", help="Only what this author said, in any session.")
@click.option(
    "--no-attachments", is_flag=True,
    help="With jsonl: leave out the bytes of attachments, not what is known of them.",
)  # fmt: skip
@click.option("--since", type=Moment(), help=f"Last active at or after this time: {SINCE_HELP}.")
@click.option("--until", type=Moment(), help=f"Last active before this time; {UNTIL_HELP}.")
@click.pass_obj
def export(
    settings: Settings,
    keys: tuple[str, ...],
    form: str,
    output: Path | None,
    channel: str | None,
    room: str | None,
    sender: str | None,
    agent: str | None,
    author: str | None,
    no_attachments: bool,
    since: datetime | None,
    until: datetime | None,
) -> None:
    """Export the sessions named, or all of them.

    It reads the store directly, while the worker runs, if the store is on this machine. Operations
    that still wait in the queue are not included.

    \b
    Example:
      backscroll export --output backup.jsonl
      backscroll export telegram_user123 --format html --output chat.html
      backscroll export --channel slack --since 2026-01-01 --format openai
      backscroll export --author U0422 --output of-one-person.jsonl
    """
    wanted = Wanted(keys, agent, channel, room, sender, since, until, author)
    with open_exported(settings) as reader:
        infos = find(reader, wanted)
        missing = sorted(set(keys) - {info.key for info in infos})
        is_filtered = wanted != Wanted(keys)
        for key in missing:
            note(f"no session {key!r}{' matches the filters' if is_filtered else ''}")
        total = sum(info.message_count for info in infos)
        with progress_bar("exporting", total, is_shown=total >= _LONG_MESSAGES) as bar:
            fills = form == "jsonl" and not no_attachments
            chunks = FORMATS[form](read(reader, infos, bar.advance, author, fills=fills))
            if output is None and sys.stdout.isatty():
                is_json = form in ("jsonl", "openai")
                write_out(for_terminal(chunk, is_json=is_json) for chunk in chunks)
            elif output is None:
                write_out(chunks)
            else:
                write_file(output, chunks)
    if output is not None:
        note(f"{counted(len(infos), 'session')} in {output}")
    elif not infos and not missing:
        note("no session matches")
    if missing:
        raise click.exceptions.Exit(ExitCode.FAILED)


COMMANDS = (export,)
