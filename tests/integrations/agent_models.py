"""Models of the agent frameworks that repeat what they were asked, and need no network."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import agents
from agents.testing import assistant_message
from strands.models import Model as StrandsModel


class EchoModel(agents.Model):
    """A model of the OpenAI Agents SDK."""

    async def get_response(self, *given: Any, **named: Any) -> agents.ModelResponse:
        asked: Any = named.get("input", given[1] if len(given) > 1 else None)
        said = asked if isinstance(asked, str) else asked[-1]["content"]
        return agents.ModelResponse([assistant_message(said)], agents.Usage(), None)

    def stream_response(self, *given: Any, **named: Any) -> AsyncIterator[Any]:
        raise AssertionError("no test has an answer streamed")


class StrandsEcho(StrandsModel):
    """A model of Strands."""

    def update_config(self, **_config: Any) -> None:
        pass

    def get_config(self) -> Any:
        return {}

    def structured_output(self, *_given: Any, **_named: Any) -> AsyncGenerator[Any, None]:
        raise AssertionError("no test asks for structured output")

    async def stream(self, messages: Any, *_given: Any, **_named: Any) -> AsyncGenerator[Any, None]:
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": {}}}
        yield {"contentBlockDelta": {"delta": {"text": messages[-1]["content"][0]["text"]}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}
