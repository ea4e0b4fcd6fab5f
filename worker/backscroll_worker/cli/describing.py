"""The commands that enqueue a change of what is known about sessions."""

from __future__ import annotations

from typing import Any

import click

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import STATES
from backscroll.contract.validation import TEXT_ATTRIBUTES
from backscroll_worker.cli.arguments import TextCommand
from backscroll_worker.cli.output import json_option
from backscroll_worker.cli.sending import confirm, send, wait_option, yes_option
from backscroll_worker.settings import Settings


@click.command(cls=TextCommand)
@click.argument("key")
@click.option("--name", help="What people call it.")
@click.option("--agent", help="The alias of the agent that answers.")
@click.option("--channel", help="For example telegram.")
@click.option("--room", help="The group, thread or room.")
@click.option("--sender", help="Who speaks with the agent.")
@click.option("--state", type=click.Choice(STATES), help="What its turn is doing.")
@click.option("--turn-id", metavar="ID", help="The turn that is running.")
@click.option("--pinned/--unpinned", default=None, help="Pinned sessions are never cleaned up.")
@click.option(
    "--clear",
    "cleared",
    multiple=True,
    type=click.Choice([name.replace("_", "-") for name in TEXT_ATTRIBUTES]),
    help="Take an attribute away; may be given several times.",
)
@wait_option
@json_option
@click.pass_obj
def describe(
    settings: Settings,
    /,
    key: str,
    cleared: tuple[str, ...],
    wait: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Set attributes of session KEY; only those given change.

    \b
    Example:
      backscroll describe telegram_user123 --name "Holiday plans" --pinned
      backscroll describe telegram_user123 --clear agent
    """
    attributes = {name: value for name, value in given.items() if value is not None}
    for name in cleared:
        if attributes.setdefault(name.replace("-", "_")) is not None:
            raise InvalidInputError(name, f"is both set and cleared; leave out --{name} or --clear")
    send(
        settings,
        "describe",
        lambda producer, ack: producer.describe(key, ack=ack, **attributes),
        wait,
        as_json,
        touched="session",
    )


@click.command("rename-agent", cls=TextCommand)
@click.argument("old")
@click.argument("new", required=False)
@yes_option
@wait_option
@json_option
@click.pass_obj
def rename_agent(
    settings: Settings, old: str, new: str | None, yes: bool, wait: bool, as_json: bool
) -> None:
    """Rename an agent in all its sessions.

    Without NEW, they have no agent any more; it asks first.

    \b
    Example:
      backscroll rename-agent helper concierge
    """
    if new is None:
        confirm(f"NEW is missing: take agent {old!r} out of all its sessions?", yes)
    send(
        settings,
        "rename-agent",
        lambda producer, ack: producer.rename_agent(old, new, ack=ack),
        wait,
        as_json,
        touched="session",
    )


COMMANDS = (describe, rename_agent)
