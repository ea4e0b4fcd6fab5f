"""The forks that are being copied, in `.forks.json`; see `fork_slices`."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from backscroll.contract.forks import Fork
from backscroll.contract.messages import ChatMessage
from backscroll_worker.stores.jsonl.changes import Changes
from backscroll_worker.stores.jsonl.files import Directory

_NAME: Final = ".forks.json"  # no key's file begins with a dot


class PendingFork(NamedTuple):
    """A fork to be copied, up to the message with one of the two ids; `at` as its operation."""

    op_id: str
    at: int
    key: str
    new_key: str
    upto: str | None
    upto_platform_id: str | None

    def operation(self) -> Fork:
        return Fork(*self)

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

    def write_again(self) -> None:
        """Write the file with the next commit, whether it has changed or not."""
        self._is_changed = True

    def stage(self, changes: Changes) -> None:
        if not self._is_changed:
            return
        if self.pending:
            rows = list(map(list, self.pending.values()))
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
        forks = [PendingFork(*row) for row in rows]
    except (ValueError, TypeError, AttributeError):
        return {}
    return {fork.op_id: fork for fork in forks}
