"""The commands for what sessions have besides messages: describe, state, rename-agent."""

from __future__ import annotations

from typing import Any

import click
import orjson

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import STATES
from backscroll.contract.states import DEFAULT_STATE, NO_STATE
from backscroll.contract.validation import TEXT_ATTRIBUTES
from backscroll.transport.acks import Ack
from backscroll_worker.cli.access import open_producer, open_reader
from backscroll_worker.cli.arguments import TextCommand, meta_pair
from backscroll_worker.cli.output import json_option, note, print_json, printable
from backscroll_worker.cli.sending import confirm, json_value, send, wait_option, yes_option
from backscroll_worker.ops.exit_codes import ExitCode
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
    "--ttl-hours",
    type=float,
    metavar="HOURS",
    help="How long it may be idle, whatever the worker's rules say; 0 keeps it for ever.",
)
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
    type=click.Choice([name.replace("_", "-") for name in (*TEXT_ATTRIBUTES, "ttl_hours")]),
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


@click.command(cls=TextCommand)
@click.argument("key")
@click.option("--name", default=DEFAULT_STATE, show_default=True, help="Which of its states.")
@click.option("--set", "text", metavar="JSON", help="Set it to this; null deletes it.")
@click.option(
    "--expect", type=int, metavar="N", help="Only if this is its version, or 0 and there is none."
)
@wait_option
@json_option
@click.pass_obj
def state(
    settings: Settings,
    key: str,
    name: str,
    text: str | None,
    expect: int | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Show the state that is kept with session KEY, or set it.

    The exit code is 1 when there is none, or it has another version than expected.

    \b
    Example:
      backscroll state telegram_user123
      backscroll state telegram_user123 --set '{"step": 2}' --expect 1
    """
    if text is None:
        if expect is not None or wait:
            raise click.UsageError("--expect and --wait are for --set")
        _show_state(settings, key, name, as_json)
        return
    value, waits = json_value("set", text), wait or expect is not None
    with open_producer(settings, needs_worker=waits) as producer:
        ack: Ack = "stored" if waits else "queued"
        receipt = producer.set_state(key, value, name, expect=expect, ack=ack)
    if as_json:
        print_json(receipt)
        return
    result = "enqueued" if receipt.affected is None else f"stored, version {receipt.affected}"
    click.echo(f"state {receipt.op_id}: {result}")


def _show_state(settings: Settings, key: str, name: str, as_json: bool) -> None:
    with open_reader(settings) as reader:
        found = reader.states(key).get(name, NO_STATE)
    if as_json:
        print_json(found)
    elif found.value is not None:
        click.echo(printable(orjson.dumps(found.value, option=orjson.OPT_INDENT_2).decode()))
        note(f"version {found.version}")
    if found.value is None:
        note(f"session {key!r} has no state {name!r}")
        raise click.exceptions.Exit(ExitCode.FAILED)


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


COMMANDS = (describe, state, rename_agent)
