"""A directory's own id: `.store.json`, one JSON object with `version` (1) and `store_id`."""

from __future__ import annotations

import logging
import secrets
from typing import Final

import orjson

from backscroll_worker.stores.jsonl.files import Directory

log = logging.getLogger("backscroll.store")

NAME: Final = ".store.json"  # the file name of a key never begins with a dot


def read_identity(directory: Directory) -> str | None:
    """The id; None if the directory has none yet, or it is unreadable."""
    content = directory.read(NAME)
    if content is None:
        return None
    try:
        found = orjson.loads(content)["store_id"]
    except (ValueError, TypeError, KeyError):
        log.warning("%s is damaged", directory.locate(NAME))
        return None
    return found if isinstance(found, str) else None


def write_identity(directory: Directory) -> None:
    """Give the directory an id, durably."""
    content = orjson.dumps({"version": 1, "store_id": secrets.token_hex(16)}) + b"\n"
    directory.replace(NAME, content)
    directory.sync()
