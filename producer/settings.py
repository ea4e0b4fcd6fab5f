"""What a producer works with: its arguments, or the environment where it is not told."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from producer.errors import InvalidSettingError
from producer.messages import MAX_MESSAGE_BYTES, MAX_OPERATION_BYTES, Limits

DEFAULT_QUEUE: Final = "backscroll"
DEFAULT_MAX_QUEUE_DEPTH: Final = 500_000
SCHEMES: Final = ("redis://", "rediss://", "unix://")
URL_VARIABLES: Final = ("BACKSCROLL_REDIS_URL", "REDIS_URL")

# Colons: an RQ queue's name is part of Redis keys that RQ takes apart at them.
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
        name = queue or environ.get("BACKSCROLL_QUEUE") or DEFAULT_QUEUE
        return cls(found, check_queue_name(name), depth, Limits(message_bytes))


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
        if value:
            if not value.startswith(SCHEMES):
                raise InvalidSettingError(
                    f"{name}: {hide_password(value)!r} is no server's URL; "
                    f"it must start with {', '.join(SCHEMES[:-1])} or {SCHEMES[-1]}"
                )
            return value
    return None


def hide_password(url: str) -> str:
    """`url` as it may be shown to people: with *** for its password."""
    url = re.sub(r"(?<=://)([^:/@]*):(.*)@", r"\1:***@", url)  # a password may hold anything
    return re.sub(r"([?&](?:ssl_)?password=)[^&]*", r"\1***", url)


def check_queue_name(name: str) -> str:
    """`name` if an RQ queue can have it."""
    if not _QUEUE_NAME.fullmatch(name):
        raise InvalidSettingError(
            f"queue: {name[:100]!r} is no queue name; use up to 100 of A-Z a-z 0-9 _ . -"
        )
    return name
