"""The code of docs/conversations.md, run as it stands there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis

from backscroll import Producer
from backscroll_worker.settings import Settings
from tests.processes import running_worker
from tests.test_readme import python_blocks


def test_the_page_on_conversations_can_be_followed(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    with running_worker(settings, client, log), Producer(settings.redis_url) as producer:
        names: dict[str, Any] = {"producer": producer}
        blocks = python_blocks("docs/conversations.md")
        assert blocks
        for code in blocks:
            exec(code, names)  # noqa: S102 - it is our page
    assert names["used"].messages == 6
