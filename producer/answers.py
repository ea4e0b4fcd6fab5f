"""What the worker answers, from its JSON form to the objects a caller gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from producer.messages import ChatMessage, SearchHit, SessionInfo, SessionPage
from producer.requests import Receipt


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a write did: how many messages (or sessions) it touched, or that it had been done."""

    affected: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class CleanupReport:
    """What a cleanup removed, or with `dry_run` would remove. `keys` names at most 1,000."""

    sessions: int
    messages: int
    keys: tuple[str, ...]
    ttl_hours: float
    dry_run: bool
    seconds: float

    def summary(self) -> str:
        """What happened, in a line for the log; no session is named."""
        verb = "would remove" if self.dry_run else "removed"
        return (
            f"cleanup {verb} {self.sessions:,} sessions with {self.messages:,} messages, "
            f"idle for over {self.ttl_hours:g} h, in {self.seconds:.1f} s"
        )


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What a compaction gave back, in bytes on disk, purged op ids and dropped corrupt lines."""

    bytes_before: int
    bytes_after: int
    op_ids_purged: int
    corrupt_lines: int
    seconds: float

    def summary(self) -> str:
        """What happened, in a line for the log."""
        return (
            f"compaction took {self.bytes_before:,} bytes to {self.bytes_after:,}, purged "
            f"{self.op_ids_purged:,} op ids and dropped {self.corrupt_lines:,} corrupt lines, "
            f"in {self.seconds:.1f} s"
        )


Answer = (
    Outcome
    | CleanupReport
    | CompactReport
    | SessionPage
    | SessionInfo
    | list[ChatMessage]
    | list[SearchHit]
    | None
)


def to_json(answer: Answer) -> Any:
    """The JSON form of an answer, which the `answered_…` functions read."""
    if isinstance(answer, SessionPage):
        return {"sessions": [info.to_dict() for info in answer.sessions], "cursor": answer.cursor}
    if isinstance(answer, SessionInfo):
        return answer.to_dict()
    if isinstance(answer, list):
        return [_item_to_json(item) for item in answer]
    return None if answer is None else asdict(answer)


def _item_to_json(item: ChatMessage | SearchHit) -> dict[str, Any]:
    if isinstance(item, ChatMessage):
        return item.to_dict()
    return {
        "key": item.key,
        "message": item.message.to_dict(),
        "snippet": item.snippet,
        "marks": item.marks,
        "score": item.score,
    }


def answered_receipt(
    value: Any, op_id: str, message_ids: tuple[str, ...], was_known: bool
) -> Receipt:
    return Receipt(op_id, message_ids, value["affected"], value["duplicate"] or was_known)


def answered_messages(value: Any) -> list[ChatMessage]:
    return [ChatMessage.from_dict(item) for item in value]


def answered_session(value: Any) -> SessionInfo | None:
    return None if value is None else SessionInfo.from_dict(value)


def answered_page(value: Any) -> SessionPage:
    infos = tuple(SessionInfo.from_dict(item) for item in value["sessions"])
    return SessionPage(infos, value["cursor"])


def answered_hits(value: Any) -> list[SearchHit]:
    return [
        SearchHit(
            item["key"],
            ChatMessage.from_dict(item["message"]),
            item["snippet"],
            tuple((start, end) for start, end in item["marks"]),
            item["score"],
        )
        for item in value
    ]


def answered_cleanup(value: Mapping[str, Any]) -> CleanupReport:
    return CleanupReport(**{**value, "keys": tuple(value["keys"])})


def answered_compact(value: Mapping[str, Any]) -> CompactReport:
    return CompactReport(**value)
