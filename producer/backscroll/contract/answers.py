"""What the worker answers, in JSON, and reading it in the producer.

Each `answered_…` function raises `OperationRefusedError` for an answer of another form than this
version's; what a newer worker says in addition is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import orjson

from backscroll.contract.attachments import to_base64
from backscroll.contract.conflicts import conflict
from backscroll.contract.errors import STUMBLES, OperationRefusedError
from backscroll.contract.filters import FoundMessage, SearchHit, SearchPage
from backscroll.contract.messages import ChatMessage, SessionInfo, SessionPage
from backscroll.contract.operations import Operation
from backscroll.contract.results import (
    CleanedSession,
    CleanupReport,
    CompactReport,
    ErasureReceipt,
    Outcome,
    Receipt,
    RestoreReport,
    RuleTotals,
    Usage,
)
from backscroll.contract.splicing import popped
from backscroll.contract.states import SessionState
from backscroll.contract.tool_calls import LoadedMessages

SEPARATOR: Final = b",\n"
"""Between the messages of a history in JSON. None of them has a line's end in it."""


@dataclass(frozen=True, slots=True)
class EncodedAnswer:
    """An answer that is on its way already: its JSON form, as bytes; `key` as in an `Outcome`."""

    json: bytes
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Unencoded:
    """An answer of a store in this process, as it is: the `answered_…` functions return it."""

    answer: Any


Answer = (
    Outcome
    | EncodedAnswer
    | CleanupReport
    | CompactReport
    | RestoreReport
    | ErasureReceipt
    | SessionPage
    | SessionInfo
    | list[ChatMessage]
    | dict[str, SessionState]
    | bytes
    | FoundMessage
    | SearchPage
    | Usage
    | None
)


T = TypeVar("T")
P = ParamSpec("P")


def _understood(read: Callable[P, T]) -> Callable[P, T]:
    """Say of an answer that this version cannot read which side has to be updated."""

    @wraps(read)
    def reading(*arguments: P.args, **options: P.kwargs) -> T:
        if isinstance(arguments[0], Unencoded):
            return arguments[0].answer  # type: ignore[no-any-return]
        try:
            return read(*arguments, **options)
        except STUMBLES as error:
            # An error's text may quote what was said; what is missing is the name of a field.
            problem = f"no {error}" if isinstance(error, KeyError) else type(error).__name__
            raise OperationRefusedError(
                f"the worker's answer cannot be understood ({problem}): worker and producer are of "
                "different versions; update the older one"
            ) from None

    return reading


def encode_answer(answer: Answer) -> bytes:
    """The JSON form of an answer, encoded."""
    return answer.json if isinstance(answer, EncodedAnswer) else orjson.dumps(to_json(answer))


def to_json(answer: Answer) -> Any:
    """The JSON form of an answer, which the `answered_…` functions read."""
    if isinstance(answer, EncodedAnswer):
        return orjson.loads(answer.json)
    if isinstance(answer, SessionPage):
        return {"sessions": [info.to_dict() for info in answer.sessions], "cursor": answer.cursor}
    if isinstance(answer, SessionInfo):
        return answer.to_dict()
    if isinstance(answer, FoundMessage):
        return {"key": answer.key, "message": answer.message.to_dict()}
    if isinstance(answer, SearchPage):
        page = {"hits": [hit_to_json(hit) for hit in answer.hits], "cursor": answer.cursor}
        return {**page, "excluded": answer.excluded} if answer.excluded else page
    if isinstance(answer, bytes):
        return to_base64(answer)
    if isinstance(answer, list):
        return [message.to_dict() for message in answer]
    if isinstance(answer, dict):
        return {name: asdict(state) for name, state in answer.items()}
    if isinstance(answer, Outcome) and answer.message_ids is None:
        return _outcome_to_json(answer)
    return None if answer is None else asdict(answer)


def _outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    fields: dict[str, Any] = {"affected": outcome.affected, "duplicate": outcome.duplicate}
    if outcome.messages is not None:
        fields["messages"] = [message.to_dict() for message in outcome.messages]
    return {**fields, "conflict": True} if outcome.conflict else fields


def hit_to_json(hit: SearchHit) -> dict[str, Any]:
    """The JSON form of one hit of a page."""
    return {
        "key": hit.key,
        "message": hit.message.to_dict(),
        "snippet": hit.snippet,
        "marks": hit.marks,
        "score": hit.score,
        "session_matches": hit.session_matches,
    }


@_understood
def answered_receipt(
    value: Any, operation: Operation, message_ids: tuple[str, ...], was_known: bool
) -> Receipt:
    messages = tuple([ChatMessage.from_dict(item) for item in value.get("messages") or ()])
    outcome = _known(Outcome, {**value, "messages": messages})
    return receipt_of(outcome, operation, message_ids, was_known)


def receipt_of(
    outcome: Outcome, operation: Operation, message_ids: tuple[str, ...], was_known: bool = False
) -> Receipt:
    """What a write's caller gets; raises `ConflictError` where its condition did not hold."""
    if outcome.conflict:
        raise conflict(operation, was_known=outcome.duplicate or was_known)
    message_ids, duplicate = tuple(outcome.message_ids or message_ids), outcome.duplicate
    known = outcome.affected, duplicate or was_known
    return Receipt(operation.op_id, message_ids, *known, messages=popped(operation, outcome))


@_understood
def answered_messages(value: Any) -> LoadedMessages:
    return LoadedMessages([ChatMessage.from_dict(item) for item in value])


@_understood
def answered_session(value: Any) -> SessionInfo | None:
    return None if value is None else _info(value)


@_understood
def answered_states(value: Mapping[str, Any]) -> dict[str, SessionState]:
    return {name: _known(SessionState, state) for name, state in value.items()}


@_understood
def answered_page(value: Any) -> SessionPage:
    return SessionPage(tuple(_info(item) for item in value["sessions"]), value["cursor"])


@_understood
def answered_hits(value: Any) -> SearchPage:
    hits = tuple([_hit(item) for item in value["hits"]])
    return SearchPage(hits, value["cursor"], tuple(value.get("excluded", ())))


@_understood
def answered_message(value: Mapping[str, Any] | None) -> FoundMessage | None:
    if value is None:
        return None
    return FoundMessage(value["key"], ChatMessage.from_dict(value["message"]))


@_understood
def answered_usage(value: Mapping[str, Any]) -> Usage:
    return _known(Usage, value)


@_understood
def answered_cleanup(value: Mapping[str, Any]) -> CleanupReport:
    rules = tuple([_known(RuleTotals, item) for item in value["rules"]])
    details = tuple([_known(CleanedSession, item) for item in value["details"]])
    return _known(CleanupReport, {**value, "rules": rules, "details": details})


@_understood
def answered_restore(value: Mapping[str, Any]) -> RestoreReport:
    return _known(RestoreReport, value)


@_understood
def answered_compact(value: Mapping[str, Any]) -> CompactReport:
    return _known(CompactReport, value)


@_understood
def answered_erasure(value: Mapping[str, Any]) -> ErasureReceipt:
    return _known(ErasureReceipt, value)


def _info(value: Mapping[str, Any]) -> SessionInfo:
    return SessionInfo.from_dict(_known_fields(SessionInfo, value))


def _hit(value: Mapping[str, Any]) -> SearchHit:
    known = _known_fields(SearchHit, value)
    known["message"] = ChatMessage.from_dict(known["message"])
    known["marks"] = tuple([(start, end) for start, end in known["marks"]])
    return SearchHit(**known)


def _known(kind: type[T], value: Mapping[str, Any]) -> T:
    """A `kind` of what this version knows of `value`; a newer worker may say more."""
    return kind(**_known_fields(kind, value))


def _known_fields(kind: Any, value: Mapping[str, Any]) -> dict[str, Any]:
    """Raises `OperationRefusedError` when a field is missing that `kind` cannot do without."""
    for field in fields(kind):
        if field.name not in value and field.default is field.default_factory is MISSING:
            raise OperationRefusedError(
                f"the worker's answer has no {field.name!r}: the worker is older than this "
                "producer; update the worker"
            )
    return {field.name: value[field.name] for field in fields(kind) if field.name in value}
