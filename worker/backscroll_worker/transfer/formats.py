"""The formats of exports: exact (jsonl), for reading (markdown, html), for training (openai).

Each is a function from sessions to the chunks of a document, so that only one chunk is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from backscroll_worker.transfer.html import html
from backscroll_worker.transfer.jsonl import write_jsonl
from backscroll_worker.transfer.markdown import markdown
from backscroll_worker.transfer.openai import write_openai
from backscroll_worker.transfer.sessions import ExportedSession

FORMATS: Final[dict[str, Callable[[Iterable[ExportedSession]], Iterator[bytes]]]] = {
    "jsonl": write_jsonl,
    "markdown": markdown,
    "html": html,
    "openai": write_openai,
}
