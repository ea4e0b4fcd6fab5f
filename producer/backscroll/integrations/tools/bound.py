"""A tool with the history that it reads: to be called with what a model gave."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, overload

from backscroll.contract.errors import (
    BackscrollError,
    InvalidInputError,
    OperationRefusedError,
)
from backscroll.contract.filters import SearchPage
from backscroll.contract.messages import SessionInfo, SessionPage
from backscroll.contract.tool_calls import LoadedMessages
from backscroll.integrations.tools.arguments import Schema, ToolCallError
from backscroll.integrations.tools.definitions import (
    Question,
    ToolDefinition,
    definitions,
    search_definition,
)
from backscroll.integrations.tools.scope import Scope

log = logging.getLogger("backscroll.tools")

_UNAVAILABLE: Final = "the history cannot be read now; try again later"


class Reader(Protocol):
    """What a tool reads: a `Producer`, or a `HistoryReader` of a store."""

    @property
    def load(self) -> Callable[..., LoadedMessages]: ...
    @property
    def search(self) -> Callable[..., SearchPage]: ...
    @property
    def session(self) -> Callable[[str], SessionInfo | None]: ...
    @property
    def sessions(self) -> Callable[..., SessionPage]: ...


class AsyncReader(Protocol):
    """The same, awaited: an `AsyncProducer`."""

    @property
    def load(self) -> Callable[..., Awaitable[LoadedMessages]]: ...
    @property
    def search(self) -> Callable[..., Awaitable[SearchPage]]: ...
    @property
    def session(self) -> Callable[[str], Awaitable[SessionInfo | None]]: ...
    @property
    def sessions(self) -> Callable[..., Awaitable[SessionPage]]: ...


class _Tool:
    """What a framework wants to know of a tool."""

    def __init__(self, definition: ToolDefinition, reader: Any) -> None:
        self._definition = definition
        self._reader = reader

    @property
    def name(self) -> str:
        """Its name."""
        return self._definition.name

    @property
    def description(self) -> str:
        """What a model is told of it."""
        return self._definition.description

    @property
    def parameters(self) -> Schema:
        """The JSON schema of its arguments."""
        return self._definition.parameters


class HistoryTool(_Tool):
    """A tool over a reader that blocks."""

    def __call__(self, arguments: object) -> str:
        """The answer for a model that gave `arguments`, an object or its JSON text.

        What the model did wrong is such an answer, too, as is that the history cannot be read now;
        the reason for that is logged. Raises nothing that a call of the producer raises.
        """
        try:
            return self.call(arguments)
        except ToolCallError as error:
            return f"Error: {error}"

    def call(self, arguments: object) -> str:
        """As a call, but raises `ToolCallError` where that answers with an error."""
        steps = self._definition.run(arguments)
        try:
            question: Question = next(steps)
            while True:
                question = steps.send(question(self._reader))
        except StopIteration as end:
            return str(end.value)
        except BackscrollError as error:
            raise for_model(error) from error


class AsyncHistoryTool(_Tool):
    """A tool over a reader whose calls are awaited."""

    async def __call__(self, arguments: object) -> str:
        """As a `HistoryTool`, but awaited."""
        try:
            return await self.call(arguments)
        except ToolCallError as error:
            return f"Error: {error}"

    async def call(self, arguments: object) -> str:
        """As a `HistoryTool`, but awaited."""
        steps = self._definition.run(arguments)
        try:
            question: Question = next(steps)
            while True:
                question = steps.send(await question(self._reader))
        except StopIteration as end:
            return str(end.value)
        except BackscrollError as error:
            raise for_model(error) from error


@overload
def search_history(reader: Reader, scope: Scope) -> HistoryTool: ...
@overload
def search_history(reader: AsyncReader, scope: Scope) -> AsyncHistoryTool: ...
def search_history(reader: Any, scope: Scope) -> HistoryTool | AsyncHistoryTool:
    """The tool with which a model finds messages within `scope`."""
    return _bound(search_definition(scope), reader)


@overload
def history_tools(reader: Reader, scope: Scope) -> list[HistoryTool]: ...
@overload
def history_tools(reader: AsyncReader, scope: Scope) -> list[AsyncHistoryTool]: ...
def history_tools(reader: Any, scope: Scope) -> list[Any]:
    """All tools with which a model reads what is within `scope`."""
    return [_bound(each, reader) for each in definitions(scope)]


def _bound(definition: ToolDefinition, reader: Any) -> HistoryTool | AsyncHistoryTool:
    if inspect.iscoroutinefunction(reader.load):
        return AsyncHistoryTool(definition, reader)
    return HistoryTool(definition, reader)


def for_model(error: BackscrollError) -> ToolCallError:
    """What a model should know of an error: what it can change, and not where the history is."""
    if isinstance(error, InvalidInputError | OperationRefusedError):
        return ToolCallError(str(error))
    log.warning("a tool could not read the history: %s", error)
    return ToolCallError(_UNAVAILABLE)
