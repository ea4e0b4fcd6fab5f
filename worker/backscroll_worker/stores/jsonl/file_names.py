"""The names of a session's files: keys to file names and back.

A key of letters, digits, `_` and `-` is its own file name, as in the original's directories. Any
other character, `%` included, becomes its UTF-8 bytes in percent-encoding, so no two keys share a
file. A name too long for a directory entry is cut and ends in `%~` and the key's SHA-256, which no
encoded key contains; the key is then in the session's sidecar.
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

# Letters for the original (Unicode's Alphabetic) but not for str.isalnum.
_CIRCLED: Final = re.compile("[\u24b6-\u24e9\U0001f130-\U0001f149\U0001f150-\U0001f189]")


class SessionNames(NamedTuple):
    """The names of a session's files: messages, sidecar, and op ids after its deletion."""

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
    """The key of the session with the messages file `path`; None if it is not one."""
    stem = path.name.removesuffix(MESSAGES_SUFFIX)
    if stem == path.name:
        return None
    try:
        if _DIGEST_MARK in stem:
            key = key_in_sidecar(path.with_name(stem + SIDECAR_SUFFIX))
        else:
            key = stem if _ORDINARY.fullmatch(stem) else unquote(stem, errors="strict")
        return key if _file_name(check_key(key), MESSAGES_SUFFIX) == path.name else None
    except (InvalidInputError, UnicodeError):
        return None


def beginning(prefix: str) -> str:
    """How the names of files begin whose session's key begins with `prefix`; others may, too."""
    return _prefix(_characters(prefix))


def damaged_name(name: str) -> str:
    """The name of the file for damaged content of file `name`, which is cut if it is too long."""
    room = _MAX_NAME_BYTES - len(DAMAGED_SUFFIX)
    return name.encode()[:room].decode(errors="ignore") + DAMAGED_SUFFIX


def key_of_aside(path: Path) -> str | None:
    """The key of the session from whose file `path` was set aside; None if it is unknown."""
    name = path.name
    for suffix in (*ASIDE_SUFFIXES, SIDECAR_SUFFIX, GONE_SUFFIX):
        name = name.removesuffix(suffix)
    stem = _NUMBER.sub("", name).removesuffix(MESSAGES_SUFFIX)
    return key_of(path.with_name(stem + MESSAGES_SUFFIX))


def key_in_sidecar(sidecar: Path) -> str | None:
    """The key in a sidecar; None if it is unreadable."""
    try:
        key = orjson.loads(sidecar.read_bytes())["key"]
        return check_key(key)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _file_name(key: str, suffix: str) -> str:
    if _ORDINARY.fullmatch(key):
        return key + suffix
    characters = _characters(key)
    name = "".join(characters) + suffix
    if len(name.encode()) <= _MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f"{_prefix(characters)}{_DIGEST_MARK}{digest}{suffix}"


def _characters(key: str) -> list[str]:
    return [char if _is_plain(char) else _encoded(char) for char in key]


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
    """As many whole characters from the start as fit."""
    size, count = 0, 0
    for char in characters:
        size += len(char.encode())
        if size > _PREFIX_BYTES:
            break
        count += 1
    return "".join(characters[:count])
