"""What the worker answers: as objects, in JSON, and read back by the producer.

Each `answered_…` function raises `OperationRefusedError` for an answer of another form than this
version's; what a newer worker says in addition is ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import orjson

from backscroll.contract.conflicts import conflict
from backscroll.contract.errors import STUMBLES, OperationRefusedError
from backscroll.contract.filters import SearchHit, SearchPage
from backscroll.contract.messages import ChatMessage, SessionInfo, SessionPage
from backscroll.contract.operations import Operation
from backscroll.contract.states import SessionState
from backscroll.contract.tool_calls import LoadedMessages


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a write left behind.

    `op_id` is also the RQ job's id. With `ack="stored"`, `affected` says how many messages (or
    sessions) the operation touched, 0 when there was nothing to do, and `duplicate` that its op
    id had been applied before; both are None when the worker was not waited for. `spooled`: the
    server could not be reached, and the operation waits in the producer's spool.

    `message_ids` has one id for each message of an append. A message whose platform id the session
    has already is not stored again: `affected` does not count it, and with `ack="stored"` its id
    here is that of the stored message. If that one is gone by now, nothing has the id.
    """

    op_id: str
    message_ids: tuple[str, ...] = ()
    affected: int | None = None
    duplicate: bool | None = None
    spooled: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a write did: how many messages (or sessions) it touched, or that it had been done.

    `conflict`: its condition did not hold, so it did nothing, and will not when it is sent again.
    `message_ids` are those of an append's messages, if they are others than follow from its op id.
    """

    affected: int
    duplicate: bool = False
    conflict: bool = False
    message_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class CleanedSession:
    """A session that a cleanup removed, or of which it took the oldest messages, and why.

    `rule` names the rule of the retention file that held, or is "default". `messages` is how many
    went. With `is_whole` the session is gone, else it had more messages than the rule keeps, or the
    rule is for an author whose messages are older.
    """

    key: str
    rule: str
    idle_hours: float
    messages: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class RuleTotals:
    """What went by one rule: `messages` with their sessions, `capped` ones out of others."""

    rule: str
    sessions: int
    messages: int
    capped: int


@dataclass(frozen=True, slots=True)
class CleanupReport:
    """What a cleanup removed, or with `dry_run` would remove.

    `messages` went with their sessions, `capped` are the oldest ones, of all or of an
    author, in sessions that stay.
    `details` has at most 1,000 sessions. `ttl_hours` is the default's, None for ever.
    """

    sessions: int
    messages: int
    capped: int
    ttl_hours: float | None
    dry_run: bool
    seconds: float
    rules: tuple[RuleTotals, ...] = ()
    details: tuple[CleanedSession, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The sessions that are gone, as far as `details` names them."""
        return tuple([detail.key for detail in self.details if detail.is_whole])

    def summary(self) -> str:
        """What happened, in a line for the log; no session is named."""
        verb = "would remove" if self.dry_run else "removed"
        return (
            f"cleanup {verb} {self.sessions:,} sessions with {self.messages:,} messages, and "
            f"{self.capped:,} messages of others, in {self.seconds:.1f} s"
        )


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What came back from the archive, into the session `key`; `present` messages were there."""

    key: str
    messages: int
    present: int
    seconds: float

    def summary(self) -> str:
        """What happened, in a line for the log; no session is named."""
        return (
            f"restored {self.messages:,} messages from the archive, {self.present:,} more were in "
            f"the store already, in {self.seconds:.1f} s"
        )


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What a compaction gave back, in bytes on disk, purged op ids and corrupt lines set aside.

    `log_is_held` says that another program keeps SQLite's log: what is free is given back, and what
    was deleted is wiped, by a compaction after it has let go.
    """

    bytes_before: int
    bytes_after: int
    op_ids_purged: int
    corrupt_lines: int
    seconds: float
    log_is_held: bool = False

    def summary(self) -> str:
        """What happened, in a line for the log."""
        held = "; another program keeps SQLite's log, so little is given back"
        return (
            f"compaction took {self.bytes_before:,} bytes to {self.bytes_after:,}, purged "
            f"{self.op_ids_purged:,} op ids and set {self.corrupt_lines:,} corrupt lines aside, "
            f"in {self.seconds:.1f} s{held if self.log_is_held else ''}"
        )


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """What an erasure removed; whoever asked for it can keep it as proof.

    It names nobody: `subject` is "key", "sender", "room" or "author", and `subject_sha256` is over
    it, a NUL and the value. Of an author's `sessions` and `archived` ones only the messages went.
    `messages_sha256` is over the sorted ids of the erased messages, one per line.
    `op_ids`, `archived` and `failed_jobs` count the records of operations, the archived sessions
    and the failed jobs that went with them. Until nobody reads there any more, `log_is_held` says,
    the store's log keeps a copy; a compaction removes it. Of a JSONL store's `unreadable` sessions
    it is not known whether they are the sender's or the room's. Times are microseconds since 1970
    UTC.
    """

    op_id: str
    subject: str
    subject_sha256: str
    asked_at: int
    finished_at: int
    sessions: int
    messages: int
    messages_sha256: str
    op_ids: int
    archived: int = 0
    failed_jobs: int = 0
    log_is_held: bool = False
    unreadable: int = 0

    def summary(self) -> str:
        """What happened, in a line for the log."""
        left = f"; it is unknown whose {self.unreadable:,} more are" if self.unreadable else ""
        return (
            f"erasure {self.op_id} removed {self.sessions:,} sessions with {self.messages:,} "
            f"messages, {self.archived:,} archived and {self.failed_jobs:,} failed jobs{left}"
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """What messages cost a model: the tokens of all those with a count, and by whom.

    `uncounted` of the `messages` have none. `by_author` has no messages without an author.
    """

    messages: int
    uncounted: int
    tokens: int
    by_author: Mapping[str, int]
    by_role: Mapping[str, int]

    @classmethod
    def of(cls, groups: Iterable[tuple[str, str | None, int, int, int]]) -> Usage:
        """Of messages by role and author: how many, how many of them with a count, their tokens."""
        by_author, by_role = Counter[str](), Counter[str]()
        messages = uncounted = 0
        for role, author, total, counted, tokens in groups:
            messages += total
            uncounted += total - counted
            if counted:
                by_role[role] += tokens
            if counted and author is not None:
                by_author[author] += tokens
        return cls(messages, uncounted, by_role.total(), dict(by_author), dict(by_role))


@dataclass(frozen=True, slots=True)
class EncodedAnswer:
    """An answer that is on its way already: its JSON form, as bytes."""

    json: bytes


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
    if isinstance(answer, SearchPage):
        page = {"hits": [hit_to_json(hit) for hit in answer.hits], "cursor": answer.cursor}
        return {**page, "excluded": answer.excluded} if answer.excluded else page
    if isinstance(answer, list):
        return [message.to_dict() for message in answer]
    if isinstance(answer, dict):
        return {name: asdict(state) for name, state in answer.items()}
    if isinstance(answer, Outcome) and answer.message_ids is None:
        outcome = {"affected": answer.affected, "duplicate": answer.duplicate}
        return {**outcome, "conflict": True} if answer.conflict else outcome
    return None if answer is None else asdict(answer)


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
    outcome = _known(Outcome, value)
    if outcome.conflict:
        raise conflict(operation)
    message_ids, duplicate = tuple(outcome.message_ids or message_ids), outcome.duplicate
    return Receipt(operation.op_id, message_ids, outcome.affected, duplicate or was_known)


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
