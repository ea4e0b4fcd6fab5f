"""Sessions out of a store: exactly (jsonl), to be read (markdown, html), to train on (openai).

One module a format; each is a function from sessions to the pieces of the document, so that no
more than a piece need be in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from backscroll_worker.transfer.html import html
from backscroll_worker.transfer.markdown import markdown
from backscroll_worker.transfer.sessions import ExportedSession
from backscroll_worker.transfer.write_jsonl import jsonl
from backscroll_worker.transfer.write_openai import openai

FORMATS: Final[dict[str, Callable[[Iterable[ExportedSession]], Iterator[bytes]]]] = {
    "jsonl": jsonl,
    "markdown": markdown,
    "html": html,
    "openai": openai,
}
