"""The verbs for sessions that live on: taken back, renamed, copied, ended; and for many at once."""

from __future__ import annotations

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import MAX_KEY_CHARS
from backscroll.contract.operations import Write, operation


@operation
class DeleteSessions(Write):
    """Drop all sessions whose key begins with a text, with everything in them.

    Those that there are at its place in the order. What was requested before it and comes late is
    dropped, in all sessions with that prefix, as after a deletion.
    """

    kind = "delete_sessions"
    prefix: str


@operation
class Rewind(Write):
    """Drop every message after the one named, which stays; nothing if it is not there."""

    kind = "rewind"
    key: str
    to: str


@operation
class Reset(Write):
    """Begin a new conversation under the session's key; nothing if the session has no messages.

    What it has so far stays, as a session with the key `past_key`, and a turn that runs ends. The
    new one has what a cleared session keeps. What was spooled before the reset and arrives after it
    is for the past one.
    """

    kind = "reset"
    key: str

    @property
    def past_key(self) -> str:
        """The key that the session has afterwards: the op id follows its key, cut if necessary."""
        suffix = f"~{self.op_id}"
        return self.key[: MAX_KEY_CHARS - len(suffix)] + suffix

    @property
    def changes(self) -> tuple[str, ...]:
        return self.key, self.past_key


@operation
class Merge(Write):
    """Add a session's messages to those of another one, in the order of time; the first one ends.

    A conflict while a turn runs in one of them, or if `into` is closed. A message whose platform id
    both have is there once. What is requested under the key before is for `into`, as after a
    rename. Without a session `into` it is a rename, and without `key` nothing.
    """

    kind = "merge"
    key: str
    into: str

    def check_together(self) -> None:
        if self.key == self.into:
            raise InvalidInputError("into", "must be another key")

    @property
    def keys(self) -> tuple[str, str]:
        """The sessions that it is about."""
        return self.key, self.into

    @property
    def changes(self) -> tuple[str, ...]:
        return self.keys


@operation
class Rename(Write):
    """Give a session another key, with all that it has; nothing if there is no such session.

    A conflict where another session has that key. What was requested under the old key before the
    rename and arrives after it is for the session; what was requested later begins a new one.
    """

    kind = "rename"
    key: str
    new_key: str

    def check_together(self) -> None:
        if self.key == self.new_key:
            raise InvalidInputError("new_key", "must be another key")

    @property
    def changes(self) -> tuple[str, ...]:
        return self.key, self.new_key
