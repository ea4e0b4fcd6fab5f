"""What the commands that change something share: confirmation, sending, reporting."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import orjson
from rich.console import Console

from backscroll import Producer, Receipt
from backscroll.contract.errors import InvalidInputError
from backscroll.transport.acks import Ack
from backscroll_worker.cli.access import open_producer
from backscroll_worker.cli.arguments import Seconds
from backscroll_worker.cli.output import counted, one_line, print_json
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings

C = TypeVar("C", bound=Callable[..., Any])
T = TypeVar("T")

wait_option: Callable[[C], C] = click.option(
    "--wait", is_flag=True, help="Wait until the worker has stored it."
)
yes_option: Callable[[C], C] = click.option("--yes", is_flag=True, help="Do not ask.")
timeout_option: Callable[[C], C] = click.option(
    "--timeout-seconds", type=Seconds(), default=600.0, show_default=True,
    help="Maximum time to wait for the worker, which goes on without us.",
)  # fmt: skip


def confirm(question: str, yes: bool) -> None:
    """Continue only with --yes or after a confirmation at the terminal; else exit."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("no terminal to confirm this at: add --yes")
    if not click.confirm(one_line(question), err=True):
        click.echo("nothing was done", err=True)
        raise click.exceptions.Exit(ExitCode.FAILED)


def send(
    settings: Settings,
    name: str,
    call: Callable[[Producer, Ack], Receipt],
    wait: bool,
    as_json: bool,
    touched: str = "message",
    untouched: str = "nothing to do",
) -> None:
    """Make the call and report the result: enqueued, or with `wait` what the worker did."""
    with open_producer(settings, needs_worker=wait) as producer:
        receipt = call(producer, "stored" if wait else "queued")
    if as_json:
        print_json(receipt)
        return
    if receipt.affected is None:
        result = "enqueued"
    elif receipt.duplicate:
        result = "was already stored"
    elif receipt.affected == 0:
        result = untouched
    else:
        result = f"stored, {counted(receipt.affected, touched)}"
    click.echo(f"{name} {receipt.op_id}: {result}")


def ask_worker(
    settings: Settings, timeout_seconds: float, doing: str, call: Callable[[Producer], T]
) -> T:
    """What the worker answers to a call that may take long.

    Raises `NoWorkerError`, and whatever `call` does.
    """
    with (
        open_producer(settings, needs_worker=True, timeout_seconds=timeout_seconds) as producer,
        Console(stderr=True).status(doing),
    ):
        return call(producer)


def content_of(argument: str) -> str:
    """The argument, or for - all of standard input unchanged.

    Raises `InvalidInputError` when standard input is empty or not UTF-8.
    """
    if argument != "-":
        return argument
    given = b"" if sys.stdin is None else sys.stdin.buffer.read()
    if not given:
        raise InvalidInputError("content", "standard input is empty; '' is an empty message")
    try:
        return given.decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            "content", f"standard input is not valid UTF-8 at byte {error.start}"
        ) from None


def json_value(name: str, text: str) -> Any:
    """What the JSON in the option of that name says; raises `InvalidInputError` if it is none."""
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise InvalidInputError(name, f"is not valid JSON: {error}") from None


def json_object(text: str | None) -> dict[str, Any] | None:
    """The JSON object in an option's value; raises `InvalidInputError` for anything else."""
    if text is None:
        return None
    value = json_value("extra", text)
    if not isinstance(value, dict):
        raise InvalidInputError("extra", "must be a JSON object, for example '{\"id\": 1}'")
    return value
