"""What sessions have besides their messages, through the queue: own values and state."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import Producer
from backscroll_worker.settings import Settings
from tests.processes import running_worker

_PAGE = Path(__file__).parent.parent / "docs/conversations.md"


@pytest.fixture
def producer(settings: Settings, client: redis.Redis, tmp_path: Path) -> Iterator[Producer]:
    log = tmp_path / "worker.log"
    with running_worker(settings, client, log), Producer(settings.redis_url) as made:
        yield made


@pytest.mark.parametrize("part", ["Own keys and values of a session"])
def test_the_code_of_the_conversations_page_runs(producer: Producer, part: str) -> None:
    _, _, text = _PAGE.read_text().partition(f"\n## {part}\n")
    blocks = re.findall(r"```python\n(.*?)```", text.partition("\n## ")[0], re.DOTALL)
    assert blocks
    names: dict[str, Any] = {"producer": producer}
    for code in blocks:
        exec(code, names)  # noqa: S102 - it is our document
