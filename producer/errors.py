"""Every error Backscroll raises, and for each whether trying the same call again can help."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from producer.operations import Operation


class BackscrollError(Exception):
    """The root: catch this to catch everything Backscroll raises on purpose."""

    retryable: ClassVar[bool] = False


class InvalidInputError(BackscrollError, ValueError):
    """An argument breaks the contract; nothing was enqueued.

    `field` names the argument, `limit` the bound it broke (None where there is no number).
    """

    def __init__(self, field: str, problem: str, limit: int | None = None) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.limit = limit


class InvalidSettingError(BackscrollError, ValueError):
    """A setting or URL cannot be used as given; the message names it and what would do."""


class ServerUnavailableError(BackscrollError):
    """The queue's server did not answer, also not after retries.

    `operation` is what was being sent, if anything. The server may have taken it before the
    connection broke, so send it again as it is (`Producer.send`): it keeps its op id, and the
    worker applies an op id once.
    """

    retryable = True
    operation: Operation | None = None


class AuthenticationFailedError(BackscrollError):
    """The server refused the user name or password."""


class ServerRefusedError(BackscrollError):
    """The server answered, but refuses what was asked of it (out of memory, missing right...)."""


class QueueFullError(BackscrollError):
    """The queue holds as many operations as it may; nothing was enqueued."""

    retryable = True

    def __init__(self, queue: str, limit: int) -> None:
        super().__init__(
            f"queue {queue!r} is full: it may hold {limit:,} operations. "
            "Is a worker running? `backscroll check` tells."
        )
        self.queue = queue
        self.limit = limit


class SpoolFullError(BackscrollError):
    """The server is away and the spool holds as much as it may; the operation was not kept."""

    retryable = True

    def __init__(self, path: str, max_bytes: int) -> None:
        super().__init__(
            f"the spool {path} is full: it may hold {max_bytes:,} bytes. It empties by itself "
            "when the server is back; spool_max_bytes= lets it grow further."
        )
        self.path = path
        self.max_bytes = max_bytes


class SpoolUnusableError(BackscrollError):
    """The spool's file cannot be used (disk full, in use, damaged); the operation was not kept."""


class NotConfirmedError(BackscrollError):
    """The operation was enqueued, but its confirmation did not come in time.

    It may still be applied. Sending `operation` again is safe.
    """

    retryable = True

    def __init__(self, problem: str, operation: Operation) -> None:
        super().__init__(problem)
        self.operation = operation


class OperationRefusedError(BackscrollError):
    """The worker could not carry out this one operation; the message is the worker's."""


class MalformedJobError(OperationRefusedError):
    """A job's payload is not an operation of the contract."""


class StoreUnavailableError(BackscrollError):
    """The store cannot be used right now (disk full, locked, I/O error); nothing was changed."""

    retryable = True


class StoreUnusableError(BackscrollError):
    """The store at this place will not work as it is: not a store, damaged, or too new."""
