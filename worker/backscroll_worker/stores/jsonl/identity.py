"""A directory's own id: `.store.json`, one JSON object with `version` (1) and `store_id`."""

from __future__ import annotations

import logging
import secrets
from typing import Final

import orjson

from backscroll_worker.stores.jsonl.files import Directory
from backscroll_worker.stores.jsonl.temporary import TEMPORARY, rename, write_temporary

log = logging.getLogger("backscroll.store")

NAME: Final = ".store.json"  # no key's file begins with a dot


def read_identity(directory: Directory) -> str | None:
    """The id; None when it has none yet, or nobody can read it."""
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
    """Give it one, durably."""
    content = orjson.dumps({"version": 1, "store_id": secrets.token_hex(16)}) + b"\n"
    write_temporary(directory, NAME, TEMPORARY, content, None, is_synced=True)
    rename(directory, TEMPORARY, NAME)
    directory.sync()
