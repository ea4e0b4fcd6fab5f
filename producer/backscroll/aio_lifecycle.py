"""What an adapter does with sessions that live on; `AsyncProducer` has these calls."""

from __future__ import annotations

from backscroll.calls import Calls
from backscroll.contract.results import Receipt
from backscroll.transport.acks import Ack


class AsyncLifecycle(Calls):
    """The calls for a session that lives on; what each may raise is said in `AsyncProducer`."""

    async def rewind(self, key: str, to: str, *, ack: Ack | None = None) -> Receipt:
        """Drop every message after the one with the id `to`, which stays.

        Nothing happens where the session does not have it. Returns a receipt; with "stored",
        `affected` counts the messages that went. Raises as every call.
        """
        return await self._write(self._requests.rewind(key, to), ack)
