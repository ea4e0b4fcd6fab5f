"""A write in several steps that is carried out to its end, also for a caller who is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def settled(write: Coroutine[Any, Any, T]) -> T:
    """What `write` returns or raises.

    A caller who is cancelled meanwhile is so once the write has ended: none of its steps is left
    out, and whatever the caller does next comes after it.
    """
    task = asyncio.ensure_future(write)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:  # once more; the first is raised
                continue
        if not task.cancelled():
            task.exception()  # or asyncio logs that nobody has asked for it
        raise
    return task.result()
