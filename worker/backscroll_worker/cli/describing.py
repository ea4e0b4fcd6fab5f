"""The commands that change the attributes of sessions: describe, rename-agent."""

from __future__ import annotations

from typing import Any

import click

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import STATES
from backscroll.contract.validation import TEXT_ATTRIBUTES
from backscroll_worker.cli.arguments import TextCommand, meta_pair
from backscroll_worker.cli.output import json_option
from backscroll_worker.cli.sending import confirm, send, wait_option, yes_option
from backscroll_worker.settings import Settings


@click.command(cls=TextCommand)
@click.argument("key")
@click.option("--name", help="Its display name.")
@click.option("--agent", help="The alias of the agent that answers.")
@click.option("--channel", help="For example telegram.")
@click.option("--room", help="The group, thread or room.")
@click.option("--sender", help="The user who writes to the agent.")
@click.option("--state", type=click.Choice(STATES), help="The state of its current turn.")
@click.option("--turn-id", metavar="ID", help="The id of the current turn.")
@click.option("--pinned/--unpinned", default=None, help="Pinned sessions are never cleaned up.")
@click.option(
    "--meta",
    "pairs",
    metavar="KEY=VALUE",
    multiple=True,
    help="A key and value of your own; KEY= clears it. May be given several times.",
)
@click.option(
    "--clear",
    "cleared",
    multiple=True,
    type=click.Choice([name.replace("_", "-") for name in TEXT_ATTRIBUTES]),
    help="Remove an attribute; may be given several times.",
)
@wait_option
@json_option
@click.pass_obj
def describe(
    settings: Settings,
    /,
    key: str,
    cleared: tuple[str, ...],
    pairs: tuple[str, ...],
    wait: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Set attributes of session KEY; the others are kept.

    In --meta, 3, 0.5, true and false are numbers and booleans, and "3" is a text.

    \b
    Example:
      backscroll describe telegram_user123 --name "Holiday plans" --pinned
      backscroll describe telegram_user123 --clear agent
      backscroll describe telegram_user123 --meta project=apollo --meta priority=3
    """
    attributes = {name: value for name, value in given.items() if value is not None}
    if pairs:
        attributes["meta"] = {
            name: value if text else None for name, text, value in map(meta_pair, pairs)
        }
    for name in cleared:
        if attributes.setdefault(name.replace("-", "_")) is not None:
            raise InvalidInputError(name, f"is both set and cleared; omit --{name} or --clear")
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

    Without NEW, the agent is removed from them, after a confirmation.

    \b
    Example:
      backscroll rename-agent helper concierge
    """
    if new is None:
        confirm(f"NEW is missing: remove agent {old!r} from all its sessions?", yes)
    send(
        settings,
        "rename-agent",
        lambda producer, ack: producer.rename_agent(old, new, ack=ack),
        wait,
        as_json,
        touched="session",
    )


COMMANDS = (describe, rename_agent)
