"""What the tools can reach at most, whatever a model gives them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, Self

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import (
    MAX_ATTRIBUTE_CHARS,
    MAX_KEY_CHARS,
    SessionInfo,
    check_text,
)


@dataclass(frozen=True, slots=True)
class Scope:
    """A part of the history: all that is given here must hold of what a tool shows.

    `key` is one session, `author` what one author said, in whichever session; `channel`, `room`,
    `sender` and `agent` are those of the sessions. With an author, what others answered is not
    shown.

    Raises `InvalidInputError` where nothing is given, as that would be everything, which is
    `EVERYTHING`; and for an empty text, as of a variable that is not set.
    """

    key: str | None = None
    author: str | None = None
    channel: str | None = None
    room: str | None = None
    sender: str | None = None
    agent: str | None = None

    def __post_init__(self) -> None:
        given = self.given()
        if not given:
            problem = "name at least one of key, author, channel, room, sender and agent"
            raise InvalidInputError("scope", f"{problem}; EVERYTHING is without one")
        for name, value in given.items():
            most_chars = MAX_KEY_CHARS if name == "key" else MAX_ATTRIBUTE_CHARS
            check_text(name, value, most_chars)

    def given(self) -> dict[str, str]:
        """The fields that are given, by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def of_sessions(self) -> dict[str, str]:
        """The attributes that a session must have."""
        return {name: value for name, value in self.given().items() if name not in _NO_ATTRIBUTES}

    def has(self, info: SessionInfo) -> bool:
        """Whether the session is in the scope; of an author, whether it can be."""
        wanted = self.of_sessions().items()
        return self.key in (None, info.key) and all(
            getattr(info, name) == value for name, value in wanted
        )

    @classmethod
    def _everything(cls) -> Self:
        scope = cls.__new__(cls)
        for each in fields(cls):
            object.__setattr__(scope, each.name, None)
        return scope


_NO_ATTRIBUTES: Final = ("key", "author")

EVERYTHING: Final = Scope._everything()
"""All sessions of everybody."""
