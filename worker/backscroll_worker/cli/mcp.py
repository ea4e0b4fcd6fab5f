"""The command mcp: the history as tools of a model's client."""

from __future__ import annotations

import os
import signal
from functools import partial

import click

from backscroll.integrations.tools import EVERYTHING, Scope
from backscroll_worker.cli import logs
from backscroll_worker.cli.access import open_reader
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings


@click.command()
@click.option("--key", help="Only this session.")
@click.option("--author", help="Only what this author said.")
@click.option("--channel", help="Only sessions of this channel.")
@click.option("--room", help="Only sessions of this room.")
@click.option("--sender", help="Only sessions of this sender.")
@click.option("--agent", help="Only sessions of this agent.")
@click.pass_obj
def mcp(settings: Settings, /, **fields: str | None) -> None:
    """Serve the history to an MCP client, read-only.

    Its tools search messages, show a session and list sessions, on standard input and output.
    The options say what they can reach; without one they reach everything.

    \b
    Example:
      backscroll mcp
      backscroll mcp --author 42
      backscroll --store sqlite:///srv/chat.db mcp --channel telegram
    """
    from backscroll.integrations.mcp import serve  # noqa: PLC0415 - it needs a package of its own

    is_limited = any(value is not None for value in fields.values())
    scope = Scope(**fields) if is_limited else EVERYTHING
    logs.configure(settings.log_level, dated=True)
    # The SDK waits for its input in a way that nothing interrupts; there is nothing to finish.
    signal.signal(signal.SIGINT, lambda *_: os._exit(ExitCode.INTERRUPTED))
    serve(partial(open_reader, settings), scope)


COMMANDS = (mcp,)
