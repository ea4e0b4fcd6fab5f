"""Attachments on the command line: the command for their bytes, and files to be attached."""

from __future__ import annotations

import mimetypes
import sys
from pathlib import Path
from typing import Final

import click

from backscroll import Attachment
from backscroll.contract.errors import InvalidInputError
from backscroll_worker.cli.access import open_reader
from backscroll_worker.cli.arguments import TextCommand
from backscroll_worker.cli.output import note
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.transfer.output import write_file, write_out

_KINDS: Final = ("image", "audio", "video")


def attachment_of(path: Path) -> Attachment:
    """The file as an attachment, of the kind that its name says.

    Raises `InvalidInputError` where it cannot be read.
    """
    mime_type, _ = mimetypes.guess_type(path.name)
    kind = (mime_type or "").partition("/")[0]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInputError("attach", f"cannot read {path}: {error.strerror}") from None
    return Attachment(kind if kind in _KINDS else "file", path.name, mime_type, data=data)


@click.command(cls=TextCommand)
@click.argument("key")
@click.argument("sha256")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file, completely or not at all, instead of standard output.",
)  # fmt: skip
@click.pass_obj
def attachment(settings: Settings, key: str, sha256: str, output: Path | None) -> None:
    """Write the bytes of an attachment.

    SHA256 is what 'backscroll load --json' shows of an attachment of session KEY. The exit code is
    1 when no message of the session has it.

    \b
    Example:
      backscroll attachment telegram_user123 SHA256 --output cat.png
    """
    if output is None and sys.stdout.isatty():
        raise click.UsageError("the bytes are not for a terminal: redirect them, or give --output")
    with open_reader(settings) as reader:
        data = reader.attachment(key, sha256)
    if data is None:
        note(f"no message of session {key!r} has this attachment")
        raise click.exceptions.Exit(ExitCode.FAILED)
    if output is None:
        write_out([data])
    else:
        write_file(output, [data])


COMMANDS = (attachment,)
