"""A folder of old sessions as the original program left them, for the demo to migrate."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import orjson

from backscroll_worker.demo.corpus import Session

AGE_DAYS: Final = 90
SESSIONS: Final = 30


def write_old_sessions(directory: Path, sessions: list[Session]) -> None:
    """Write some sessions as JSONL, role and content per line, last changed 90 days ago.

    One file also gets a torn line, as a crash would leave it.
    """
    directory.mkdir(parents=True)
    changed = time.time() - AGE_DAYS * 86_400
    for number, session in enumerate(sessions[:SESSIONS]):
        path = directory / f"telegram_old_{session.language}_{session.topic}.jsonl"
        lines = [
            orjson.dumps({"role": ("user", "assistant")[place % 2], "content": text})
            for conversation in session.conversations
            for place, text in enumerate(conversation)
        ]
        if number == 0:
            lines.insert(1, b'{"role":"user","conte')
        path.write_bytes(b"\n".join(lines) + b"\n")
        os.utime(path, (changed, changed))
