"""The code of docs/conversations.md, run as it stands there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import Producer
from backscroll_worker.embedded import Local
from backscroll_worker.settings import Settings
from tests.processes import running_worker
from tests.test_readme import python_blocks


@contextmanager
def queue(settings: Settings, client: redis.Redis, log: Path) -> Iterator[Producer]:
    with running_worker(settings, client, log), Producer(settings.redis_url) as producer:
        yield producer


@contextmanager
def embedded(settings: Settings, _client: redis.Redis, _log: Path) -> Iterator[Local]:
    with Local(settings.store) as local:
        yield local


@pytest.mark.parametrize("way", [queue, embedded])
def test_the_page_on_conversations_can_be_followed(
    way: Any, settings: Settings, client: redis.Redis, log: Path
) -> None:
    with way(settings, client, log) as producer:
        names: dict[str, Any] = {"producer": producer}
        blocks = python_blocks("docs/conversations.md")
        assert blocks
        for code in blocks:
            exec(code, names)  # noqa: S102 - it is our page
    assert names["used"].messages == 6
