"""Tools with which a model reads the history: name, description, JSON schema, and what to call.

They need no framework. `search_history` finds messages, `load_session` shows a session,
`list_sessions` lists them; none changes anything. A `Scope` says what they can reach at most.
"""

from backscroll.integrations.tools.arguments import ToolCallError
from backscroll.integrations.tools.bound import (
    AsyncHistoryTool,
    HistoryTool,
    history_tools,
    search_history,
)
from backscroll.integrations.tools.definitions import ToolDefinition, definitions
from backscroll.integrations.tools.scope import EVERYTHING, Scope

__all__ = [
    "EVERYTHING",
    "AsyncHistoryTool",
    "HistoryTool",
    "Scope",
    "ToolCallError",
    "ToolDefinition",
    "definitions",
    "history_tools",
    "search_history",
]
