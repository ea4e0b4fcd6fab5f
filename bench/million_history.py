"""The history that a model gets of one very long session."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from backscroll import ChatMessage
from backscroll.contract.message_checks import Limits
from backscroll.contract.requests import Requests
from backscroll_worker.contract.history import HistoryReader
from backscroll_worker.stores import Store, open_store
from bench.data import SEED, messages
from bench.million_reads import GROUP, PAGE, p99_of

KEY: Final = "long"
_TOKENS: Final = 40
_SUMMARIZED: Final = 2 * PAGE

PLAIN: Final[Mapping[str, Any]] = {"limit": PAGE}
FOR_A_MODEL: Final[Mapping[str, Any]] = {"legal": True, "max_tokens": PAGE * _TOKENS}
ACTIVE: Final[Mapping[str, Any]] = {**FOR_A_MODEL, "active": True}


def long_session(url: str, count: int) -> None:
    """A store with one session of `count` messages, tool calls among them, and a summary."""
    requests, said = Requests(Limits()), _conversation(count)
    with open_store(url) as store:
        last = ""
        while group := list(islice(said, GROUP)):
            appends = [requests.append(KEY, (message,)) for message in group]
            store.apply(appends)
            last = appends[max(0, len(appends) - _SUMMARIZED)].op_id
        summary = ChatMessage.summary("What was said before.", upto=last)
        store.apply([requests.append(KEY, (summary,))])


def history_p99(store: Store, options: Mapping[str, Any], count: int) -> float:
    """Milliseconds to load that session's history with `options`."""
    history = HistoryReader(store)
    return p99_of(lambda key: len(history.load(key, **options)), [KEY] * count)


def _conversation(count: int) -> Iterator[ChatMessage]:
    draw = random.Random(SEED)
    open_call = ""
    for number, (_, message) in enumerate(messages(count)):
        if open_call:
            extra: dict[str, Any] = {"tool_call_id": open_call}
            yield ChatMessage("tool", message.content, extra, tokens=_TOKENS)
            open_call = ""
        elif draw.random() < 0.1:
            open_call = f"call_{number}"
            extra = {"tool_calls": [{"id": open_call, "function": {"name": "look_up"}}]}
            yield ChatMessage("assistant", message.content, extra, tokens=_TOKENS)
        else:
            yield ChatMessage(message.role, message.content, tokens=_TOKENS)
