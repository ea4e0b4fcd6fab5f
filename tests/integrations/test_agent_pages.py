"""The code of docs/integrations for agent frameworks, run in both ways to keep a history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agents
import pytest
import redis
from llama_index.core.llms.mock import MockFunctionCallingLLM

from backscroll_worker.settings import Settings
from tests.integrations.agent_models import EchoModel, StrandsEcho
from tests.integrations.scripted_client import ScriptedClient
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
    ("page", "needed"),
    [
        ("agent-framework", {"client": ScriptedClient}),
        ("llama-index", {"llm": MockFunctionCallingLLM}),
        ("openai-agents", {"model": EchoModel}),
        ("strands", {"model": StrandsEcho}),
    ],
)
def test_a_page_on_agents_can_be_followed(history: str, page: str, needed: dict[str, Any]) -> None:
    names: dict[str, Any] = {"history": history} | {each: needed[each]() for each in needed}
    blocks = python_blocks(f"docs/integrations/{page}.md")
    assert blocks
    for code in blocks:
        exec(code, names)  # noqa: S102 - it is our page
