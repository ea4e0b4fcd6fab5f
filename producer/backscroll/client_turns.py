# Made from aio_turns.py by producer/generate.py, which `make lint` checks. Do not edit.
"""A turn: what somebody said, the reply while it grows, and its end, as `Producer.turn` says.

Beneath it are three operations: `BeginTurn`, writes under its id, and `EndTurn`. The store decides
which turn runs; nothing is decided here.
"""

from __future__ import annotations

import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Literal, Self

from backscroll.calls import run
from backscroll.client_messages import Messages
from backscroll.contract.errors import BackscrollError, ConflictError, InvalidInputError
from backscroll.contract.messages import ChatMessage, SessionAttributes
from backscroll.contract.operations import Append
from backscroll.contract.results import Receipt
from backscroll.contract.tool_calls import LoadedMessages
from backscroll.contract.turns import BeginTurn
from backscroll.contract.validation import check_number, shown
from backscroll.recording import forget

WhileRunning = Literal["wait", "refuse", "supersede"]
"""What a turn does while another one runs in its session."""

_CHOICES: Final = ("wait", "refuse", "supersede")
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5
_LONGEST_WAIT: Final = 5.0


class Turn:
    """One turn of a session; made by `Producer.turn`, for one block.

    `id` is the turn's id. `history` are the session's newest messages as it begins, as a model
    takes them: those that `load` gives with `legal` and `active`. `is_repeated` says that there is
    nothing to answer: a turn with these messages ended before, or they were deleted. Only messages
    with a platform id are recognized.
    """

    def __init__(
        self,
        producer: Messages,
        key: str,
        messages: tuple[ChatMessage, ...],
        session: SessionAttributes | None,
        running: WhileRunning,
        lease_seconds: float,
        limit: int,
        every_seconds: float,
    ) -> None:
        if running not in _CHOICES:
            problem = f"must be one of {', '.join(_CHOICES)}, not {shown(running)}"
            raise InvalidInputError("running", problem)
        self.id = ""
        self.history = LoadedMessages()
        self.is_repeated = False
        self._producer = producer
        self._key = key
        self._messages = messages
        self._session = session
        self._running = running
        self._lease_seconds = lease_seconds
        self._limit = limit
        self._every_seconds = check_number("every_seconds", every_seconds)
        self._pause_seconds = _FIRST_PAUSE
        self._own: list[str] = []
        self._stored_by = ""
        self._attempt = 1
        self._reply: ChatMessage | None = None
        self._appended: Append | None = None
        self._is_appended = False
        self._reply_id = ""
        self._is_written = True
        self._written_at = 0.0
        self._beginning()  # whatever does not fit is refused here, before anything is written
        producer._requests.load(key, limit)

    def __enter__(self) -> Self:
        if self.id:
            raise InvalidInputError("turn", "has begun already; make another one")
        deadline = time.monotonic() + self._producer._timeout_seconds
        while not self.id:
            begun = self._beginning()
            try:
                receipt = run(self._producer._write, begun, "stored", begun.message_ids)
                self.id = self._stored_by = begun.op_id
                self._own = [*begun.message_ids]
                is_known = bool(self._messages) and not receipt.affected
                self.is_repeated = is_known and self._was_answered(receipt)
                self.history = self._producer.load(self._key, self._limit, legal=True, active=True)
            except ConflictError:
                if self._running == "refuse" or time.monotonic() > deadline:
                    raise
                self._wait(deadline)
            except BaseException:  # it may have begun, whether anybody heard of that or not
                self._give_up(begun)
                raise
            finally:
                forget(begun)
        return self

    def append(self, *messages: ChatMessage) -> None:
        """Append more in this turn, such as a call of a tool and its result.

        Raises `ConflictError` where the turn was superseded; the rest as `append` of a producer.
        """
        self._complete()
        self._append(self._appending(messages))

    def stream(self, text: str, **fields: Any) -> None:
        """Have `text` be what is known of the reply by now: all of it, not only what is new.

        `fields` are those of `ChatMessage.assistant`, such as `tokens`. The first call appends the
        reply, later ones replace it, not more often than every `every_seconds`; the turn's end
        writes what is left, also where a call has failed. Raises as `append`.
        """
        self._reply, self._is_written = ChatMessage.assistant(text, **fields), False
        if not self._is_appended or time.monotonic() - self._written_at >= self._every_seconds:
            self._show(self._reply, "queued")
            self._written_at = time.monotonic()

    def reply(self, text: str, **fields: Any) -> None:
        """The complete reply; the next `stream` begins another message. Raises as `append`."""
        self.stream(text, **fields)
        self._complete()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._give_up(None)
            return
        try:
            self._complete()
            self._end(self.id)
        except ConflictError:
            raise
        except BaseException:
            self._give_up(None)
            raise

    def _was_answered(self, begun: Receipt) -> bool:
        """Whether a turn with these messages, which were all known, has ended; or they are gone.

        An end's op id follows from the operation that stored the messages. So the end of the turn
        before can be sent again: it is known if that turn did end. If not, it is a conflict for
        good by now, and that turn cannot end any more: this one ends under the next op id.
        """
        stored_by = {id_.partition("-")[0] for id_ in begun.message_ids} - {self.id}
        if not stored_by:
            return True
        self._stored_by = max(stored_by)
        while True:
            try:
                self._end(self._stored_by)
            except ConflictError as conflict:
                self._attempt += 1
                if not conflict.was_known:
                    return False
            else:
                self._stored_by, self._attempt = self.id, 1
                return True

    def _end(self, turn_id: str) -> None:
        which = self._key, turn_id, self._stored_by, self._attempt
        run(self._producer._write, self._producer._requests.end_turn_once(*which), "stored")

    def _wait(self, deadline: float) -> None:
        """Until no turn runs, by reading: each attempt to begin one would leave a record.

        Not for long, as this host's clock may be behind: then a lease has expired before it shows.
        """
        latest = min(deadline, time.monotonic() + _LONGEST_WAIT)
        while time.monotonic() <= latest:
            run(self._producer._pause, self._pause_seconds)
            self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE)
            info = self._producer.session(self._key)
            if info is not None and info.closed:
                raise ConflictError(f"the session {self._key!r} is closed")
            if info is None or not info.is_running:
                return

    def _appending(self, messages: tuple[ChatMessage, ...]) -> Append:
        operation = self._producer._requests.append(self._key, messages, turn_id=self.id)
        self._own += operation.message_ids  # also if nobody hears whether they were stored
        return operation

    def _append(self, operation: Append) -> tuple[str, ...]:
        receipt = run(self._producer._write, operation, "stored", operation.message_ids)
        return receipt.message_ids  # the reply may be there, as the platform delivers it, too

    def _complete(self) -> None:
        """Write what is left of the reply, which is then over."""
        if self._reply is not None and not self._is_written:
            self._show(self._reply, "stored")
        self._reply = self._appended = None
        self._is_appended = False

    def _show(self, reply: ChatMessage, ack: Literal["queued", "stored"]) -> None:
        """Write what is known of the reply: append it, or replace it by its id.

        An append that failed is sent again as it was, which cannot append it twice.
        """
        appended = self._appended
        if appended is None:
            appended = self._appended = self._appending((reply,))
        if not self._is_appended:
            (self._reply_id,) = self._append(appended)
            self._is_appended = True
        if appended.messages[0] is not reply:
            id_ = self._reply_id
            self._producer.replace(self._key, reply, id_, turn_id=self.id, ack=ack)
        self._is_written = True

    def _give_up(self, begun: BeginTurn | None) -> None:
        """End in error without what this turn appended; if that fails, the lease frees the session.

        What is to be raised is what went wrong before.
        """
        own = tuple(self._own)
        turn_id = self.id
        if begun is not None:
            turn_id, own = begun.op_id, begun.message_ids
        with suppress(BackscrollError):
            self._producer.end_turn(self._key, turn_id, "error", own, ack="queued")

    def _beginning(self) -> BeginTurn:
        return self._producer._requests.begin_turn(
            self._key,
            self._messages,
            self._session,
            lease_seconds=self._lease_seconds,
            supersedes=self._running == "supersede",
        )
