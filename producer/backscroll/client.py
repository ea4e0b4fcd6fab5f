# Made from aio.py by producer/generate.py, which `make lint` checks. Do not edit.
"""`Producer`: what an adapter calls to have a conversation remembered, and to read it back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from backscroll.calls import QueueCalls
from backscroll.client_chat_history import ChatHistory
from backscroll.settings import ProducerSettings, check_waiting
from backscroll.spool.queue import DEFAULT_MAX_BYTES
from backscroll.transport.acks import Ack
from backscroll.transport.mailbox import Box


class Producer(ChatHistory, QueueCalls):
    """Enqueues what was said and reads what is stored; one for all of a process's threads.

    `url` is redis://, rediss:// or unix://; the default is BACKSCROLL_REDIS_URL or REDIS_URL.
    `ack` is what a write waits for unless its call says otherwise: "queued" (the server has it),
    "fsynced" (the server's disk has it), "stored" (the worker committed it).
    `timeout_seconds` bounds how long a read or a "stored" waits for the worker.
    `retries` is how often a call is sent again after a connection error; always with the same op
    id, so that it is never applied twice.
    `spool` names a file on this host's disk, one for each producer. While the server is
    unreachable, writes are kept there, up to `spool_max_bytes`, also over this process's death.
    They are sent in order when the server is back, before anything later; reads wait for that.
    `redact` takes a text and returns what is sent and spooled instead, for each text in a message,
    also in its `extra`, and for a session's name: `Redact()`, or a function of yours. The default
    is `Redact()` where BACKSCROLL_REDACT is 1, else nothing.
    `lenient` keeps what a model produced, also where neither Unicode nor JSON can hold it: lone
    surrogates, integers beyond 64 bits, NaN and infinity, and base64 beyond `max_message_bytes`,
    in messages and states. A lenient producer gives all of it back as it was; others see it in
    plain JSON, as docs/conversations.md says. Without it, such a message is an `InvalidInputError`.

    Raises `InvalidSettingError` when an argument or a variable of the environment is not valid,
    `InvalidInputError` for an unknown `ack`, `SpoolUnusableError` or `SpoolDiskError` when the
    spool cannot be opened or is in use. No server is needed yet.

    A call that fails raises a `BackscrollError`. Its `retryable` says whether the same call may
    succeed later; its `operation`, if it has one, is for `send`, which cannot apply it twice. What
    is cancelled or interrupted raises the caller's own error: `record_writes` has its operation.
    "As every call" in the calls' descriptions means any of these:

    - `InvalidInputError`: an argument is not valid, or `redact` failed; nothing was enqueued.
    - `ServerUnavailableError`: the server does not answer or accepts nothing now, after `retries`.
    - `AuthenticationFailedError`: the server refuses the login.
    - `ServerRefusedError`: it refuses this call and would again: no permission, or too large.
    - `QueueFullError`: `max_queue_depth` operations wait already.
    - `NotConfirmedError`: enqueued, but what was waited for did not come in time: the server's
      fsync, or the worker's answer within `timeout_seconds`. A write may still be applied.
    - `ConflictError`: the condition of a write did not hold; see `append` and `turn`.
    - `OperationRefusedError`: the worker cannot carry it out, and says why. Answers have 32 MiB at
      most, so ask for less where there is more.
    - `SpoolFullError`, `SpoolDiskError`, `SpoolUnusableError`: the spool is full, its disk fails,
      or its file is damaged, replaced or a parent process's. With a spool, writes go there when
      the server is unavailable, refuses the login or is full, after one retry; reads raise
      `ServerUnavailableError` if it is not empty within `timeout_seconds`.
    """

    _box = Box

    def __init__(
        self,
        url: str | None = None,
        queue: str | None = None,
        *,
        ack: Ack = "queued",
        timeout_seconds: float = 30.0,
        retries: int = 5,
        max_queue_depth: int | None = None,
        max_message_bytes: int | None = None,
        spool: str | Path | None = None,
        spool_max_bytes: int = DEFAULT_MAX_BYTES,
        redact: Callable[[str], str] | None = None,
        lenient: bool = False,
    ) -> None:
        check_waiting(timeout_seconds, retries, spool, spool_max_bytes)
        settings = ProducerSettings.resolve(
            url, queue, max_queue_depth, max_message_bytes, redact, os.environ
        )
        super().__init__(settings, ack, timeout_seconds, retries, spool, spool_max_bytes, lenient)
