"""What goes wrong with the server, and what it means."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import redis

from backscroll.transport.connection import RETRYABLE, is_forbidden, is_refused_for_now


def is_state_of_server(error: Exception) -> bool:
    """Whether the server refuses whatever it is asked: it passes, or an operator has to act."""
    is_known = is_refused_for_now(error) or is_forbidden(error)
    return is_known or str(error).startswith(("NOPERM", "NOAUTH"))


def may_pass(error: Exception) -> bool:
    """Whether a worker that starts should wait, rather than say that it is set up wrongly."""
    if isinstance(error, redis.AuthenticationError | redis.exceptions.AuthorizationError):
        return False
    if isinstance(error, redis.exceptions.NoPermissionError):
        return False
    if isinstance(error, RETRYABLE):
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
    if isinstance(error, RETRYABLE):
        return f"it is unreachable ({error})"
    if isinstance(error, redis.exceptions.ReadOnlyError) or str(error).startswith("READONLY"):
        return f"it is a replica ({error}); connecting anew, as its name may lead elsewhere by now"
    return f"it refuses ({error})"
