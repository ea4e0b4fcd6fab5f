"""What adapters do with sessions as a whole: fork, rename, merge, reset, close, delete many.

A writer draws from here as from its own operations, about sessions that it alone writes to. What a
store makes of them follows from the model as it is then: nothing is forked that is not there, as
that is refused, and nothing is merged while it depends on the time whether a turn runs there.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from backscroll.contract.operations import Write
from backscroll.contract.requests import Requests
from backscroll_worker.testing.model import Model
from tests.crash.conversations import may_have_expired

_ASIDE: Final = 3
"""Keys for forks and renamed sessions, which are now and then deleted together."""


class Lifecycles:
    """Those of one writer's sessions, whose keys all begin with `prefix`."""

    def __init__(self, requests: Requests, rng: random.Random, model: Model) -> None:
        self._requests = requests
        self._random = rng
        self._model = model
        self.prefix = ""

    def aside(self) -> list[str]:
        """The keys of sessions that are there and were not begun by an append."""
        return [key for key in self._aside_keys() if key in self._model.sessions]

    def draw(self, key: str) -> Write | None:
        """Something about the session, and mostly about another one; None where that is not."""
        return self._random.choices(_OPERATIONS, _SHARES)[0](self, key)

    def fork(self, key: str) -> Write | None:
        """A copy of the session up to one of its messages or all; as a rule under a free key."""
        session, new_key = self._model.sessions.get(key), self._other_key(key)
        if session is None or new_key is None:
            return None
        ids: list[Any] = [each.message_id for each in session.messages[-4:]]
        return self._requests.fork(key, new_key, self._random.choice([None, *ids]))

    def rename(self, key: str) -> Write | None:
        """Another key for the session; as a rule a free one."""
        new_key = self._other_key(key)
        return None if new_key is None else self._requests.rename(key, new_key)

    def merge(self, key: str) -> Write | None:
        """One of two sessions, if it is certain whether a turn runs."""
        source = self._some_session(but=key)
        if source is None or any(may_have_expired(self._model, each) for each in (source, key)):
            return None
        return self._requests.merge(source, key)

    def reset(self, key: str) -> Write:
        return self._requests.reset(key)

    def close_or_reopen(self, key: str) -> Write:
        """More often reopened than closed, or there is little to do."""
        is_to_close = not self._model.is_closed(key) and self._random.random() < 0.5
        return self._requests.describe(key, {"closed": is_to_close})

    def delete_by_prefix(self, key: str) -> Write:
        """What was set aside, or the pasts of a session that was reset, with it or without."""
        return self._requests.delete(None, self._random.choice((self._aside, f"{key}~", key)))

    @property
    def _aside(self) -> str:
        return f"{self.prefix}aside"

    def _aside_keys(self) -> list[str]:
        return [f"{self._aside}/{number}" for number in range(_ASIDE)]

    def _other_key(self, key: str) -> str | None:
        """A free key; now and then, or if there is none, that of another session."""
        free = [each for each in self._aside_keys() if each not in self._model.sessions]
        is_free = free and self._random.random() < 0.8
        return self._random.choice(free) if is_free else self._some_session(but=key)

    def _some_session(self, but: str) -> str | None:
        """The key of another session that is there; a past one as soon as any."""
        keys = [key for key in self._model.sessions if key.startswith(self.prefix) and key != but]
        return self._random.choice(keys) if keys else None


_OF_SESSIONS: Final[dict[Callable[[Lifecycles, str], Write | None], int]] = {
    Lifecycles.fork: 3,
    Lifecycles.rename: 3,
    Lifecycles.merge: 2,
    Lifecycles.reset: 2,
    Lifecycles.close_or_reopen: 4,
    Lifecycles.delete_by_prefix: 2,
}
"""What is done with sessions as a whole, and how often."""
_OPERATIONS: Final = tuple(_OF_SESSIONS)
_SHARES: Final = tuple(_OF_SESSIONS.values())
