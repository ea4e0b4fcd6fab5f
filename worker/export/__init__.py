"""Sessions out of a store: exactly (jsonl), to be read (markdown, html), to train on (openai).

One module a format; each is a function from sessions to the pieces of the document, so that no
more than a piece need be in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from worker.export.html import html
from worker.export.jsonl import jsonl
from worker.export.markdown import markdown
from worker.export.openai import openai
from worker.export.sessions import ExportedSession

FORMATS: Final[dict[str, Callable[[Iterable[ExportedSession]], Iterator[bytes]]]] = {
    "jsonl": jsonl,
    "markdown": markdown,
    "html": html,
    "openai": openai,
}
