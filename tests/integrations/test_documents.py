"""The code of docs/integrations, run as it stands there, by a real worker."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
import yaml
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.sessions import BaseSessionService
from google.genai.types import Content, Part
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from backscroll import AsyncProducer, Producer
from backscroll_worker.cli import main
from backscroll_worker.settings import Settings
from tests.processes import running_worker
from tests.servers import ROOT
from tests.test_readme import python_blocks

pytestmark = pytest.mark.slow

PAGES = ["google-adk", "langchain", "langgraph", "mcp", "pydantic-ai", "tools"]


@pytest.fixture
def producer(settings: Settings, client: redis.Redis, log: Any) -> Iterator[Producer]:
    with running_worker(settings, client, log), Producer(settings.redis_url) as made:
        yield made


@pytest.fixture
def history(producer: Producer) -> Iterator[AsyncProducer]:
    made = AsyncProducer(producer.url)
    yield made
    asyncio.run(made.close())


def a_model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """It looks for lemons if it has a tool for that, and says what it found."""
    last = messages[-1].parts[-1]
    if info.function_tools and not isinstance(last, ToolReturnPart):
        return ModelResponse(parts=[ToolCallPart("search_history", {"query": "lemons"})])
    return ModelResponse(parts=[TextPart(str(getattr(last, "content", "")))])


class EchoLlm(BaseLlm):
    """A model of ADK that repeats what was said."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        said = llm_request.contents[-1].parts or []
        yield LlmResponse(content=Content(role="model", parts=[Part(text=said[0].text)]))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_followed(producer: Producer, history: AsyncProducer, page: str) -> None:
    names: dict[str, Any] = {"producer": producer, "history": history}
    names |= {"model": FunctionModel(a_model), "llm": EchoLlm(model="echo")}
    blocks = python_blocks(f"docs/integrations/{page}.md")
    assert blocks
    for code in blocks:
        exec(code, names)  # noqa: S102 - it is our page


@pytest.mark.parametrize("page", ["langchain", "langgraph", "mcp", "tools"])
def test_a_page_can_be_tried_without_a_server(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    (above,) = python_blocks("docs/integrations/README.md")
    for code in (above, *python_blocks(f"docs/integrations/{page}.md")):
        exec(code, names)  # noqa: S102 - it is our page
    names["producer"].close()
    assert list(tmp_path.glob("chat.db*"))


def test_what_a_client_is_configured_with_is_a_command() -> None:
    text = (ROOT / "docs/integrations/mcp.md").read_text()
    (block,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    (server,) = orjson.loads(block)["mcpServers"].values()
    arguments: list[str] = server["args"]
    place = arguments.index("mcp")
    context: Any = main.make_context(server["command"], list(arguments[: place + 1]))
    command = context.command.commands["mcp"]
    assert command.make_context("mcp", arguments[place + 1 :], parent=context).params["author"]


def test_what_adk_is_configured_with_is_a_session_service() -> None:
    text = (ROOT / "docs/integrations/google-adk.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (service,) = yaml.safe_load(block)["services"]
    module, _, name = service["class"].rpartition(".")
    made = getattr(import_module(module), name)(
        AsyncProducer("redis://127.0.0.1:1"), uri=f"{service['scheme']}://", agents_dir="."
    )
    assert isinstance(made, BaseSessionService)
