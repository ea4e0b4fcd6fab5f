# Made from aio_lifecycle.py by producer/generate.py, which `make lint` checks. Do not edit.
"""What an adapter does with sessions that live on; `Producer` has these calls."""

from __future__ import annotations

from backscroll.calls import Calls, run
from backscroll.contract.results import Receipt
from backscroll.transport.acks import Ack


class Lifecycle(Calls):
    """The calls for a session that lives on; what each may raise is said in `Producer`."""

    def rewind(self, key: str, to: str, *, ack: Ack | None = None) -> Receipt:
        """Drop every message after the one with the id `to`, which stays.

        Nothing happens where the session does not have it. Returns a receipt; with "stored",
        `affected` counts the messages that went. Raises as every call.
        """
        return run(self._write, self._requests.rewind(key, to), ack)
