"""The exact export, which `backscroll import` takes back: one JSON object a line.

    {"backscroll_export":1}
    {"session":{"key":…,"created_at":micros,"last_activity":micros,…}}
    {"role":…,"content":…,"extra":…,"message_id":…,"created_at":micros,"edits":[…]}
    {"end":1}

A session's line has its attributes as far as they are set, a message's is that of the JSONL store.
The last line of a session says how many messages there were, so that one which was cut off shows.
docs/formats.md describes it for users.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson

from backscroll.contract.messages import SessionInfo
from backscroll.contract.validation import ATTRIBUTES
from backscroll_worker.transfer.sessions import ExportedSession

VERSION: Final = 1
_TIMES: Final = ("created_at", "last_activity", "turn_started_at")


def jsonl(sessions: Iterable[ExportedSession]) -> Iterator[bytes]:
    """Everything that is known of the sessions."""
    yield _line({"backscroll_export": VERSION})
    for session in sessions:
        yield _line({"session": _session(session.info)})
        count = 0
        for message in session.messages:
            count += 1
            yield _line(message.to_dict())
        yield _line({"end": count})


def _session(info: SessionInfo) -> dict[str, Any]:
    fields = info.to_dict()
    wanted = ("key", *_TIMES, *ATTRIBUTES)
    return {name: fields[name] for name in wanted if fields[name] is not None}


def _line(fields: dict[str, Any]) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
