"""Sends a group's results, and distinguishes an unreachable server from one that refuses a result.

A server closes the connection over what is too large for it (`proto-max-bulk-len`,
`client-query-buffer-limit`), as if it were unreachable. So when a connection breaks over a result
and a new one works, the result is sent once more; if it breaks again, the result is the reason.
"""

from __future__ import annotations

import logging
import time
from typing import Final

import redis

from backscroll.transport.pinned_connection import PinnedConnection
from backscroll_worker.loop.acknowledgement import Acknowledgement, Batch, check_published
from backscroll_worker.loop.server_trouble import is_state_of_server

log = logging.getLogger("backscroll.worker")

_REMEMBERED_SECONDS: Final = 60.0


class Publisher:
    """Publishes on one connection, and remembers for a while what was too large for the server."""

    def __init__(self, channel: PinnedConnection) -> None:
        self._channel = channel
        self._refused_bytes = 0
        self._refused_at = 0.0

    def publish(self, acknowledgement: Acknowledgement) -> None:
        """Send what precedes the acknowledgement; a result that the server refuses is replaced.

        Raises redis-py's error when the server is unreachable or refuses everything.
        """
        for batch in acknowledgement.batches_ahead():
            if batch.large_answer_to is None:
                self._channel.send(*batch.commands)
                check_published(self._channel.replies())
            elif reason := self._refusal(batch):
                size_bytes = batch.size_bytes
                log.warning("the server refused a result of %d bytes: %s", size_bytes, reason)
                acknowledgement.refuse(batch, reason)

    def _refusal(self, batch: Batch) -> str:
        if self._is_known_as_too_large(batch):
            return "it closed the connection over a smaller one"
        broken = ""
        for _ in range(2):
            try:
                self._channel.call(*batch.commands)
            except redis.exceptions.OutOfMemoryError as error:
                return f"it is out of memory: {error}"
            except redis.ResponseError as error:
                if is_state_of_server(error):
                    raise
                return str(error)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                self._channel.call(("PING",))  # raises when it is unreachable
                broken = str(error)
            else:
                return ""
        self._refused_bytes, self._refused_at = batch.size_bytes, time.monotonic()
        return f"it closes the connection: {broken}"

    def _is_known_as_too_large(self, batch: Batch) -> bool:
        if time.monotonic() - self._refused_at > _REMEMBERED_SECONDS:
            self._refused_bytes = 0
        return 0 < self._refused_bytes <= batch.size_bytes
