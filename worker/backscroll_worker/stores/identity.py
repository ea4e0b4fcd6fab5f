"""Whether a queue goes into the store that it went into before.

A worker that finds another store than last time on its queue has the wrong URL, or the store was
replaced: jobs would go where nobody looks for them, and be missing where they were
expected. The queue knows its store by the key `backscroll:<queue>:store`; a server that has lost
its data is given it again, and a copy of a store is that store.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import redis
from redis.exceptions import NoPermissionError

from backscroll.contract.errors import StoreUnavailableError, StoreUnusableError
from backscroll.transport.rq_protocol import own_key
from backscroll_worker.contract.store import Store

log = logging.getLogger("backscroll.worker")

ANY_STORE: Final = "any"
"""Given for the id of a store that may take another's place."""


def check_present(connection: redis.Redis, queue: str, store: Store, accepted: str | None) -> None:
    """See that no empty store is begun where that of `queue` should be, before it is acquired.

    A disk that is not mounted, or a store that was moved away, is brought back; a new one would be
    in its place then. Raises `StoreUnavailableError`, and redis-py's errors.
    """
    if accepted is not None or store.exists():
        return
    try:
        known: Any = connection.get(own_key(queue, "store"))
    except NoPermissionError:
        return  # `recognize` warns of it
    known_id, _, known_url = (known or b"").decode(errors="replace").partition(" ")
    if known:
        raise StoreUnavailableError(
            f"queue {queue!r} was stored into {known_url} (id {known_id}) before, and there is no "
            f"store at {store.url}. Is its disk mounted? Bring it back, or correct "
            "BACKSCROLL_STORE; if a new store is to take its place, start once with "
            "'backscroll worker --accept-store'"
        )


def recognize(connection: redis.Redis, queue: str, store: Store, accepted: str | None) -> None:
    """See that `store` is the store of `queue`, and note so where none is known.

    With its id, or `ANY_STORE`, for `accepted` it becomes that. Raises `StoreUnusableError` for
    another store than last time, and redis-py's errors.
    """
    store_id, url = store.identity(), store.url
    key, value = own_key(queue, "store"), f"{store_id} {url}"
    try:
        # In one step, or two workers that begin together could both be the first.
        connection.set(key, value, nx=True)
        known: Any = connection.get(key)
    except NoPermissionError:
        log.warning(
            "the server's ACL keeps this worker from %s: that queue %r goes into the store it "
            "went into before is not checked; see deploy/redis/users.acl",
            key,
            queue,
        )
        return
    known_id, _, known_url = (known or value.encode()).decode(errors="replace").partition(" ")
    if known_id != store_id and accepted not in (store_id, ANY_STORE):
        raise StoreUnusableError(
            f"queue {queue!r} was stored into {known_url} (id {known_id}) before, and {url} is "
            f"another store (id {store_id}). Correct BACKSCROLL_STORE or BACKSCROLL_QUEUE; if it "
            "is to take the other's place, start once with 'backscroll worker --accept-store', "
            f"or with BACKSCROLL_ACCEPT_STORE={store_id}"
        )
    if (known_id, known_url) != (store_id, url):
        log.warning("queue %r was stored into %s before, and is into %s now", queue, known_url, url)
        connection.set(key, value)
