"""The operations of turns; `aio_turns` puts them together."""

from __future__ import annotations

from typing import Final

from backscroll.contract.messages import State
from backscroll.contract.operations import Append, Write, operation
from backscroll.contract.validation import check_number

MIN_LEASE_SECONDS: Final = 0.1


@operation
class BeginTurn(Append):
    """Append, and mark the session as running under the op id as turn id, with a lease.

    A conflict while another turn runs whose lease has not expired, unless this one `supersedes` it.
    Each write under the turn id renews the lease.
    """

    kind = "begin_turn"
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
