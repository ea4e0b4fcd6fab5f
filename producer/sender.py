"""Sends operations for the blocking client: one call each, on a connection that is idle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.retry import Retry

from producer.channel import Channel
from producer.connection import SOCKET_TIMEOUT_SECONDS, is_retryable, server_errors
from producer.enqueue import ENQUEUE, SENT_AGAIN, Ack, Enqueued, JobWriter, check_fsynced
from producer.operations import Operation


class Sender:
    """Enqueues one operation at a time, for any number of threads; `retry` says how stubbornly."""

    def __init__(self, url: str, client: redis.Redis, writer: JobWriter, retry: Retry) -> None:
        self._url = url
        self._redis = client
        self._writer = writer
        self._retry = retry
        self._idle: list[Channel] = []

    def close(self) -> None:
        """Hang up."""
        while self._idle:
            self._idle.pop().reset()

    def send(self, operation: Operation, ack: Ack, *, is_again: bool = False) -> Enqueued:
        """Enqueue `operation`, and with "fsynced" wait for the server's disk."""
        call = self._writer.script_call([self._writer.job(operation, ack)])
        failures = 0

        def attempt() -> Enqueued:
            with self._channel() as channel:
                enqueued = self._evaluate(channel, call)
                if ack == "fsynced":  # of this connection's writes, so it must be the same one
                    check_fsynced(_fsync(channel), operation)
                return enqueued

        def count(_error: Exception) -> None:
            nonlocal failures
            failures += 1

        with server_errors(self._url, operation):
            enqueued = self._retry.call_with_retry(attempt, count, is_retryable)
        return SENT_AGAIN if failures or is_again else enqueued

    def evaluate(self, call: list[Any]) -> Enqueued:
        """Run the script with `call` once, whatever comes of it."""
        with self._channel() as channel:
            return self._evaluate(channel, call)

    def _evaluate(self, channel: Channel, call: list[Any]) -> Enqueued:
        return self._writer.parse_reply(channel.run(ENQUEUE, *call)[0])

    @contextmanager
    def _channel(self) -> Iterator[Channel]:
        """A connection for this thread, for as long as it needs one."""
        try:
            channel = self._idle.pop()
        except IndexError:
            channel = Channel(self._redis)
        if channel.pid != os.getpid():  # this process was forked; the connection is its parent's
            channel = Channel(self._redis)
        channel.refresh()
        try:
            yield channel
        finally:
            self._idle.append(channel)


def _fsync(channel: Channel) -> Any:
    try:
        (reply,) = channel.call(("WAITAOF", 1, 0, int(SOCKET_TIMEOUT_SECONDS * 500)))
    except redis.ResponseError as error:
        return error
    return reply
