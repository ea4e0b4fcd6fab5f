"""The verbs for sessions that live on: taken back, renamed, copied, ended."""

from __future__ import annotations

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import MAX_KEY_CHARS
from backscroll.contract.operations import Write, operation


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
