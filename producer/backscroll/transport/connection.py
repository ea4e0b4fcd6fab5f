"""How a producer reaches the server, and what it says when it cannot.

redis-py would repeat a command by itself after a lost reply, and so enqueue twice. Its retries
are off here; the clients repeat a whole call instead, with the same op id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

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

SOCKET_TIMEOUT_SECONDS: Final = 10.0
RETRYABLE: Final = (redis.ConnectionError, redis.TimeoutError)

# What a server says that is there but cannot take a write now, though it may later, or another
# one under its name. Within a script's error Redis 6 has the word in the middle of the text.
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
    """Calls a function again, at once and once at most, when the connection was broken.

    For who has a spool: everything else waits there.
    """
    return Retry(NoBackoff(), min(count, 1), (redis.ConnectionError,))


def is_retryable(error: Exception) -> bool:
    """Whether the same call may succeed on a new connection."""
    return is_refused_for_now(error) or (
        isinstance(error, RETRYABLE) and not isinstance(error, redis.AuthenticationError)
    )


def is_refused_for_now(error: Exception) -> bool:
    """Whether the server is there and refuses, but for no reason that lies in the call.

    It is a replica now, is out of memory, cannot save, starts, lacks replicas or runs a script.
    The connection is better given up: the server's name may lead to another one by now.
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
    shown, said = hide_password(url), str(error).rstrip(".")
    if isinstance(error, redis.AuthenticationError) or said.startswith(("NOAUTH", "WRONGPASS")):
        return carrying(
            operation,
            AuthenticationFailedError(
                f"{shown} refused the login: {said}. Put user and password into the URL: "
                "redis://user:password@host:port/0"
            ),
        )
    if is_refused_for_now(error):
        return carrying(
            operation,
            ServerUnavailableError(
                f"{shown} is there but cannot take this now: {said.partition(' script: ')[0]}. "
                "`backscroll check` says what is wrong with it"
            ),
        )
    if isinstance(error, RETRYABLE):
        return carrying(
            operation,
            ServerUnavailableError(f"no answer from {shown}: {said}. {_remedy(url, said)}"),
        )
    if is_forbidden(error):
        said = (
            f"{said.partition(' script: ')[0]}. This user lacks a right: ACL LOG on the server "
            "names it, and deploy/redis/users.acl those that Backscroll needs"
        )
    return carrying(operation, ServerRefusedError(f"{shown} refused: {said}."))


def is_forbidden(error: Exception) -> bool:
    """Whether the server's ACL keeps this user from what was asked, perhaps within a script."""
    # Of what a script may not do, servers say only "ERR": Valkey in the one way, Redis the other.
    return isinstance(error, redis.exceptions.NoPermissionError) or str(error).startswith(
        ("ACL failure in script", "The user executing the script can't")
    )


def _remedy(url: str, said: str) -> str:
    """What to do about a connection that failed with these words."""
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return (
            "Name the CA that signed the server's certificate with ?ssl_ca_certs=/path/to/ca.pem "
            "in the URL, and the host as the certificate has it."
        )
    if url.startswith("rediss://"):
        if any(sign in said for sign in ("No such file", "Permission denied", "X509", "PEM")):
            return "Can the files be read that the URL names (ssl_ca_certs, ssl_certfile ...)?"
        return "Is the server running there, and with TLS on that port? redis:// is without."
    return (
        "Is the server running there? If it is elsewhere, say so with url= or BACKSCROLL_REDIS_URL."
    )


def _check_options(pool: Any) -> None:
    """Have redis-py look at the URL's options now, and not with the first call."""
    try:
        pool.connection_class(**pool.connection_kwargs)
    except Exception as error:
        raise ValueError(f"{_REFUSED}: {error}") from None


@contextmanager
def _usable_url(url: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        # Where the password ends is not known if it holds a "/", and the error may quote a part.
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
