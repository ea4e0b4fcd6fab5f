"""The code of docs/integrations for agent frameworks, run in both ways to keep a history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agents
import pytest
import redis

from backscroll_worker.settings import Settings
from tests.integrations.agent_models import EchoModel, StrandsEcho
from tests.processes import running_worker
from tests.test_readme import python_blocks

pytestmark = pytest.mark.slow


@pytest.fixture(params=["embedded", "queue"])
def history(
    request: pytest.FixtureRequest, settings: Settings, client: redis.Redis, log: Path
) -> Iterator[str]:
    agents.set_tracing_disabled(True)
    if request.param == "embedded":
        yield f"sqlite://{log.parent}/chat.db"
    else:
        with running_worker(settings, client, log):
            yield str(settings.redis_url)


@pytest.mark.parametrize(
    ("page", "model"), [("openai-agents", EchoModel), ("strands", StrandsEcho)]
)
def test_a_page_on_agents_can_be_followed(history: str, page: str, model: Any) -> None:
    names: dict[str, Any] = {"history": history, "model": model()}
    blocks = python_blocks(f"docs/integrations/{page}.md")
    assert blocks
    for code in blocks:
        exec(code, names)  # noqa: S102 - it is our page
