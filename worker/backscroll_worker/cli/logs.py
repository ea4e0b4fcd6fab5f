"""Log lines on standard error: short ones for a command, dated ones for a service."""

from __future__ import annotations

import logging
from typing import Any, Final

import click
from rq.logutils import colorizer

from backscroll_worker.cli.output import one_line, printable

_DATED: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_SHORT: Final = "backscroll: %(message)s"


class _OneLineFormatter(logging.Formatter):
    """Writes a message on one line: text that it quotes must not forge a second one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return printable(super().formatException(ei))


class _StandardErrorHandler(logging.Handler):
    """Writes to the current standard error, not to that of the time it was created."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


def configure(level: str, *, dated: bool = False) -> None:
    """Log from `level` on; other packages log at `level` in a service, else only warnings."""
    handler = _StandardErrorHandler()
    handler.setFormatter(_OneLineFormatter(_DATED if dated else _SHORT, "%Y-%m-%dT%H:%M:%S%z"))
    logging.basicConfig(level=level if dated else "WARNING", handlers=[handler], force=True)
    logging.getLogger("backscroll").setLevel(level)
    logging.getLogger("peewee").setLevel("INFO")  # at DEBUG it logs the searched words
    colorizer.notty = True  # RQ colours its own lines when it sees a terminal; ours are plain
