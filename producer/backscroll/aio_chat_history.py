"""All calls of an adapter together, wherever they go; `AsyncProducer` has these.

Messages, sessions and turns have modules of their own.
"""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from backscroll.aio_lifecycle import AsyncLifecycle
from backscroll.aio_messages import AsyncMessages
from backscroll.aio_turns import AsyncTurn, WhileRunning
from backscroll.contract.answers import (
    answered_cleanup,
    answered_compact,
    answered_erasure,
    answered_restore,
)
from backscroll.contract.messages import (
    ChatMessage,
    SessionAttributes,
)
from backscroll.contract.operations import Append, Operation
from backscroll.contract.results import (
    CleanupReport,
    CompactReport,
    ErasureReceipt,
    Receipt,
    RestoreReport,
)
from backscroll.transport.acks import Ack


class AsyncChatHistory(AsyncMessages, AsyncLifecycle):
    """The calls of `AsyncProducer`, which says what each may raise, and of all that take its place.

    Made by one of these, never by itself.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish what calls are waiting for, and let go of the server or the store.

        No call may follow. What is in a spool stays there for the next producer on it. Raises
        nothing.
        """
        await self._close()

    def turn(
        self,
        key: str,
        *messages: ChatMessage,
        session: SessionAttributes | None = None,
        running: WhileRunning = "wait",
        lease_seconds: float = 120.0,
        limit: int = 50,
        every_seconds: float = 0.5,
    ) -> AsyncTurn:
        """A turn of a session, to be used as a context manager.

        It begins by appending `messages`, of which there may be none, and marking the session as
        running, and has the `limit` newest messages, these included, in `turn.history`, as `load`
        gives them with `legal` and `active`. `turn.stream` shows a reply while it grows, written at
        most every `every_seconds`. At its end the reply is complete and the session idle; where the
        block raises, exactly what the turn appended is removed and the session is in the state
        "error". `session` has attributes, as `append` takes them.

        A platform may deliver a message again. Where the messages have platform ids, and a turn
        with them ended before, `turn.is_repeated` is true, and there is nothing to answer. If that
        turn failed, or its process died, they are answered now, and are in the session once.

        While another turn runs in the session, this one does as `running` says: "wait" until it
        ends (for `timeout_seconds` at most), "refuse" (`ConflictError`), or "supersede" it: what
        the other still sends changes nothing, and its end raises `ConflictError`. What was said
        already supersedes nothing, and waits. A turn whose process died frees the session when its
        lease expires, `lease_seconds` after its last write.

        Raises `InvalidInputError` for an argument that is not valid; the block's beginning and end
        raise `ConflictError` as said, and the rest as every call.
        """
        return AsyncTurn(self, key, messages, session, running, lease_seconds, limit, every_seconds)

    async def cleanup(
        self, ttl_hours: float | None = None, *, dry_run: bool = False
    ) -> CleanupReport:
        """Have the worker delete sessions idle for longer than `ttl_hours`, and wait for it.

        Without it, the worker's retention rules decide; a session's own `ttl_hours` holds in any
        case. Raises `NotConfirmedError` when it takes longer than `timeout_seconds`, and goes on;
        the rest as every call.
        """
        return answered_cleanup(await self._read(self._requests.cleanup(ttl_hours, dry_run)))

    async def restore(
        self,
        key: str,
        *,
        into: str | None = None,
        file: str | None = None,
        pin: bool = False,
    ) -> RestoreReport:
        """Have the worker bring back what cleanup took of a session, and wait for it.

        With its ids, times and attributes, before what the session has by now; what the store has
        already stays as it is. `into` is another key for it, `file` the only file of the archive
        to take it from. Its last activity is the old one, so without `pin` the next cleanup takes
        it again.

        Raises `OperationRefusedError` when the archive does not have it; the rest as `cleanup`.
        """
        return answered_restore(await self._read(self._requests.restore(key, into, file, pin)))

    async def compact(self) -> CompactReport:
        """Have the worker compact the store, and wait for it. Raises as `cleanup`."""
        return answered_compact(await self._read(self._requests.compact()))

    async def erase(
        self,
        *,
        key: str | None = None,
        sender: str | None = None,
        room: str | None = None,
        author: str | None = None,
    ) -> ErasureReceipt:
        """Have every trace of a session, a sender, a room or an author removed, and wait for it.

        Of an author the messages go, in every session; everybody else's stay. All that was asked
        for before goes with it, even what arrives later: a sender's or a room's sessions are those
        that are known as theirs by now. What is said afterwards is stored.

        Returns a receipt that names nobody, to be kept as proof. Raises `InvalidInputError` unless
        exactly one of the four is given; the rest as `cleanup`.
        """
        return answered_erasure(await self._read(self._requests.erase(key, sender, room, author)))

    async def send(self, operation: Operation, ack: Ack | None = None) -> Receipt:
        """Send an operation that an error carried, again and as it was: it is applied once.

        Or one of `record_writes`. The receipt is that of the call, as far as the store knows what
        came of it the first time.

        Raises `InvalidInputError` for anything else; the rest as every call.
        """
        sent: Any = self._requests.again(operation)
        ids = sent.message_ids if isinstance(sent, Append) else ()
        receipt = await self._write(sent, ack, ids)
        if not receipt.messages:
            return receipt
        said = [await self._as_given(sent.key, message) for message in receipt.messages]
        return replace(receipt, messages=tuple(said))
