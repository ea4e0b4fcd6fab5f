"""What a producer works with: its arguments, or the environment where it is not told."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, cast
from urllib.parse import parse_qs, urlsplit

from backscroll.contract.errors import InvalidSettingError
from backscroll.contract.ids import DEFAULT_QUEUE
from backscroll.contract.messages import MAX_MESSAGE_BYTES, MAX_OPERATION_BYTES, Limits
from backscroll.transport.connection import hide_password

DEFAULT_MAX_QUEUE_DEPTH: Final = 500_000
LONGEST_TIMEOUT_SECONDS: Final = 31_536_000  # a year
MAX_RETRIES: Final = 1_000  # redis-py's back-off overflows with more
SCHEMES: Final = ("redis://", "rediss://", "unix://")
URL_VARIABLES: Final = ("BACKSCROLL_REDIS_URL", "REDIS_URL")

# Colons: an RQ queue's name is part of Redis keys that RQ takes apart at them.
_OPTIONS: Final = (
    "db", "username", "password", "socket_timeout", "socket_connect_timeout", "socket_keepalive",
    "health_check_interval", "client_name", "protocol", "max_connections",
)  # fmt: skip
_DATABASE = re.compile("/?[0-9]*")
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True, slots=True)
class ProducerSettings:
    """One frozen set, checked before the first connection."""

    url: str
    queue: str
    max_queue_depth: int
    limits: Limits

    @classmethod
    def resolve(
        cls,
        url: str | None,
        queue: str | None,
        max_queue_depth: int | None,
        max_message_bytes: int | None,
        environ: Mapping[str, str],
    ) -> Self:
        """Take what was given, else what `environ` says, else the default."""
        check_option("max_queue_depth", max_queue_depth, least=1)
        check_option("max_message_bytes", max_message_bytes, least=1, most=MAX_OPERATION_BYTES)
        found = server_url(url, environ)
        if found is None:
            raise InvalidSettingError(
                f"no server: pass url= or set {URL_VARIABLES[0]}, "
                "for example to redis://localhost:6379/0"
            )
        depth = max_queue_depth or whole_number(
            environ, "BACKSCROLL_MAX_QUEUE_DEPTH", DEFAULT_MAX_QUEUE_DEPTH, least=1
        )
        message_bytes = max_message_bytes or whole_number(
            environ,
            "BACKSCROLL_MAX_MESSAGE_BYTES",
            MAX_MESSAGE_BYTES,
            least=1,
            most=MAX_OPERATION_BYTES,
        )
        name = environ.get("BACKSCROLL_QUEUE") or DEFAULT_QUEUE if queue is None else queue
        return cls(found, check_queue_name(name), depth, Limits(message_bytes))


def check_option(name: str, value: object, *, least: int, most: int | None = None) -> None:
    """Raise unless `value` is None or a whole number from `least` to `most`."""
    if value is None:
        return
    if type(value) is not int or value < least or (most is not None and value > most):
        bounds = f"from {least:,}" if most is None else f"from {least:,} to {most:,}"
        raise InvalidSettingError(f"{name}: must be a whole number {bounds}, not {_shown(value)}")


def check_waiting(
    timeout_seconds: object, retries: object, spool: object, spool_max_bytes: object
) -> None:
    """Raise unless a producer can wait, try again and keep operations as these say."""
    is_number = isinstance(timeout_seconds, int | float) and type(timeout_seconds) is not bool
    if not is_number or not 0 <= cast(float, timeout_seconds) <= LONGEST_TIMEOUT_SECONDS:
        raise InvalidSettingError(
            f"timeout_seconds: must be a number from 0 to {LONGEST_TIMEOUT_SECONDS:,}, "
            f"not {_shown(timeout_seconds)}"
        )
    check_option("retries", retries, least=0, most=MAX_RETRIES)
    check_option("spool_max_bytes", spool_max_bytes, least=1, most=2**62)
    is_path = isinstance(spool, str | Path) and bool(str(spool)) and "\0" not in str(spool)
    if spool is not None and not is_path:
        raise InvalidSettingError(f"spool: must be the path of a file, not {_shown(spool)}")


def whole_number(
    environ: Mapping[str, str], name: str, default: int, *, least: int, most: int | None = None
) -> int:
    """The variable `name` as a whole number from `least` to `most`; `default` when unset."""
    text = environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        raise InvalidSettingError(f"{name}: {text[:40]!r} is not a whole number") from None
    if value < least or (most is not None and value > most):
        bounds = f"at least {least:,}" if most is None else f"from {least:,} to {most:,}"
        raise InvalidSettingError(f"{name}: must be {bounds}, not {value:,}")
    return value


def server_url(url: str | None = None, environ: Mapping[str, str] = os.environ) -> str | None:
    """`url`, or what the environment says, checked; None when nobody says anything."""
    for name, value in [("url", url), *((name, environ.get(name)) for name in URL_VARIABLES)]:
        if value is not None and not isinstance(value, str):
            raise InvalidSettingError(f"{name}: must be text, not {type(value).__name__}")
        if value:
            if not value.startswith(SCHEMES):
                raise InvalidSettingError(
                    f"{name}: {hide_password(value)!r} is no server's URL; "
                    f"it must start with {', '.join(SCHEMES[:-1])} or {SCHEMES[-1]}"
                )
            _check_shape(name, value)
            return value
    return None


def _check_shape(name: str, url: str) -> None:
    """Refuse what redis-py would take for another URL than the one that was meant."""
    problem = _problem(url)
    if problem is not None:
        raise InvalidSettingError(f"{name}: {hide_password(url)!r} cannot be used: {problem}")


def _problem(url: str) -> str | None:
    if not url.isprintable():
        return "it has a character that is not printable"
    try:
        parts = urlsplit(url)
        host, options = parts.hostname or "", parse_qs(parts.query)
    except ValueError:
        return None  # redis-py says more about it
    for option in options:
        if option not in _OPTIONS and not option.startswith("ssl_"):
            return f"{option[:40]!r} is not an option; these are: {', '.join(_OPTIONS)} and ssl_…"
    if parts.scheme == "unix" or "@" in parts.path:  # a password with a slash: so says redis-py
        return None
    if not _DATABASE.fullmatch(parts.path):
        return "behind the port only the number of a database may stand"
    try:
        host.encode("idna")
    except UnicodeError as error:
        return f"its host is not the name of one: {error}"
    return None


def check_queue_name(name: str) -> str:
    """`name` if an RQ queue can have it."""
    if not isinstance(name, str) or not _QUEUE_NAME.fullmatch(name):
        raise InvalidSettingError(
            f"queue: {_shown(name)} is not a queue name; use up to 100 of A-Z a-z 0-9 _ . -"
        )
    return name


def _shown(value: object) -> str:
    """`value` as an error may show it: short, on one line."""
    simple = value is None or isinstance(value, str | int | float)
    return repr(value)[:100] if simple else type(value).__name__
