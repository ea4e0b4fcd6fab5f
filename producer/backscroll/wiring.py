"""What a producer is made of, blocking or not: its sender, the wait for results, the spool."""

from __future__ import annotations

from pathlib import Path

from backscroll.batch_sender import BatchSender
from backscroll.contract.requests import Requests
from backscroll.settings import ProducerSettings
from backscroll.spool.forwarder import Courier
from backscroll.spool.queue import Spool
from backscroll.transport.acks import Ack, check_ack
from backscroll.transport.connection import new_connection_at_once, retries_of
from backscroll.transport.mailbox import Box
from backscroll.transport.result_stream import Results
from backscroll.transport.rq_protocol import JobWriter


class Wiring:
    """The parts that `Calls` and `AsyncCalls` share."""

    def __init__(
        self,
        settings: ProducerSettings,
        ack: Ack,
        timeout_seconds: float,
        retries: int,
        spool: str | Path | None,
        spool_max_bytes: int,
    ) -> None:
        self.url = settings.url
        self.queue = settings.queue
        self._ack = check_ack(ack)
        self._timeout_seconds = timeout_seconds
        self._requests = Requests(settings.limits, settings.queue)
        self._writer = JobWriter(settings.queue, settings.max_queue_depth, timeout_seconds)
        self._results = Results(settings.url, retries)
        self._retry = retries_of(retries) if spool is None else new_connection_at_once(retries)
        self._courier: Courier | None = None
        try:
            if spool is not None:
                held = Spool(Path(spool), spool_max_bytes)
                self._courier = Courier(settings.url, held, self._writer)
            self._batches = BatchSender(settings.url, self._writer, self._retry, self._courier)
            self._complete()
            if self._courier is not None:
                self._courier.begin()
        except BaseException:  # whoever tries again is to find the spool free
            if self._courier is not None:
                self._courier.close(box := Box())
                box.wait()
            raise

    def _complete(self) -> None:
        """Make what else there is to make."""

    @property
    def spooled(self) -> int:
        """How many operations wait in the spool; 0 without one."""
        return 0 if self._courier is None else self._courier.count
