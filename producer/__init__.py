"""What a chat channel adapter imports: enqueue what was said, read it back.

from producer import ChatMessage, Producer

with Producer("redis://localhost:6379/0") as producer:
    producer.append("telegram_user123", ChatMessage.user("hello"))
"""

from producer.aio import AsyncProducer
from producer.answers import (
    CleanedSession,
    CleanupReport,
    CompactReport,
    ErasureReceipt,
    RestoreReport,
    RuleTotals,
)
from producer.client import Producer
from producer.enqueue import Ack
from producer.errors import (
    AuthenticationFailedError,
    BackscrollError,
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
from producer.messages import (
    ChatMessage,
    EarlierVersion,
    SessionAttributes,
    SessionFilter,
    SessionInfo,
    SessionPage,
    State,
)
from producer.operations import Operation
from producer.requests import UNSET, Receipt, Unset
from producer.search import SearchFields, SearchFilter, SearchHit, SearchPage

__all__ = [
    "UNSET",
    "Ack",
    "AsyncProducer",
    "AuthenticationFailedError",
    "BackscrollError",
    "ChatMessage",
    "CleanedSession",
    "CleanupReport",
    "CompactReport",
    "EarlierVersion",
    "ErasureReceipt",
    "InvalidInputError",
    "InvalidSettingError",
    "MalformedJobError",
    "NotConfirmedError",
    "Operation",
    "OperationRefusedError",
    "Producer",
    "QueueFullError",
    "Receipt",
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
    "SpoolDiskError",
    "SpoolFullError",
    "SpoolUnusableError",
    "State",
    "StoreUnavailableError",
    "StoreUnusableError",
    "Unset",
]
