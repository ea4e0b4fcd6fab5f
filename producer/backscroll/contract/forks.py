"""The verb that copies a session: regenerate an answer, or edit a question, and keep both."""

from __future__ import annotations

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.ids import message_id
from backscroll.contract.operations import Write, operation
from backscroll.contract.validation import check_one


@operation
class Fork(Write):
    """Begin a session with the messages of another one, up to one of them or all.

    A conflict where there is a session with messages under the new key. Refused where the source
    does not exist, or does not have that message. The copies' ids are `<op id>-1`, `<op id>-2`, …
    """

    kind = "fork"
    key: str
    new_key: str
    upto: str | None = None
    upto_platform_id: str | None = None

    def check_together(self) -> None:
        check_one(self, ("upto", "upto_platform_id"))
        if self.key == self.new_key:
            raise InvalidInputError("new_key", "must be another key")

    def copy_id(self, place: int) -> str:
        """The id of the copy of message number `place`, from 1."""
        return message_id(self.op_id, place)

    @property
    def keys(self) -> tuple[str, str]:
        """The sessions that it is about."""
        return self.key, self.new_key

    @property
    def changes(self) -> tuple[str, ...]:
        return self.keys
