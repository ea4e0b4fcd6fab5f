"""The commands for sessions that live on: rewind, rename, fork, reset, close, reopen."""

from __future__ import annotations

import click

from backscroll_worker.cli.arguments import TextCommand
from backscroll_worker.cli.output import json_option
from backscroll_worker.cli.sending import confirm, send, wait_option, yes_option
from backscroll_worker.settings import Settings


@click.command(cls=TextCommand)
@click.argument("key")
@click.argument("message-id")
@yes_option
@wait_option
@json_option
@click.pass_obj
def rewind(
    settings: Settings, key: str, message_id: str, yes: bool, wait: bool, as_json: bool
) -> None:
    """Remove all messages of a session after one of them.

    MESSAGE-ID is the id of the last message of session KEY that stays.

    \b
    Example:
      backscroll rewind --yes telegram_user123 01936f0e5c7a7d0e8f3b0c1d2e3f4a5b
    """
    confirm(f"Remove all messages of {key!r} after {message_id}?", yes)
    send(
        settings,
        "rewind",
        lambda producer, ack: producer.rewind(key, message_id, ack=ack),
        wait,
        as_json,
    )


@click.command(cls=TextCommand)
@click.argument("key")
@click.argument("new-key")
@wait_option
@json_option
@click.pass_obj
def rename(settings: Settings, key: str, new_key: str, wait: bool, as_json: bool) -> None:
    """Give session KEY another key, with all that it has.

    Without --wait, a NEW-KEY that another session has is refused silently.

    \b
    Example:
      backscroll rename --wait telegram_-4077 telegram_-100123
    """
    send(
        settings,
        "rename",
        lambda producer, ack: producer.rename(key, new_key, ack=ack),
        wait,
        as_json,
        touched="session",
    )


@click.command(cls=TextCommand)
@click.argument("key")
@wait_option
@json_option
@click.pass_obj
def reset(settings: Settings, key: str, wait: bool, as_json: bool) -> None:
    """Begin a new conversation under session KEY.

    What was said so far stays, as a session with another key.

    \b
    Example:
      backscroll reset telegram_user123
    """
    send(settings, "reset", lambda producer, ack: producer.reset(key, ack=ack), wait, as_json)


@click.command(cls=TextCommand)
@click.argument("key")
@wait_option
@json_option
@click.pass_obj
def close(settings: Settings, key: str, wait: bool, as_json: bool) -> None:
    """Let nobody append to session KEY any more.

    \b
    Example:
      backscroll close telegram_user123
    """
    send(
        settings,
        "close",
        lambda producer, ack: producer.close_session(key, ack=ack),
        wait,
        as_json,
        touched="session",
    )


@click.command(cls=TextCommand)
@click.argument("key")
@wait_option
@json_option
@click.pass_obj
def reopen(settings: Settings, key: str, wait: bool, as_json: bool) -> None:
    """Let messages be appended to session KEY again.

    \b
    Example:
      backscroll reopen telegram_user123
    """
    send(
        settings,
        "reopen",
        lambda producer, ack: producer.reopen_session(key, ack=ack),
        wait,
        as_json,
        touched="session",
    )


@click.command(cls=TextCommand)
@click.argument("key")
@click.argument("new-key")
@click.option("--upto", metavar="MESSAGE-ID", help="The last message that the fork has.")
@click.option("--upto-platform-id", metavar="ID", help="The same, by the platform's id of it.")
@wait_option
@json_option
@click.pass_obj
def fork(
    settings: Settings,
    key: str,
    new_key: str,
    upto: str | None,
    upto_platform_id: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Copy a session, up to one of its messages or all of it, to a new one.

    NEW-KEY is the key of the copy. 'backscroll sessions --forked-from KEY' lists the copies of a
    session.

    \b
    Example:
      backscroll fork --wait web_42 web_42-2 --upto 01936f0e5c7a7d0e8f3b0c1d2e3f4a5b
    """
    send(
        settings,
        "fork",
        lambda producer, ack: producer.fork(
            key, new_key, upto, upto_platform_id=upto_platform_id, ack=ack
        ),
        wait,
        as_json,
    )


COMMANDS = (rewind, rename, fork, reset, close, reopen)
