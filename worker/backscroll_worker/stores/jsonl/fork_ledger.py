"""The forks that are being copied, in `.forks.json`; see `fork_slices`."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.forks import Fork
from backscroll.contract.messages import ChatMessage
from backscroll.contract.states import SessionState
from backscroll_worker.contract.states import read_states
from backscroll_worker.stores.jsonl.changes import Changes
from backscroll_worker.stores.jsonl.files import Directory

_NAME: Final = ".forks.json"  # no key's file begins with a dot


class Besides(NamedTuple):
    """What a fork has besides messages."""

    attributes: dict[str, Any]
    states: dict[str, SessionState]


class PendingFork(NamedTuple):
    """A fork to be copied, up to the message with one of the two ids; `at` as its operation.

    `besides` is of the source as it was when the fork was begun.
    """

    op_id: str
    at: int
    key: str
    new_key: str
    upto: str | None
    upto_platform_id: str | None
    besides: Besides

    def operation(self) -> Fork:
        return Fork(*self[:6])

    def ends_with(self, message: ChatMessage) -> bool:
        """Whether that is its last message."""
        if self.upto_platform_id is not None:
            return message.platform_id == self.upto_platform_id
        return message.message_id == self.upto


class Forks:
    """What the file has, by op id."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.pending: dict[str, PendingFork] = {}
        self._is_changed = False

    def recover(self) -> None:
        """Start from what the disk says."""
        self.pending = _loads(self._directory.read(_NAME))
        self._is_changed = False

    def hold(self, fork: PendingFork) -> None:
        """Have a fork be copied."""
        self.pending[fork.op_id] = fork
        self._is_changed = True

    def drop(self, op_id: str) -> None:
        """It is done, or cannot be."""
        self._is_changed |= self.pending.pop(op_id, None) is not None

    def rename_agent(self, old: str, new: str | None) -> int:
        """Change the agent's alias where a fork is to have it; returns in how many."""
        count = 0
        for fork in list(self.pending.values()):
            attributes, states = fork.besides
            if attributes.get("agent") == old:
                renamed = Besides({**attributes, "agent": new}, states)
                self.hold(fork._replace(besides=renamed))
                count += 1
        return count

    def write_again(self) -> None:
        """Write the file with the next commit, whether it has changed or not."""
        self._is_changed = True

    def stage(self, changes: Changes) -> None:
        if not self._is_changed:
            return
        if self.pending:
            rows = [[*asked, [*besides]] for *asked, besides in self.pending.values()]
            changes.put(_NAME, orjson.dumps({"version": 1, "forks": rows}) + b"\n")
        else:
            changes.remove(_NAME)

    def settle(self) -> None:
        """What was staged is committed."""
        self._is_changed = False


def _loads(content: bytes | None) -> dict[str, PendingFork]:
    """What the file says; nothing when it cannot be read."""
    try:
        rows: Any = orjson.loads(content or b"{}").get("forks", ())
        forks = [PendingFork(*row)._replace(besides=_besides(*row[-1])) for row in rows]
    except (ValueError, TypeError, AttributeError, InvalidInputError):
        return {}
    return {fork.op_id: fork for fork in forks}


def _besides(attributes: Any, states: Any) -> Besides:
    return Besides(dict(attributes), read_states(states))
