"""What a producer works with, and how any setting is declared: once, with default and meaning.

docs/settings.md is made from these declarations (`python -m tests.settings_page`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Self, TypeVar, cast
from urllib.parse import parse_qs, urlsplit

from backscroll.contract.errors import InvalidSettingError
from backscroll.contract.ids import DEFAULT_QUEUE
from backscroll.contract.message_checks import MAX_MESSAGE_BYTES, MAX_OPERATION_BYTES, Limits
from backscroll.redaction.hook import Policy, check_policy
from backscroll.redaction.ready import Redact
from backscroll.transport.connection import hide_password

LONGEST_TIMEOUT_SECONDS: Final = 31_536_000  # a year
MAX_RETRIES: Final = 1_000  # redis-py's back-off overflows with more
SCHEMES: Final = ("redis://", "rediss://", "unix://")

# Colons: an RQ queue's name is part of Redis keys that RQ takes apart at them.
_OPTIONS: Final = (
    "db", "username", "password", "socket_timeout", "socket_connect_timeout", "socket_keepalive",
    "health_check_interval", "client_name", "protocol", "max_connections",
)  # fmt: skip
_DATABASE = re.compile("/?[0-9]*")
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")

T = TypeVar("T")


@dataclass(frozen=True)
class Setting(Generic[T]):
    """A variable of the environment.

    `read` makes a value of its name and text, or raises `InvalidSettingError`. `shown` is how the
    documentation writes a default that depends on something. Spaces around a text mean nothing
    unless it `is_verbatim`.
    """

    name: str
    default: T
    read: Callable[[str, str], T]
    meaning: str
    shown: str = ""
    is_verbatim: bool = False

    def of(self, environ: Mapping[str, str]) -> T:
        """The value in `environ`; the default when it is missing or empty."""
        text = environ.get(self.name, "")
        text = text if self.is_verbatim else text.strip()
        return self.read(self.name, text) if text else self.default


@dataclass(frozen=True, slots=True)
class Whole:
    """Reads whole numbers from `least` to `most`."""

    least: int
    most: int | None = None

    def __call__(self, name: str, text: str) -> int:
        """The number that `text` is; raises `InvalidSettingError`."""
        try:
            value: object = int(text)
        except ValueError:
            value = text
        return self.check(name, value)

    def check(self, name: str, value: object) -> int:
        """`value`, if it is such a number; raises `InvalidSettingError`."""
        if type(value) is int and self.least <= value <= (
            value if self.most is None else self.most
        ):
            return value
        bounds = (
            f"from {self.least:,}" if self.most is None else f"from {self.least:,} to {self.most:,}"
        )
        raise InvalidSettingError(f"{name}: must be a whole number {bounds}, not {_shown(value)}")


def switch(name: str, text: str) -> bool:
    """Whether `text` is 1 (on) instead of 0 (off); raises `InvalidSettingError`."""
    if text not in ("0", "1"):
        raise InvalidSettingError(f"{name}: {text[:40]!r} is neither 1 (on) nor 0 (off)")
    return text == "1"


def check_url(name: str, value: object) -> str:
    """`value`, if it is the URL of a server; raises `InvalidSettingError`."""
    if not isinstance(value, str):
        raise InvalidSettingError(f"{name}: must be text, not {type(value).__name__}")
    if not value.startswith(SCHEMES):
        raise InvalidSettingError(
            f"{name}: {hide_password(value)!r} is not a server's URL; "
            f"it must start with {', '.join(SCHEMES[:-1])} or {SCHEMES[-1]}"
        )
    problem = _problem(value)  # which redis-py would take for another URL than the one meant
    if problem is not None:
        raise InvalidSettingError(f"{name}: {hide_password(value)!r} cannot be used: {problem}")
    return value


def check_queue_name(name: str, value: object) -> str:
    """`value`, if an RQ queue can have it as its name; raises `InvalidSettingError`."""
    if not isinstance(value, str) or not _QUEUE_NAME.fullmatch(value):
        raise InvalidSettingError(
            f"{name}: {_shown(value)} is not a queue name; use up to 100 of A-Z a-z 0-9 _ . -"
        )
    return value


REDIS_URL: Final = Setting[str | None](
    "BACKSCROLL_REDIS_URL", None, check_url,
    "The queue's server: `redis://`, `rediss://` or `unix://`. Without it `REDIS_URL` is used, and "
    "without that the command starts the embedded Valkey in the data directory. A `Producer` has "
    "no embedded server: it needs a URL.",
    shown="none",
)  # fmt: skip
FALLBACK_URL: Final = Setting[str | None](
    "REDIS_URL", None, check_url, "Used when `BACKSCROLL_REDIS_URL` is not set."
)
QUEUE: Final = Setting(
    "BACKSCROLL_QUEUE", DEFAULT_QUEUE, check_queue_name,
    "The RQ queue's name. One queue feeds one store.",
)  # fmt: skip
_DEPTHS: Final = Whole(1)
MAX_QUEUE_DEPTH: Final = Setting(
    "BACKSCROLL_MAX_QUEUE_DEPTH", 500_000, _DEPTHS,
    "Operations the queue may hold; beyond it a producer raises `QueueFullError`.",
)  # fmt: skip
_MESSAGE_SIZES: Final = Whole(1, MAX_OPERATION_BYTES)
MESSAGE_BYTES: Final = Setting(
    "BACKSCROLL_MAX_MESSAGE_BYTES", MAX_MESSAGE_BYTES, _MESSAGE_SIZES,
    "Bytes of a message's content and `extra` together; one call may carry 16 MiB.",
)  # fmt: skip
REDACT: Final = Setting(
    "BACKSCROLL_REDACT", False, switch,
    "With `1` producers and commands replace card numbers and API keys in what they send; see "
    "[Redaction](redaction.md). `Producer(redact=…)` comes before it.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProducerSettings:
    """One frozen set, checked before the first connection."""

    url: str
    queue: str
    max_queue_depth: int
    limits: Limits
    redact: Policy | None

    @classmethod
    def resolve(
        cls,
        url: str | None,
        queue: str | None,
        max_queue_depth: int | None,
        max_message_bytes: int | None,
        redact: Policy | None,
        environ: Mapping[str, str],
    ) -> Self:
        """Take what was given, else what `environ` says, else the default.

        Raises `InvalidSettingError`, also when nothing names a server.
        """
        found = server_url(url, environ)
        if found is None:
            raise InvalidSettingError(
                f"no server: pass url= or set {REDIS_URL.name}, "
                "for example to redis://localhost:6379/0"
            )
        name = QUEUE.of(environ) if queue is None else check_queue_name("queue", queue)
        depth, size = max_queue_depth, max_message_bytes
        return cls(
            found,
            name,
            MAX_QUEUE_DEPTH.of(environ)
            if depth is None
            else _DEPTHS.check("max_queue_depth", depth),
            Limits(
                MESSAGE_BYTES.of(environ)
                if size is None
                else _MESSAGE_SIZES.check("max_message_bytes", size)
            ),
            ready_policy(REDACT.of(environ)) if redact is None else check_policy(redact),
        )


def ready_policy(is_wanted: bool) -> Policy | None:
    """The policy of a producer that is given none, by what the setting says."""
    return Redact() if is_wanted else None


def server_url(url: str | None = None, environ: Mapping[str, str] = os.environ) -> str | None:
    """`url`, or what the environment says; None when nothing names a server.

    Raises `InvalidSettingError`.
    """
    if url is not None and url != "":
        return check_url("url", url)
    return REDIS_URL.of(environ) or FALLBACK_URL.of(environ)


def check_option(name: str, value: object, *, least: int, most: int | None = None) -> None:
    """Raise unless `value` is None or a whole number from `least` to `most`."""
    if value is not None:
        Whole(least, most).check(name, value)


def check_switch(name: str, value: object) -> bool:
    """`value` if it is true or false; raises `InvalidSettingError`."""
    if isinstance(value, bool):
        return value
    raise InvalidSettingError(f"{name}: must be True or False, not {_shown(value)}")


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
        return "only the number of a database may follow the port"
    try:
        host.encode("idna")
    except UnicodeError as error:
        return f"its host is not a valid name: {error}"
    return None


def _shown(value: object) -> str:
    """`value` as an error may show it: short, on one line."""
    simple = value is None or isinstance(value, str | int | float)
    return repr(value)[:100] if simple else type(value).__name__
