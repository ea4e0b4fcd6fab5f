"""The search tool for Pydantic AI: what an agent finds is what its user may see."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, FunctionToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from backscroll import ChatMessage
from backscroll.integrations.pydantic_ai import search_history_tool
from backscroll.integrations.tools import Scope
from backscroll_worker.embedded import AsyncLocal

pytestmark = pytest.mark.slow


def test_an_agent_searches_within_its_users_scope(tmp_path: Path) -> None:
    answers = list[str]()

    def searches(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        answers.extend(
            str(part.content) for part in messages[-1].parts if isinstance(part, ToolReturnPart)
        )
        wanted: list[dict[str, Any]] = [
            {"query": "lemons"},
            {"query": "lemons", "author": "43"},
            {"query": 7},
        ]
        if len(answers) < len(wanted):
            return ModelResponse(parts=[ToolCallPart("search_history", wanted[len(answers)])])
        return ModelResponse(parts=[TextPart("Found.")])

    async def run() -> None:
        async with AsyncLocal(f"sqlite://{tmp_path}/history") as history:
            await history.append("a", ChatMessage.user("lemons of Naples", author="42"))
            await history.append("b", ChatMessage.user("SECRET lemons", author="43"))
            tool = search_history_tool(history, Scope(author="42"))
            result = await Agent(FunctionModel(searches)).run(
                "What about lemons?", toolsets=[FunctionToolset([tool])]
            )
            assert result.output == "Found."

    asyncio.run(run())
    assert "    lemons of Naples" in answers[0]
    assert "SECRET" not in "".join(answers)
    assert answers[1] == "author: is fixed here and cannot be given; leave it out"
    assert answers[2] == "query: must be text, not int"
