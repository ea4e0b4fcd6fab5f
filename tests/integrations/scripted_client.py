"""A model of Microsoft's Agent Framework that needs no network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from agent_framework import (
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    Message,
)


class ScriptedClient(FunctionInvocationLayer[Any], ChatMiddlewareLayer[Any], BaseChatClient[Any]):
    """It calls a function with what was asked, then says how many messages it was given.

    Without a function it repeats what was asked. Its call of the number `fails_at` fails.
    """

    def __init__(self, function: str | None = None, fails_at: int = 0) -> None:
        super().__init__(middleware=[])
        self.function = function
        self.fails_at = fails_at
        self.calls = 0

    def _answer(self, messages: Sequence[Message]) -> Content:
        self.calls += 1
        if self.calls == self.fails_at:
            raise ConnectionError("the model is not there")
        asked = messages[-1]
        if self.function is None:
            return Content.from_text(asked.text)
        if asked.role != "user":
            return Content.from_text(f"I know {len(messages)} messages.")
        id_ = f"call-{self.calls}-{id(self)}"
        return Content.from_function_call(id_, self.function, arguments={"to": asked.text})

    def _inner_get_response(self, *, messages: Any, stream: bool, options: Any, **_: Any) -> Any:
        async def whole() -> ChatResponse:
            return ChatResponse(messages=[Message("assistant", [self._answer(messages)])])

        async def in_parts() -> AsyncIterator[ChatResponseUpdate]:
            yield ChatResponseUpdate(contents=[self._answer(messages)], role="assistant")

        return self._build_response_stream(in_parts()) if stream else whole()
