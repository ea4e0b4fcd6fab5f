"""Sends a group's answers ahead, and tells a server that is unreachable from one that refuses.

A server hangs up on what is too large for it (`proto-max-bulk-len`, `client-query-buffer-limit`),
which looks as if it had gone away. So when a connection breaks over an answer and the server is
there on the next one, the answer is sent once more; and when that breaks as well, it is the answer.
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
    """Publishes on one channel, and remembers for a while what was too large for the server."""

    def __init__(self, channel: PinnedConnection) -> None:
        self._channel = channel
        self._refused_bytes = 0
        self._refused_at = 0.0

    def publish(self, acknowledgement: Acknowledgement) -> None:
        """Send what goes ahead of the acknowledgement; what the server does not take is refused.

        Raises redis-py's error when the server is unreachable or takes nothing at all.
        """
        for batch in acknowledgement.batches_ahead():
            if batch.large_answer_to is None:
                self._channel.send(*batch.commands)
                check_published(self._channel.replies())
            elif reason := self._refusal(batch):
                size_bytes = batch.size_bytes
                log.warning("the server does not take %d bytes of answer: %s", size_bytes, reason)
                acknowledgement.refuse(batch, reason)

    def _refusal(self, batch: Batch) -> str:
        if self._is_known_as_too_large(batch):
            return "it hung up on a smaller one"
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
        return f"it hangs up: {broken}"

    def _is_known_as_too_large(self, batch: Batch) -> bool:
        if time.monotonic() - self._refused_at > _REMEMBERED_SECONDS:
            self._refused_bytes = 0
        return 0 < self._refused_bytes <= batch.size_bytes
