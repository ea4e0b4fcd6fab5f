"""Brings what a spool holds to the server, in order, as soon as the server takes it."""

from __future__ import annotations

import logging
import threading
from typing import Final

import redis

from producer.channel import Channel
from producer.codec import mark_spooled
from producer.connection import backoff, connect, explain
from producer.enqueue import ENQUEUE, Job, JobWriter
from producer.errors import BackscrollError, SpoolUnusableError
from producer.spool import Spool

MAX_BATCH_JOBS: Final = 500
MAX_BATCH_BYTES: Final = 8 * 1024 * 1024

log = logging.getLogger("backscroll.producer")


class Courier:
    """A thread that empties `spool`. It lives from the first job to the producer's end."""

    def __init__(self, url: str, spool: Spool, writer: JobWriter) -> None:
        self._url = url
        self._spool = spool
        self._writer = writer
        self._redis = connect(url)
        self._channel = Channel(self._redis)
        self._changed = threading.Condition()
        self._sent = 0
        self._is_closing = False
        self._thread: threading.Thread | None = None
        if spool.count:
            self._start()

    @property
    def count(self) -> int:
        """How many jobs wait here."""
        return self._spool.count

    def take(self, jobs: list[Job]) -> int:
        """Keep `jobs` until the server has them; the number to wait for with `wait_sent`."""
        with self._changed:
            number = self._spool.put(jobs)
            self._start()
            self._changed.notify_all()
        return number

    def wait_sent(self, number: int, timeout_seconds: float) -> bool:
        """Wait until the server has the job with that number, and all before it; whether it has."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._sent >= number or self._is_closing, timeout_seconds
            )

    def wait_empty(self, timeout_seconds: float) -> bool:
        """Wait until the server has everything; whether it has."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._spool.count or self._is_closing, timeout_seconds
            )
            return not self._spool.count

    def close(self) -> None:
        """Stop sending; what is left is sent by the next producer on this spool."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._channel.reset()
        self._redis.close()
        self._spool.close()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        failures, told = 0, ""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._spool.count or self._is_closing)
                if self._is_closing:
                    return
            try:
                progressed = self._send_some()
            except (redis.RedisError, SpoolUnusableError) as error:
                progressed = False
                said = str(self._explained(error))
                if said != told:
                    log.warning("operations wait in %s: %s", self._spool.path, said)
                    told = said
            if progressed:
                failures = 0
                if not self._spool.count:
                    log.info("the server has all that waited in %s", self._spool.path)
                    told = ""
                continue
            failures += 1
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing, backoff().compute(failures))

    def _send_some(self) -> bool:
        """Send one batch; False when the queue is full."""
        entries = self._spool.head(MAX_BATCH_JOBS, MAX_BATCH_BYTES)
        self._channel.refresh()
        jobs = [(*entry.job[:-1], mark_spooled(entry.job[-1])) for entry in entries]
        call = self._writer.script_call(jobs)
        replies = self._channel.run(ENQUEUE, *call)
        accepted = 0
        for depth, _ in replies:
            if depth == 0:
                break
            accepted += 1
        if accepted:
            self._spool.drop(entries[:accepted])
            with self._changed:
                self._sent = entries[accepted - 1].number
                self._changed.notify_all()
        return accepted > 0

    def _explained(self, error: Exception) -> BackscrollError | Exception:
        return explain(error, self._url) if isinstance(error, redis.RedisError) else error
