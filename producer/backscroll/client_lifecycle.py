# Made from aio_lifecycle.py by producer/generate.py, which `make lint` checks. Do not edit.
"""What an adapter does with sessions that live on; `Producer` has these calls."""

from __future__ import annotations

from dataclasses import replace

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

    def rename(self, key: str, new_key: str, *, ack: Ack | None = None) -> Receipt:
        """Give the session another key, with all that it has: a group became a supergroup.

        What was requested under the old key before that, and arrives afterwards, is for the session
        by its new key; what is requested later begins a new session. Nothing happens where there is
        no session `key`.

        Returns a receipt; with "stored", `affected` is 1 or 0. Raises `ConflictError` with "stored"
        where there is a session `new_key` already, for good: sent again, it is refused again;
        `InvalidInputError` where both keys are equal; the rest as every call.
        """
        return run(self._write, self._requests.rename(key, new_key), ack)

    def merge(self, key: str, into: str, *, ack: Ack | None = None) -> Receipt:
        """Add the session's messages to those of `into`, in the order of time; `key` ends by it.

        Messages keep their ids; one whose platform id both have is there once, as `into` has it.
        The attributes and states are those of `into`. What was requested under `key` before that is
        for `into`, as after `rename`.

        Returns a receipt; with "stored", `affected` counts the messages that `into` got. Raises
        `ConflictError` with "stored" while a turn runs in one of them or if `into` is closed, for
        good; `OperationRefusedError` with "stored" if more than 5,000 messages would move in the
        store; the rest as every call.
        """
        return run(self._write, self._requests.merge(key, into), ack)

    def reset(self, key: str, *, ack: Ack | None = None) -> Receipt:
        """Begin a new conversation under the key; what was said so far stays, under another one.

        The new conversation has the session's attributes and states, and knows the platform's ids
        of what was said; `SessionInfo.continued_from` is the key of the conversation before. A turn
        that runs ends, as if it were superseded. Nothing happens without messages.

        Returns a receipt; with "stored", `affected` counts the messages of the conversation before.
        Raises as every call.
        """
        return run(self._write, self._requests.reset(key), ack)

    def close_session(self, key: str, *, ack: Ack | None = None) -> Receipt:
        """Let nobody append to the session any more, until `reopen_session`.

        An append is then a conflict, for good: `ConflictError` with "stored". Messages may still be
        replaced and removed. A session that does not exist is made, empty and closed.

        Returns a receipt. Raises as every call.
        """
        return run(self._write, self._requests.describe(key, {"closed": True}), ack)

    def reopen_session(self, key: str, *, ack: Ack | None = None) -> Receipt:
        """Let messages be appended to the session again.

        Returns a receipt. Raises as every call.
        """
        return run(self._write, self._requests.describe(key, {"closed": False}), ack)

    def fork(
        self,
        key: str,
        new_key: str,
        upto: str | None = None,
        *,
        upto_platform_id: str | None = None,
        ack: Ack = "stored",
    ) -> Receipt:
        """Begin the session `new_key` with what `key` has: up to the message `upto`, or all of it.

        The message may also be named by its platform's id. The fork has its own copies, with all
        that they have but their earlier versions, and the session's attributes and states; it is
        idle and not pinned. `SessionInfo.forked_from` says where it comes from. What changes in
        one of the two afterwards does not change the other.

        Waits as with "stored" unless `ack` says otherwise: more than a thousand messages are copied
        between other operations, and the session is there when all are. Then `affected` counts the
        messages, and `message_ids` has the id of the last one, if there is one.

        Raises `ConflictError` where `new_key` has messages already or is closed, and
        `OperationRefusedError` where there is no session `key` or it does not have that message;
        the rest as every call.
        """
        operation = self._requests.fork(key, new_key, upto, upto_platform_id)
        receipt = run(self._write, operation, ack)
        last = (operation.copy_id(receipt.affected),) if receipt.affected else ()
        return replace(receipt, message_ids=last)
