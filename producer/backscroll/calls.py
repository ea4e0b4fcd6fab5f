"""How a blocking call gets to the server and its answer back; what the calls say is `client`'s."""

from __future__ import annotations

import time
from typing import Any

import redis

from backscroll.contract.errors import BackscrollError, ServerRefusedError, carrying
from backscroll.contract.operations import Operation, Read, Write
from backscroll.contract.requests import Receipt
from backscroll.contract.results import answered_receipt
from backscroll.transport.acks import Ack, check_ack, no_response, not_yet_sent, still_spooled
from backscroll.transport.connection import explain
from backscroll.transport.mailbox import Box
from backscroll.transport.result_stream import GONE
from backscroll.transport.rq_protocol import SENT_AGAIN, Enqueued, Spooled, result_of
from backscroll.transport.sender import Sender
from backscroll.wiring import Wiring


class Calls(Wiring):
    """What `Producer` is made of: senders, the waiting for results, and the spool."""

    def _complete(self) -> None:
        self._sender = Sender(self.url, self._writer, self._retry)

    def _close(self) -> None:
        box = Box()
        self._batches.close(box)
        box.wait()
        if self._courier is not None:
            box = Box()
            self._courier.close(box)
            box.wait()
        self._results.close()
        self._sender.close()

    def _write(
        self,
        operation: Operation,
        ack: Ack | None,
        message_ids: tuple[str, ...] = (),
        *,
        is_again: bool = False,
    ) -> Receipt:
        ack = self._ack if ack is None else check_ack(ack)
        enqueued = self._enqueue(operation, ack)
        if isinstance(enqueued, Spooled):
            if ack == "queued":
                return Receipt(operation.op_id, message_ids, spooled=True)
            enqueued = self._once_sent(enqueued, operation, ack)
        if is_again:
            enqueued = SENT_AGAIN
        if ack == "stored" and isinstance(operation, Write):
            value = self._await_result(operation, ack, enqueued.last_result)
            return answered_receipt(value, operation.op_id, message_ids, enqueued.was_known)
        return Receipt(operation.op_id, message_ids)

    def _read(self, operation: Operation) -> Any:
        if self.spooled and not isinstance(operation, Write):  # it would lack own writes
            self._wait_until_all_is_sent()
        try:
            enqueued = self._enqueue(operation, "queued")
        except BackscrollError:
            raise
        except BaseException:  # the caller was interrupted, and will not look at the answer
            if isinstance(operation, Read):
                self._results.take_back(operation)
            raise
        if isinstance(enqueued, Spooled):  # an erasure is a write as well
            enqueued = self._once_sent(enqueued, operation, "queued")
        return self._await_result(operation, "queued", enqueued.last_result)

    def _enqueue(
        self, operation: Operation, ack: Ack, *, is_known: bool = False
    ) -> Enqueued | Spooled:
        if self._courier is None:  # straight from this thread: nobody else's calls can wait
            return self._sender.send(operation, ack)
        box = Box()
        self._batches.submit(operation, ack, box, is_known=is_known)
        enqueued: Enqueued | Spooled = box.wait()
        return enqueued

    def _once_sent(self, spooled: Spooled, operation: Operation, ack: Ack) -> Enqueued:
        """What the server says of a spooled operation when it has it."""
        self._wait_until_sent(spooled.number, operation)
        enqueued = self._enqueue(operation, ack, is_known=True)
        if isinstance(enqueued, Spooled):
            raise still_spooled(operation, self.spooled)
        return SENT_AGAIN

    def _wait_until_sent(self, number: int, operation: Operation) -> None:
        """Until the server has the operation with that number in the spool."""
        box = Box()
        if self._courier is not None:
            self._courier.tell_sent(number, self._timeout_seconds, box)
        try:
            is_sent = box.wait()
        except ServerRefusedError as error:
            raise carrying(operation, error) from None
        if not is_sent:
            raise still_spooled(operation, self.spooled)

    def _wait_until_all_is_sent(self) -> None:
        box = Box()
        if self._courier is not None:
            self._courier.tell_empty(self._timeout_seconds, box)
        if not box.wait():
            raise not_yet_sent(self.spooled)

    def _await_result(self, operation: Operation, ack: Ack, after: str) -> Any:
        deadline = time.monotonic() + self._timeout_seconds
        while True:
            box = Box()
            watch = self._results.watch(operation, after, box)
            try:
                result = box.wait(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise no_response(operation, self._timeout_seconds, self.queue) from None
            except redis.RedisError as error:
                raise explain(error, self.url, operation) from error
            finally:
                self._results.forget(watch)
            if result is not GONE:
                return result_of(operation, result)
            # Done before anybody wanted its result; the store knows what came of it.
            self._enqueue(operation, ack, is_known=True)
