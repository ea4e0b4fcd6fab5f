"""What goes wrong with the server, and what it means."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Final

import redis

# What a server answers for a reason of its own, whatever it is asked: it passes, or an operator has
# to do something. redis-py cuts the code off those for which it has a class.
_STATES: Final = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.NoPermissionError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.MasterDownError,
    redis.exceptions.TryAgainError,
)
_STATE_CODES: Final = (
    "MISCONF", "NOREPLICAS", "BUSY", "LOADING", "READONLY", "OOM", "NOPERM", "NOAUTH", "MASTERDOWN",
    "UNBLOCKED", "CLUSTERDOWN", "TRYAGAIN",
)  # fmt: skip


def is_state_of_server(error: Exception) -> bool:
    """Whether the server refuses whatever it is asked, for a while at least."""
    if isinstance(error, redis.exceptions.NoScriptError):
        return False
    return isinstance(error, _STATES) or str(error).startswith(_STATE_CODES)


def is_unreachable(error: Exception) -> bool:
    """Whether there is no answer at all."""
    return isinstance(error, redis.ConnectionError | redis.TimeoutError)


def may_pass(error: Exception) -> bool:
    """Whether a worker that starts should wait, rather than say that it is set up wrongly."""
    if isinstance(error, redis.AuthenticationError | redis.exceptions.AuthorizationError):
        return False
    if isinstance(error, redis.exceptions.NoPermissionError):
        return False
    if is_unreachable(error):
        return not any(_is_wrong_address(cause) for cause in _causes(error))
    return is_state_of_server(error) and not str(error).startswith(("NOPERM", "NOAUTH"))


def _is_wrong_address(error: BaseException) -> bool:
    """No such host name, or not the other side of TLS that was meant."""
    if isinstance(error, socket.gaierror):
        return error.errno != socket.EAI_AGAIN
    return isinstance(error, ssl.SSLError)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def described(error: Exception) -> str:
    """What is wrong with the server, for the log."""
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return f"it is loading its data ({error})"
    if is_unreachable(error):
        return f"it is unreachable ({error})"
    if isinstance(error, redis.exceptions.ReadOnlyError) or str(error).startswith("READONLY"):
        return f"it is a replica ({error}); connecting anew, as its name may lead elsewhere by now"
    return f"it refuses ({error})"
