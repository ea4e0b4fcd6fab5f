"""What a chat channel adapter imports: enqueue what was said, read it back.

from producer import ChatMessage, Producer

with Producer("redis://localhost:6379/0") as producer:
    producer.append("telegram_user123", ChatMessage.user("hello"))
"""

from producer.aio import AsyncProducer
from producer.answers import CleanupReport, CompactReport
from producer.client import Producer
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
    SpoolFullError,
    SpoolUnusableError,
    StoreUnavailableError,
    StoreUnusableError,
)
from producer.messages import (
    ChatMessage,
    SearchFilter,
    SearchHit,
    SessionInfo,
    SessionPage,
)
from producer.requests import UNSET, Receipt

__all__ = [
    "UNSET",
    "AsyncProducer",
    "AuthenticationFailedError",
    "BackscrollError",
    "ChatMessage",
    "CleanupReport",
    "CompactReport",
    "InvalidInputError",
    "InvalidSettingError",
    "MalformedJobError",
    "NotConfirmedError",
    "OperationRefusedError",
    "Producer",
    "QueueFullError",
    "Receipt",
    "SearchFilter",
    "SearchHit",
    "ServerRefusedError",
    "ServerUnavailableError",
    "SessionInfo",
    "SessionPage",
    "SpoolFullError",
    "SpoolUnusableError",
    "StoreUnavailableError",
    "StoreUnusableError",
]
