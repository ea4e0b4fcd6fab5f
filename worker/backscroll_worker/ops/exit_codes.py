"""The exit codes of `backscroll`, and the errors that only the command line has."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

from backscroll.contract.errors import (
    AuthenticationFailedError,
    BackscrollError,
    InvalidInputError,
    InvalidSettingError,
    NotConfirmedError,
    OperationRefusedError,
    QueueFullError,
    ServerRefusedError,
    ServerUnavailableError,
    StoreUnavailableError,
    StoreUnusableError,
)


class NoWorkerError(BackscrollError):
    """No worker serves the queue, so no answer would come; start one and try again."""

    retryable = True

    def __init__(self, queue: str, missing_store: Path | None = None) -> None:
        text = f"no worker serves queue {queue!r}"
        if missing_store is None:
            super().__init__(f"{text}: start one with 'backscroll worker'")
        else:
            super().__init__(
                f"{text}, and there is no store at {missing_store}: start a worker with "
                "'backscroll worker', or name the store with --data-dir or --store"
            )


class OutputError(BackscrollError):
    """The output cannot be written: the disk is full, or it is not open."""


class OutputClosedError(OutputError):
    """The reader of the output has closed it, as `head` does."""


class ExitCode(IntEnum):
    """Every code there is; scripts may rely on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SERVER = 3
    STORE = 4
    NOT_CONFIRMED = 5
    QUEUE_FULL = 6
    REFUSED = 7
    INTERNAL = 70
    OUTPUT = 74
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "a check found a problem, or not everything could be done",
    ExitCode.USAGE: "usage: an invalid option, input or setting",
    ExitCode.SERVER: "the server is unreachable, or refuses",
    ExitCode.STORE: "the store cannot be used",
    ExitCode.NOT_CONFIRMED: "no worker, or no answer from it in time",
    ExitCode.QUEUE_FULL: "the queue is full",
    ExitCode.REFUSED: "the worker refused the operation",
    ExitCode.INTERNAL: "an unexpected error; --debug shows it",
    ExitCode.OUTPUT: "the output cannot be written",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C",
    ExitCode.OUTPUT_CLOSED: "the output pipe was closed (for example by head)",
}

_CODES: dict[type[BackscrollError], ExitCode] = {
    InvalidInputError: ExitCode.USAGE,
    InvalidSettingError: ExitCode.USAGE,
    ServerUnavailableError: ExitCode.SERVER,
    AuthenticationFailedError: ExitCode.SERVER,
    ServerRefusedError: ExitCode.SERVER,
    StoreUnavailableError: ExitCode.STORE,
    StoreUnusableError: ExitCode.STORE,
    NotConfirmedError: ExitCode.NOT_CONFIRMED,
    NoWorkerError: ExitCode.NOT_CONFIRMED,
    QueueFullError: ExitCode.QUEUE_FULL,
    OperationRefusedError: ExitCode.REFUSED,
    OutputClosedError: ExitCode.OUTPUT_CLOSED,
    OutputError: ExitCode.OUTPUT,
}


def exit_code(error: BackscrollError) -> ExitCode:
    """The code a command ends with that raised `error`."""
    known = (code for kind, code in _CODES.items() if isinstance(error, kind))
    return next(known, ExitCode.FAILED)
