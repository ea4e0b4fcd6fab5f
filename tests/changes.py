"""Random changes of sessions, as calls of any producer."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from backscroll import ChatMessage

HI = ChatMessage.user("hi")


def random_change(rng: random.Random, keys: list[str]) -> Callable[[Any], Any]:
    """A change of one of the sessions with these keys, the same for each producer it is given."""
    key, other = rng.sample(keys, 2)
    name = str(rng.random())
    digit = rng.choice(name)
    at = datetime.fromtimestamp(rng.uniform(1.7e9, 1.8e9), UTC)
    said = ChatMessage.user(name, author=rng.choice("xyz"), platform_id=name)
    changes: list[Callable[[Any], Any]] = [
        lambda p: p.append(key, said, dedup_key=digit),
        lambda p: p.append(key, said, HI),
        lambda p: p.replace(key, ChatMessage.user(name)),
        lambda p: p.rollback(key),
        lambda p: p.splice(key, said, remove=2),
        lambda p: p.pop(key),
        lambda p: p.describe(key, name=name),
        lambda p: p.backfill(key, ChatMessage.user(name, platform_id=name, created_at=at)),
    ]
    rare: list[Callable[[Any], Any]] = [
        lambda p: p.clear(key),
        lambda p: p.delete(key),
        lambda p: p.delete(prefix=key),
        lambda p: p.fork(key, other),
        lambda p: p.rename(key, other),
        lambda p: p.merge(key, other),
        lambda p: p.reset(key),
        lambda p: p.erase(key=key),
        lambda p: p.erase(author="x"),
        lambda p: p.rename_agent("a", "b"),
        lambda p: p.close_session(key),
        lambda p: p.reopen_session(key),
        lambda p: p.cleanup(1e6),
        lambda p: p.compact(),
    ]
    return rng.choice(changes) if rng.random() < 0.8 else rng.choice(rare)
