"""What a chat channel adapter imports: say what was said, read it back.

from backscroll import ChatMessage, connect

with connect("redis://localhost:6379/0") as history:  # or sqlite://chat.db, in this process
    history.append("telegram_user123", ChatMessage.user("hello"))
"""

from backscroll.aio import AsyncProducer
from backscroll.aio_chat_history import AsyncChatHistory
from backscroll.aio_turns import AsyncTurn, WhileRunning
from backscroll.client import Producer
from backscroll.client_chat_history import ChatHistory
from backscroll.client_turns import Turn
from backscroll.connecting import connect, connect_async
from backscroll.contract.attachments import Attachment
from backscroll.contract.errors import (
    AuthenticationFailedError,
    BackscrollError,
    ConflictError,
    InvalidInputError,
    InvalidSettingError,
    MalformedJobError,
    NotConfirmedError,
    OperationRefusedError,
    QueueFullError,
    ServerRefusedError,
    ServerUnavailableError,
    SpoolDiskError,
    SpoolFullError,
    SpoolUnusableError,
    StoreUnavailableError,
    StoreUnusableError,
)
from backscroll.contract.filters import (
    FoundMessage,
    SearchFields,
    SearchFilter,
    SearchHit,
    SearchPage,
    Within,
)
from backscroll.contract.messages import (
    ChatMessage,
    EarlierVersion,
    Meta,
    SessionAttributes,
    SessionFilter,
    SessionInfo,
    SessionPage,
    State,
)
from backscroll.contract.operations import Operation
from backscroll.contract.requests import UNSET, Unset
from backscroll.contract.results import (
    CleanedSession,
    CleanupReport,
    CompactReport,
    ErasureReceipt,
    Receipt,
    RestoreReport,
    RuleTotals,
    Usage,
)
from backscroll.contract.states import SessionState
from backscroll.contract.tokens import CountTokens
from backscroll.contract.tool_calls import LoadedMessages
from backscroll.recording import RecordedWrite, record_writes
from backscroll.redaction.ready import Redact
from backscroll.transport.acks import Ack

__all__ = [
    "UNSET",
    "Ack",
    "AsyncChatHistory",
    "AsyncProducer",
    "AsyncTurn",
    "Attachment",
    "AuthenticationFailedError",
    "BackscrollError",
    "ChatHistory",
    "ChatMessage",
    "CleanedSession",
    "CleanupReport",
    "CompactReport",
    "ConflictError",
    "CountTokens",
    "EarlierVersion",
    "ErasureReceipt",
    "FoundMessage",
    "InvalidInputError",
    "InvalidSettingError",
    "LoadedMessages",
    "MalformedJobError",
    "Meta",
    "NotConfirmedError",
    "Operation",
    "OperationRefusedError",
    "Producer",
    "QueueFullError",
    "Receipt",
    "RecordedWrite",
    "Redact",
    "RestoreReport",
    "RuleTotals",
    "SearchFields",
    "SearchFilter",
    "SearchHit",
    "SearchPage",
    "ServerRefusedError",
    "ServerUnavailableError",
    "SessionAttributes",
    "SessionFilter",
    "SessionInfo",
    "SessionPage",
    "SessionState",
    "SpoolDiskError",
    "SpoolFullError",
    "SpoolUnusableError",
    "State",
    "StoreUnavailableError",
    "StoreUnusableError",
    "Turn",
    "Unset",
    "Usage",
    "WhileRunning",
    "Within",
    "connect",
    "connect_async",
    "record_writes",
]
