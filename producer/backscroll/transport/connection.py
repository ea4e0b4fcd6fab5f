"""How a producer connects to the server, and the errors that say why it cannot.

redis-py would repeat a command by itself after a lost reply, and so enqueue twice. Its retries
are off here; the clients repeat a whole call instead, with the same op id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.retry import Retry

from backscroll.contract.errors import (
    AuthenticationFailedError,
    BackscrollError,
    InvalidSettingError,
    ServerRefusedError,
    ServerUnavailableError,
    carrying,
)
from backscroll.contract.operations import Operation

T = TypeVar("T")

SOCKET_TIMEOUT_SECONDS: Final = 10.0
RETRYABLE: Final = (redis.ConnectionError, redis.TimeoutError)

# Errors of a server that is reachable but cannot accept a write now. It may later, or another
# server under its name may. In a script's error Redis 6 has the word in the middle of the text.
_REFUSED_FOR_NOW: Final = (
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.MasterDownError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
)
_REFUSED_FOR_NOW_WORDS: Final = re.compile(
    r"(?:^|[ -])(?:READONLY|OOM|MISCONF|NOREPLICAS|BUSY|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN"
    r"|UNBLOCKED)\b"
)

_REFUSED: Final = "redis-py refuses its options"
_OPTIONS: Final[dict[str, Any]] = {
    "retry": None,
    "socket_timeout": SOCKET_TIMEOUT_SECONDS,
    "socket_connect_timeout": 5.0,
}


def connect(url: str) -> redis.Redis:
    """A client for `url`, not yet connected. Each connection resolves the server's name anew."""
    with _usable_url(url):
        client = redis.Redis.from_url(url, **_OPTIONS)
        _check_options(client.connection_pool)
        return client


def backoff() -> ExponentialWithJitterBackoff:
    """How long to wait before each new try: from 50 ms up to a second, with jitter."""
    return ExponentialWithJitterBackoff(cap=1.0, base=0.05)


def retries_of(count: int) -> Retry:
    """Calls a function again after an error that `is_retryable`, up to `count` times."""
    return Retry(backoff(), count, (redis.RedisError,))


def new_connection_at_once(count: int) -> Retry:
    """Calls a function again, immediately and at most once, after a broken connection.

    For producers with a spool, where everything else waits.
    """
    return Retry(NoBackoff(), min(count, 1), (redis.ConnectionError,))


def is_retryable(error: Exception) -> bool:
    """Whether the same call may succeed on a new connection."""
    return is_refused_for_now(error) or (
        isinstance(error, RETRYABLE) and not isinstance(error, redis.AuthenticationError)
    )


def with_retries(retry: Retry, attempt: Callable[[int], T]) -> tuple[T, int]:
    """What `attempt` returns, and how often it failed; its argument is how often it has by then."""
    failures = 0

    def count(_error: Exception) -> None:
        nonlocal failures
        failures += 1

    return retry.call_with_retry(lambda: attempt(failures), count, is_retryable), failures


def is_refused_for_now(error: Exception) -> bool:
    """Whether the server is reachable and refuses, for a reason that is not in the call.

    It is a replica now, is out of memory, cannot save, starts, lacks replicas or runs a script.
    The caller should disconnect: the server's name may lead to another one by now.
    """
    if isinstance(error, _REFUSED_FOR_NOW):
        return True
    return isinstance(error, redis.ResponseError) and bool(
        _REFUSED_FOR_NOW_WORDS.search(str(error).partition(" script: ")[0])
    )


def hide_password(url: str) -> str:
    """`url` as it may be shown to people: with *** for its password."""
    url = re.sub(r"(?<=://)([^:/@]*):(.*)@", r"\1:***@", url)  # a password may hold anything
    return re.sub(r"([?&](?:ssl_)?password=)[^&]*", r"\1***", url)


@contextmanager
def server_errors(url: str, operation: Operation | None = None) -> Iterator[None]:
    """Turn redis-py's errors into ours, with the URL in them but never its password."""
    try:
        yield
    except redis.RedisError as error:
        raise explain(error, url, operation) from error


def explain(error: Exception, url: str, operation: Operation | None = None) -> BackscrollError:
    """Our error for one of redis-py's."""
    return carrying(operation, _explained(error, url))


def _explained(error: Exception, url: str) -> BackscrollError:
    shown, said = hide_password(url), str(error).rstrip(".")
    cause = said.partition(" script: ")[0]
    if isinstance(error, redis.AuthenticationError) or said.startswith(("NOAUTH", "WRONGPASS")):
        return AuthenticationFailedError(
            f"{shown} refused the login: {said}. Put user and password into the URL: "
            "redis://user:password@host:port/0"
        )
    if is_refused_for_now(error):
        return ServerUnavailableError(
            f"{shown} is reachable but cannot accept this now: {cause}. "
            "`backscroll check` shows what is wrong"
        )
    if isinstance(error, RETRYABLE):
        return ServerUnavailableError(f"no answer from {shown}: {said}. {_remedy(url, said)}")
    if is_forbidden(error):
        said = (
            f"{cause}. This user lacks a permission: ACL LOG on the server names it, "
            "deploy/redis/users.acl lists those that Backscroll needs"
        )
    return ServerRefusedError(f"{shown} refused: {said}.")


def is_forbidden(error: Exception) -> bool:
    """Whether the server's ACL keeps this user from what was asked, perhaps within a script."""
    # Within a script these errors have no code but "ERR": the first is Valkey's, the other Redis'.
    return isinstance(error, redis.exceptions.NoPermissionError) or str(error).startswith(
        ("ACL failure in script", "The user executing the script can't")
    )


def _remedy(url: str, said: str) -> str:
    """What to do about a connection that failed with this error."""
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return (
            "Name the CA that signed the server's certificate with ?ssl_ca_certs=/path/to/ca.pem "
            "in the URL, and the host as the certificate has it."
        )
    if url.startswith("rediss://"):
        if any(sign in said for sign in ("No such file", "Permission denied", "X509", "PEM")):
            return "Are the files that the URL names readable (ssl_ca_certs, ssl_certfile ...)?"
        return "Is the server running there, and with TLS on that port? redis:// is without TLS."
    return "Is the server running there? If it runs elsewhere, set url= or BACKSCROLL_REDIS_URL."


def _check_options(pool: Any) -> None:
    """Have redis-py check the URL's options now, not with the first call."""
    try:
        pool.connection_class(**pool.connection_kwargs)
    except Exception as error:
        raise ValueError(f"{_REFUSED}: {error}") from None


@contextmanager
def _usable_url(url: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        # Where the password ends is unknown if it contains a "/", and the error may quote a part.
        scheme, _, rest = url.partition("://")
        shown, problem = hide_password(url), str(error)
        if "@" in rest:
            shown = hide_password(f"{scheme}://***@{rest.rpartition('@')[2]}")
        if not problem.startswith(("Invalid value for", _REFUSED)):
            problem = (
                "it is not scheme://user:password@host:port/0; in a password, "
                "write / as %2F, # as %23, ? as %3F, @ as %40, % as %25"
            )
        raise InvalidSettingError(f"url: {shown!r} cannot be used: {problem}") from None
