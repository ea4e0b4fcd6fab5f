"""Which file a session lies in: keys to file names and back.

A key of letters, digits, `_` and `-` is its own file name, as it was in the original's folders.
Every other character becomes its UTF-8 bytes in percent-encoding, `%` included, so that no two
keys share a file. A name too long for a directory entry is cut and ends in `%~` and the key's
SHA-256, which no encoded key can; the session's sidecar then tells the key.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote

import orjson

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import check_key

MESSAGES_SUFFIX: Final = ".jsonl"
SIDECAR_SUFFIX: Final = ".meta.json"
GONE_SUFFIX: Final = ".gone.json"
EDITED_SUFFIX: Final = ".edited"
DAMAGED_SUFFIX: Final = ".damaged"
ASIDE_SUFFIXES: Final = (EDITED_SUFFIX, DAMAGED_SUFFIX)

_MAX_NAME_BYTES: Final = 255
_PREFIX_BYTES: Final = 160
_DIGEST_MARK: Final = "%~"
_ORDINARY: Final = re.compile(r"[A-Za-z0-9_-]{1,240}")

_NUMBER: Final = re.compile(r"(?<=.jsonl)\.[0-9]+$")

# Letters to the original (Unicode's Alphabetic) that str.isalnum does not count.
_CIRCLED: Final = re.compile("[\u24b6-\u24e9\U0001f130-\U0001f149\U0001f150-\U0001f189]")


class SessionNames(NamedTuple):
    """The names of a session's files: messages, sidecar, and what is left of it once gone."""

    messages: str
    sidecar: str
    gone: str

    @staticmethod
    @functools.lru_cache(maxsize=16_384)
    def of(key: str) -> SessionNames:
        return SessionNames(
            _file_name(key, MESSAGES_SUFFIX),
            _file_name(key, SIDECAR_SUFFIX),
            _file_name(key, GONE_SUFFIX),
        )


def key_of(path: Path) -> str | None:
    """The key of the session whose messages `path` holds; None when it is no session's file."""
    stem = path.name.removesuffix(MESSAGES_SUFFIX)
    if stem == path.name:
        return None
    try:
        if _DIGEST_MARK in stem:
            key = key_told_by(path.with_name(stem + SIDECAR_SUFFIX))
        else:
            key = stem if _ORDINARY.fullmatch(stem) else unquote(stem, errors="strict")
        return key if _file_name(check_key(key), MESSAGES_SUFFIX) == path.name else None
    except (InvalidInputError, UnicodeError):
        return None


def damaged_name(name: str) -> str:
    """The file for what is damaged of another, whose name is cut where there is no room for it."""
    room = _MAX_NAME_BYTES - len(DAMAGED_SUFFIX)
    return name.encode()[:room].decode(errors="ignore") + DAMAGED_SUFFIX


def key_of_aside(path: Path) -> str | None:
    """The key of the session from whose files something was set aside; None if nobody knows."""
    name = path.name
    for suffix in (*ASIDE_SUFFIXES, SIDECAR_SUFFIX, GONE_SUFFIX):
        name = name.removesuffix(suffix)
    stem = _NUMBER.sub("", name).removesuffix(MESSAGES_SUFFIX)
    return key_of(path.with_name(stem + MESSAGES_SUFFIX))


def key_told_by(sidecar: Path) -> str | None:
    """The key in a sidecar; None when it cannot be read."""
    try:
        key = orjson.loads(sidecar.read_bytes())["key"]
        return check_key(key)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _file_name(key: str, suffix: str) -> str:
    if _ORDINARY.fullmatch(key):
        return key + suffix
    characters = [char if _is_plain(char) else _encoded(char) for char in key]
    name = "".join(characters) + suffix
    if len(name.encode()) <= _MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f"{_prefix(characters)}{_DIGEST_MARK}{digest}{suffix}"


def _is_plain(char: str) -> bool:
    return (
        char in "_-"
        or char.isalnum()
        or unicodedata.category(char) in ("Mn", "Mc")
        or _CIRCLED.match(char) is not None
    )


def _encoded(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode())


def _prefix(characters: list[str]) -> str:
    """As many of the first characters as fit, none of them cut."""
    size, count = 0, 0
    for char in characters:
        size += len(char.encode())
        if size > _PREFIX_BYTES:
            break
        count += 1
    return "".join(characters[:count])
