"""The operations of turns; `aio_turns` puts them together."""

from __future__ import annotations

from typing import Annotated, Final

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.forms import ANY_MESSAGES
from backscroll.contract.messages import ChatMessage, State
from backscroll.contract.operations import Append, Write, operation
from backscroll.contract.validation import check_number

MIN_LEASE_SECONDS: Final = 0.1


@operation
class BeginTurn(Append):
    """Append, and mark the session as running under the op id as turn id, with a lease.

    A conflict while another turn runs whose lease has not expired, unless this one `supersedes` it.
    Each write under the turn id renews the lease. There may be no messages: what was said is there.
    """

    kind = "begin_turn"
    messages: Annotated[tuple[ChatMessage, ...], ANY_MESSAGES]
    lease_seconds: float = 120.0
    supersedes: bool = False

    def check_together(self) -> None:
        Append.check_together(self)  # `super()` does not work in a dataclass with slots
        check_number("lease_seconds", self.lease_seconds, MIN_LEASE_SECONDS)


@operation
class EndTurn(Write):
    """End a turn and leave the session `state`, without the messages in `remove`.

    A conflict where another turn runs by now, or none.
    """

    kind = "end_turn"
    key: str
    turn_id: str
    state: State = "idle"
    remove: tuple[str, ...] = ()

    def check_together(self) -> None:
        if self.state == "running":
            raise InvalidInputError("state", "must be what a turn ends in, not 'running'")
