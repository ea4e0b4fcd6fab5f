"""The code of docs/integrations, run as it stands there, by a real worker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import redis

from backscroll import Producer
from backscroll_worker.cli import main
from backscroll_worker.settings import Settings
from tests.processes import running_worker
from tests.servers import ROOT
from tests.test_readme import python_blocks

PAGES = ["mcp", "tools"]


@pytest.fixture
def producer(settings: Settings, client: redis.Redis, log: Any) -> Iterator[Producer]:
    with running_worker(settings, client, log), Producer(settings.redis_url) as made:
        yield made


@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_followed(producer: Producer, page: str) -> None:
    names: dict[str, Any] = {"producer": producer}
    blocks = python_blocks(f"docs/integrations/{page}.md")
    assert blocks
    for code in blocks:
        exec(code, names)  # noqa: S102 - it is our page


def test_what_a_client_is_configured_with_is_a_command() -> None:
    text = (ROOT / "docs/integrations/mcp.md").read_text()
    (block,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    (server,) = orjson.loads(block)["mcpServers"].values()
    arguments: list[str] = server["args"]
    place = arguments.index("mcp")
    context: Any = main.make_context(server["command"], list(arguments[: place + 1]))
    command = context.command.commands["mcp"]
    assert command.make_context("mcp", arguments[place + 1 :], parent=context).params["author"]
