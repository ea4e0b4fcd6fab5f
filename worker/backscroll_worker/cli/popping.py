"""The command pop: it removes messages and shows them."""

from __future__ import annotations

import click

from backscroll_worker.cli.access import open_producer
from backscroll_worker.cli.arguments import TextCommand
from backscroll_worker.cli.output import console, json_option, note, print_json
from backscroll_worker.cli.reading import show_message
from backscroll_worker.settings import Settings


@click.command(cls=TextCommand)
@click.argument("key")
@click.option("--count", type=int, default=1, show_default=True, help="How many, at most 100.")
@json_option
@click.pass_obj
def pop(settings: Settings, key: str, count: int, as_json: bool) -> None:
    """Remove the last messages of session KEY, and show them.

    \b
    Example:
      backscroll pop telegram_user123 --count 2
    """
    with open_producer(settings, needs_worker=True) as producer:
        messages = producer.pop(key, count)
    if as_json:
        print_json(messages)
        return
    out = console()
    for message in messages:
        show_message(out, message)
    if not messages:
        note(f"session {key!r} has no messages")


COMMANDS = (pop,)
