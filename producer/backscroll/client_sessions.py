# Made from aio_sessions.py by producer/generate.py, which `make lint` checks. Do not edit.
"""What an adapter asks and says of sessions as a whole; `Producer` has these calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Unpack

from backscroll.calls import Calls, run
from backscroll.contract.answers import (
    answered_page,
    answered_session,
    answered_states,
    answered_usage,
)
from backscroll.contract.filters import SearchFields, SearchFilter
from backscroll.contract.lenient import restored_value
from backscroll.contract.messages import (
    ChatMessage,
    Meta,
    SessionFilter,
    SessionInfo,
    SessionPage,
    State,
)
from backscroll.contract.requests import UNSET, Unset
from backscroll.contract.results import Receipt, Usage
from backscroll.contract.states import DEFAULT_STATE, NO_STATE, SessionState
from backscroll.transport.acks import Ack


class Sessions(Calls):
    """The calls about sessions; what each may raise is said in `Producer`."""

    def describe(
        self,
        key: str,
        *,
        name: str | Unset | None = UNSET,
        agent: str | Unset | None = UNSET,
        channel: str | Unset | None = UNSET,
        room: str | Unset | None = UNSET,
        sender: str | Unset | None = UNSET,
        state: State | Unset = UNSET,
        turn_id: str | Unset | None = UNSET,
        pinned: bool | Unset = UNSET,
        meta: Meta | Unset | None = UNSET,
        ttl_hours: float | Unset | None = UNSET,
        ack: Ack | None = None,
    ) -> Receipt:
        """Set the attributes given; None clears one. `pinned` sessions are never cleaned up.

        `meta` are keys and values of your own: text, numbers or booleans. Those given are set, a
        value of None clears its key, all others stay; `meta=None` clears all. A session has up to
        16 KiB of them in JSON: what would be more is refused with "stored", and changes nothing.

        `ttl_hours` is how long the session may be idle before a cleanup deletes it, instead of what
        the worker's rules say: from 0 to 1e9 hours, and 0 keeps it for ever. With None the rules
        apply again. The rules' `keep_messages` and those for authors apply in any case.

        The session is made if there is none. Returns a receipt. Raises `InvalidInputError` for no
        attribute at all, one of more than 512 characters, an unknown state, another value in `meta`
        or another number of hours; the rest as every call.
        """
        attributes = {
            "name": name, "agent": agent, "channel": channel, "room": room, "sender": sender,
            "state": state, "turn_id": turn_id, "pinned": pinned, "meta": meta,
            "ttl_hours": ttl_hours,
        }  # fmt: skip
        return run(self._write, self._requests.describe(key, attributes), ack)

    def begin_turn(
        self,
        key: str,
        *messages: ChatMessage,
        lease_seconds: float = 120.0,
        supersedes: bool = False,
    ) -> Receipt:
        """Append, and mark the session as running, as `turn` does; waits as with "stored".

        The receipt's `op_id` is the turn's id. Each append and replace with it renews the lease.

        Raises `ConflictError` while another turn runs whose lease has not expired, unless this one
        `supersedes` it; the rest as `append`.
        """
        operation = self._requests.begin_turn(
            key, messages, lease_seconds=lease_seconds, supersedes=supersedes
        )
        return run(self._write, operation, "stored", operation.message_ids)

    def end_turn(
        self,
        key: str,
        turn_id: str,
        state: State = "idle",
        remove: Sequence[str] = (),
        *,
        ack: Ack | None = None,
    ) -> Receipt:
        """End a turn and leave the session in `state`, without the messages with ids in `remove`.

        Returns a receipt; with "stored", `affected` counts the messages that went. Raises
        `ConflictError` with "stored" where that turn is not running any more; the rest as every
        call.
        """
        operation = self._requests.end_turn(key, turn_id, state, tuple(remove))
        return run(self._write, operation, ack)

    def rename_agent(self, old: str, new: str | None, *, ack: Ack | None = None) -> Receipt:
        """Give every session of agent `old` the alias `new`, or none when `new` is None.

        Returns a receipt; with "stored", `affected` counts the sessions. Raises as every call.
        """
        return run(self._write, self._requests.rename_agent(old, new), ack)

    def session(self, key: str) -> SessionInfo | None:
        """The session's attributes, size and times, or None if there is none.

        Raises as every call.
        """
        return answered_session(run(self._read, self._requests.session(key)))

    def exists(self, key: str) -> bool:
        """Whether there is such a session. Raises as every call."""
        return self.session(key) is not None

    def get_state(self, key: str, name: str = DEFAULT_STATE) -> SessionState:
        """What `set_state` has set; a value of None and version 0 if nothing.

        Raises as every call.
        """
        states = self._states(key, name)
        return states.get(name, NO_STATE)

    def states(self, key: str) -> dict[str, SessionState]:
        """All that `set_state` has set for the session, by name; what was deleted has its version.

        Raises as every call.
        """
        return self._states(key, None)

    def set_state(
        self,
        key: str,
        value: Any,
        name: str = DEFAULT_STATE,
        *,
        expect: int | None = None,
        ack: Ack | None = None,
    ) -> Receipt:
        """Keep a JSON document of up to 64 KiB with the session; None deletes it.

        A session has up to 32 of them, by name, and is made if there is none. Its messages and its
        last activity stay as they are. Each change counts the version up, from 1, a deletion too.

        With `expect` it is changed only if that is its version, or 0 and there is none; the call
        then waits as with "stored", unless `ack` says otherwise. Returns a receipt; with "stored",
        `affected` is the version. Raises `ConflictError` with "stored" where the version is another
        one, `InvalidInputError` for what JSON cannot hold; the rest as every call.
        """
        if ack is None and expect is not None:
            ack = "stored"
        return run(self._write, self._requests.set_state(key, value, name, expect), ack)

    def sessions(
        self,
        where: SessionFilter | None = None,
        *,
        agent: str | None = None,
        channel: str | None = None,
        room: str | None = None,
        sender: str | None = None,
        author: str | None = None,
        state: State | None = None,
        pinned: bool | None = None,
        stuck_seconds: float | None = None,
        expired: bool | None = None,
        name: str | None = None,
        active_since: datetime | None = None,
        active_until: datetime | None = None,
        meta: Meta | None = None,
        forked_from: str | None = None,
        prefix: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> SessionPage:
        """A page of the matching sessions, latest activity first; `cursor` is the last page's.

        Which ones is said by a filter, by its fields (`channel="slack"`), or by both.

        `author`: only those with a message of that author. `stuck_seconds`: only those whose turn
        has been running for longer than that. `expired`: only those with a turn whose lease has
        expired, or with False all others. `name`: only those whose name has these words, as
        search finds them, the last maybe unfinished (`cafe p` finds `Café plans`). `active_since`
        (inclusive) and `active_until` (exclusive) bound the last activity. `meta`: only those that
        have each of these keys with this value; 1 is 1.0, but true is not 1. `forked_from`: only
        forks of the session with that key. `prefix`: only those whose key begins with this text;
        no character in it has a meaning of its own.

        Paging shows no session twice, and each one that nobody writes to meanwhile. What is written
        to moves to the front: ask for it afterwards with `active_since`.

        Raises `InvalidInputError` for a `limit` that is not from 1 to 1,000 or a time without a
        zone, `OperationRefusedError` for a cursor that no page gave; the rest as every call.
        """
        given = {
            "agent": agent, "channel": channel, "room": room, "sender": sender, "author": author,
            "state": state, "pinned": pinned, "stuck_seconds": stuck_seconds, "expired": expired,
            "name": name, "active_since": active_since, "active_until": active_until,
            "meta": meta, "forked_from": forked_from, "prefix": prefix,
        }  # fmt: skip
        return answered_page(run(self._read, self._requests.sessions(given, limit, cursor, where)))

    def usage(self, where: SearchFilter | None = None, **given: Unpack[SearchFields]) -> Usage:
        """How many tokens messages have, all together, by author and by role.

        Which messages is said by a filter, by its fields (`key="k"`, `author="42"`,
        `channel="slack"`, `since=…`), or by both. They are as adapters counted them
        (`ChatMessage.tokens`), and nothing is estimated.

        Raises `OperationRefusedError` when there are too many messages to add up; the rest as
        every call.
        """
        return answered_usage(run(self._read, self._requests.usage(where, given)))

    def _states(self, key: str, name: str | None) -> dict[str, SessionState]:
        states = answered_states(run(self._read, self._requests.states(key, name)))
        if not self._is_lenient:
            return states
        return {
            name: replace(state, value=restored_value(state.value))
            for name, state in states.items()
        }
