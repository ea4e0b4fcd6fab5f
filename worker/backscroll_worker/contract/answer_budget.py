"""What the answers of one call of `apply` may take: bytes each, bytes and time together.

An answer to a read is encoded here as it comes out of the store, once, and an answer that becomes
too large is refused in the middle of reading it. So nothing in the worker grows with what somebody
asks for, and no read is carried out for long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, NamedTuple, TypeVar

import orjson

from backscroll.contract.answers import SEPARATOR, Answer, EncodedAnswer, encode_answer, hit_to_json
from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.filters import FoundMessage, SearchHit, SearchPage
from backscroll.contract.messages import ChatMessage
from backscroll.contract.results import Outcome
from backscroll.contract.tool_calls import LoadedMessages

T = TypeVar("T")

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""Of one answer in JSON. One message alone may have more, as JSON can be six times its text."""

PAGE_BYTES: Final = 4 * 1024 * 1024
"""A page of hits ends early where the hits in JSON would have more than that.

Their texts are gone through for what is shown of them, which takes up to half a second a MiB.
"""

_ONE_MESSAGE_BYTES: Final = 104 * 1024 * 1024
_TOGETHER_BYTES: Final = 8 * 1024 * 1024
_SECONDS: Final = 0.1
_LEAST_MESSAGE_BYTES: Final = 57
"""No stored message is shorter: {"role":"a","content":"","message_id":"a","created_at":0}."""


class Form(NamedTuple, Generic[T]):
    """What is made of a message as a store reads it: the message, or at once its JSON form."""

    message: Callable[[T], ChatMessage]
    json: Callable[[T], dict[str, Any]]


_MESSAGES: Final[Form[Any]] = Form(lambda message: message, ChatMessage.to_dict)

Arrange = Callable[[list[Any]], list[Any]]


class AnswerBudget:
    """Encodes answers and keeps count of them."""

    def __init__(self, together_bytes: int = _TOGETHER_BYTES, seconds: float = _SECONDS) -> None:
        self._together_bytes = together_bytes
        self._seconds = seconds
        self.restart()

    def restart(self) -> None:
        """Begin to count anew, with another transaction."""
        self._has_read = False
        self._left_bytes = self._together_bytes
        self._deadline = time.monotonic() + self._seconds

    @property
    def is_used_up(self) -> bool:
        """Whether what comes next has to wait for another transaction; only what returns
        messages or other data uses it up."""
        return self._has_read and (self._left_bytes <= 0 or time.monotonic() > self._deadline)

    def encode(self, answer: Answer) -> Answer:
        """Any answer; raises `OperationRefusedError` when it is too large."""
        self._has_read = True
        encoded = _encoded(answer)
        self._left_bytes -= len(encoded.json)
        return encoded

    def outcome(self, outcome: Outcome) -> Outcome | EncodedAnswer:
        """What a write did, encoded where it returns messages; their size was limited before."""
        if outcome.messages is None:
            return outcome
        self._has_read = True
        encoded = EncodedAnswer(encode_answer(outcome), outcome.key)
        self._left_bytes -= len(encoded.json)
        return encoded

    def messages(self, as_read: Iterable[T], arrange: Arrange, form: Form[T]) -> Answer:
        """A history; stops reading where it becomes too large, and raises."""
        self._has_read = True
        parts: list[bytes] = []
        size_bytes = 0
        for part in map(orjson.dumps, map(form.json, as_read)):
            size_bytes += len(part) + len(SEPARATOR)
            if size_bytes > (MAX_ANSWER_BYTES if parts else _ONE_MESSAGE_BYTES):
                raise _too_large()
            parts.append(part)
        self._left_bytes -= size_bytes
        return EncodedAnswer(b"[" + SEPARATOR.join(arrange(parts)) + b"]")


class TimeBudget(AnswerBudget):
    """For callers in this process: answers stay as they are, and only their time counts."""

    def encode(self, answer: Answer) -> Answer:
        self._has_read = True
        return answer

    def outcome(self, outcome: Outcome) -> Outcome:
        self._has_read |= outcome.messages is not None
        return outcome

    def messages(self, as_read: Iterable[T], arrange: Arrange, form: Form[T]) -> Answer:
        self._has_read = True
        return LoadedMessages(arrange([*map(form.message, as_read)]))


def oldest_first(as_read: list[T]) -> list[T]:
    """What was read newest first."""
    as_read.reverse()
    return as_read


def history(
    as_read: Iterable[T],
    budget: AnswerBudget | None,
    arrange: Arrange = oldest_first,
    form: Form[T] = _MESSAGES,
) -> Answer:
    """Messages as an answer, encoded within the budget, if there is one.

    They are read in the form that a store has them in. `arrange` puts them, or what was made of
    each, in order when all are read; it may drop some.
    """
    budget = TimeBudget() if budget is None else budget
    return budget.messages(as_read, arrange, form)


def until_used_up(budget: AnswerBudget | None, answers: Iterable[T]) -> list[T]:
    """All the answers, or those with which the budget is used up."""
    if budget is None:
        return list(answers)
    budget.restart()
    begun: list[T] = []
    for answer in answers:
        begun.append(answer)
        if budget.is_used_up:
            break
    return begun


def check_count(messages: int, budget: AnswerBudget | None) -> None:
    """Refuse so many messages without having read one, where they cannot fit into an answer."""
    if budget is not None and messages * _LEAST_MESSAGE_BYTES > MAX_ANSWER_BYTES:
        raise _too_large()


def check_bytes(size_bytes: int, budget: AnswerBudget | None) -> None:
    """Refuse so many bytes without having read them, where they cannot fit into an answer."""
    if budget is not None and size_bytes > MAX_ANSWER_BYTES:
        raise _too_large()


def hit_bytes(hit: SearchHit) -> int:
    """How much of a page a hit takes, before it has its snippet."""
    return len(orjson.dumps(hit_to_json(hit)))


def page_of(found: Iterable[T], limit: int, hit: Callable[[T], SearchHit]) -> tuple[list[T], bool]:
    """At most `limit` of what was found, as far as a page holds it, and whether there is more."""
    page: list[T] = []
    size_bytes = 0
    for each in found:
        size_bytes += hit_bytes(hit(each))
        if page and (len(page) == limit or size_bytes > PAGE_BYTES):
            return page, True
        page.append(each)
    return page, False


def _encoded(answer: Answer) -> EncodedAnswer:
    encoded = EncodedAnswer(encode_answer(answer))
    is_one = isinstance(answer, FoundMessage)
    is_one |= isinstance(answer, SearchPage) and len(answer) == 1
    if len(encoded.json) > (_ONE_MESSAGE_BYTES if is_one else MAX_ANSWER_BYTES):
        raise _too_large()
    return encoded


def out_of_memory() -> OperationRefusedError:
    """The refusal of a read that the worker has too little memory for."""
    return OperationRefusedError("the worker has too little memory for this; ask for less")


def forgetful(refusal: OperationRefusedError) -> OperationRefusedError:
    """The refusal without its traceback, whose frames hold all that was read until then."""
    refusal.__cause__ = refusal.__context__ = None
    return refusal.with_traceback(None)


def _too_large() -> OperationRefusedError:
    return OperationRefusedError(
        f"the answer would have more than {MAX_ANSWER_BYTES:,} bytes; ask for less with limit="
    )
