"""What becomes of an operation: receipts, outcomes, and the reports of maintenance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from backscroll.contract.messages import ChatMessage


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a write left behind.

    `op_id` is also the RQ job's id. With `ack="stored"`, `affected` says how many messages (or
    sessions) the operation touched, 0 when there was nothing to do, and `duplicate` that its op
    id had been applied before; both are None when the worker was not waited for. `spooled`: the
    server could not be reached, and the operation waits in the producer's spool.

    `message_ids` has one id for each message of an append. A message whose platform id the session
    has already is not stored again: `affected` does not count it, and with `ack="stored"` its id
    here is that of the stored message. If that one is gone by now, nothing has the id. Of a fork it
    has the id of the last message. `messages` are what a pop removed, oldest first.
    """

    op_id: str
    message_ids: tuple[str, ...] = ()
    affected: int | None = None
    duplicate: bool | None = None
    spooled: bool = False
    messages: tuple[ChatMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a write did: how many messages (or sessions) it touched, or that it had been done.

    `conflict`: its condition did not hold, so it did nothing, and will not when it is sent again.
    `message_ids` are those of an append's messages, if they are others than follow from its op id.
    `messages` are what a pop removed, as far as that is recorded. `key` is that of the session that
    was changed, if it is another than the operation's: it was renamed since that was requested.
    """

    affected: int
    duplicate: bool = False
    conflict: bool = False
    message_ids: tuple[str, ...] | None = None
    messages: tuple[ChatMessage, ...] | None = None
    key: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class CleanedSession:
    """A session that a cleanup removed, or of which it took the oldest messages, and why.

    `rule` names the rule of the retention file that held, or is "default", or "own" where the
    session's own `ttl_hours` held. `messages` is how many went. With
    `is_whole` the session is gone, else it had more messages than the rule keeps, or the rule is
    for an author whose messages are older.
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
    """What a compaction gave back: bytes on disk, op ids, corrupt lines set aside, attachments.

    `log_is_held` says that another program keeps SQLite's log: what is free is given back, and what
    was deleted is wiped, by a compaction after it has let go.
    """

    bytes_before: int
    bytes_after: int
    op_ids_purged: int
    corrupt_lines: int
    seconds: float
    log_is_held: bool = False
    blobs_removed: int = 0

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
