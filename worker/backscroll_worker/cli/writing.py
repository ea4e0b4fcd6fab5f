"""The commands that change messages: append, rollback, replace, clear, delete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from backscroll import ChatMessage
from backscroll_worker.cli.arguments import TextCommand
from backscroll_worker.cli.attachment import attachment_of
from backscroll_worker.cli.output import json_option
from backscroll_worker.cli.sending import (
    confirm,
    content_of,
    json_object,
    send,
    wait_option,
    yes_option,
)
from backscroll_worker.settings import Settings

platform_id_option = click.option(
    "--platform-id", metavar="ID", help="The same, by the platform's own id of the message."
)
tokens_option = click.option("--tokens", type=int, help="What a model counts for it.")


def _untouched(platform_id: str | None) -> str:
    """What a change has done that has found no message."""
    if platform_id is None:
        return "nothing to do"
    return "no such message; if it is still to come, this waits for it"


@click.command(cls=TextCommand)
@click.argument("key")
@click.argument("role")
@click.argument("content")
@click.option("--extra", metavar="JSON", help="A JSON object, given back unchanged.")
@click.option(
    "--dedup-key", metavar="ID", help="The platform's own id: stored once, even if resent."
)
@click.option("--author", metavar="ID", help="The platform's id of who said it.")
@click.option("--author-name", metavar="NAME", help="The author's name, to be shown.")
@click.option("--platform-id", metavar="ID", help="The platform's id of the message.")
@click.option("--reply-to", metavar="ID", help="The platform's id of the message it answers.")
@tokens_option
@click.option("--upto", metavar="MESSAGE-ID", help="It is a summary of all up to that message.")
@click.option(
    "--attach", "paths", multiple=True, metavar="FILE", type=click.Path(path_type=Path),
    help="A file to attach; may be given several times.",
)  # fmt: skip
@click.option("--expect-tail", metavar="ID", help="Only behind this message; '' if there is none.")
@wait_option
@json_option
@click.pass_obj
def append(
    settings: Settings,
    /,
    key: str,
    role: str,
    content: str,
    extra: str | None,
    dedup_key: str | None,
    paths: tuple[Path, ...],
    expect_tail: str | None,
    wait: bool,
    as_json: bool,
    **circumstances: Any,
) -> None:
    """Add a message at the end of session KEY.

    ROLE is user, assistant, system, tool or any other; CONTENT - reads standard input. The printed
    id is that of the operation and of the message. With --expect-tail it waits as with --wait.

    \b
    Example:
      backscroll append telegram_user123 user "hello there"
      backscroll append slack_C07 user hello --author U0422 --author-name Ada
      backscroll append slack_C07 user "as agreed" --attach offer.pdf
      echo hello | backscroll append --wait telegram_user123 user -
    """
    attachments = [attachment_of(path) for path in paths]
    message = ChatMessage(
        role, content_of(content), json_object(extra), attachments=attachments, **circumstances
    )
    send(
        settings,
        "append",
        lambda producer, ack: producer.append(
            key, message, dedup_key=dedup_key, expect_tail=expect_tail, ack=ack
        ),
        wait or expect_tail is not None,
        as_json,
    )


@click.command(cls=TextCommand)
@click.argument("key")
@click.option("--message-id", metavar="ID", help="Remove this message instead of the last one.")
@platform_id_option
@wait_option
@json_option
@click.pass_obj
def rollback(
    settings: Settings,
    key: str,
    message_id: str | None,
    platform_id: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Remove the last message of session KEY, or the one named.

    \b
    Example:
      backscroll rollback telegram_user123
    """
    send(
        settings,
        "rollback",
        lambda producer, ack: producer.rollback(key, message_id, platform_id=platform_id, ack=ack),
        wait,
        as_json,
        untouched=_untouched(platform_id),
    )


@click.command(cls=TextCommand)
@click.argument("key")
@click.argument("role")
@click.argument("content")
@click.option("--message-id", metavar="ID", help="Replace this message instead of the last one.")
@platform_id_option
@click.option("--extra", metavar="JSON", help="A JSON object, given back unchanged.")
@tokens_option
@click.option("--dedup-key", metavar="ID", help="The platform's id of the edit: done once.")
@wait_option
@json_option
@click.pass_obj
def replace(
    settings: Settings,
    key: str,
    role: str,
    content: str,
    message_id: str | None,
    platform_id: str | None,
    extra: str | None,
    tokens: int | None,
    dedup_key: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Replace the last message of session KEY, or the one named.

    \b
    Example:
      backscroll replace telegram_user123 assistant "hello, and welcome"
    """
    message = ChatMessage(role, content_of(content), json_object(extra), tokens=tokens)
    send(
        settings,
        "replace",
        lambda producer, ack: producer.replace(
            key, message, message_id, platform_id=platform_id, dedup_key=dedup_key, ack=ack
        ),
        wait,
        as_json,
        untouched=_untouched(platform_id),
    )


@click.command(cls=TextCommand)
@click.argument("key")
@yes_option
@wait_option
@json_option
@click.pass_obj
def clear(settings: Settings, key: str, yes: bool, wait: bool, as_json: bool) -> None:
    """Remove the messages of session KEY, but keep the session.

    \b
    Example:
      backscroll clear --yes telegram_user123
    """
    confirm(f"Remove all messages of {key!r}?", yes)
    send(settings, "clear", lambda producer, ack: producer.clear(key, ack=ack), wait, as_json)


@click.command(cls=TextCommand)
@click.argument("key", required=False)
@click.option("--prefix", metavar="TEXT", help="Delete all sessions whose key begins with this.")
@yes_option
@wait_option
@json_option
@click.pass_obj
def delete(
    settings: Settings, key: str | None, prefix: str | None, yes: bool, wait: bool, as_json: bool
) -> None:
    """Delete session KEY with everything in it.

    \b
    Example:
      backscroll delete --yes telegram_user123
      backscroll delete --prefix telegram_
    """
    if (key is None) == (prefix is None):
        raise click.UsageError("give either KEY or --prefix")
    what = repr(key) if prefix is None else f"all sessions that begin with {prefix!r},"
    confirm(f"Delete {what} with everything in it?", yes)
    send(
        settings,
        "delete",
        lambda producer, ack: producer.delete(key, prefix=prefix, ack=ack),
        wait,
        as_json,
        touched="session",
    )


COMMANDS = (append, rollback, replace, clear, delete)
