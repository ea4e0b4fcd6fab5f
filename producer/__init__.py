"""What a chat channel adapter imports: enqueue what was said, read it back.

from producer import ChatMessage, Producer

with Producer("redis://localhost:6379/0") as producer:
    producer.append("telegram_user123", ChatMessage.user("hello"))
"""

from producer.aio import AsyncProducer
from producer.answers import CleanupReport, CompactReport, ErasureReceipt
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
    SpoolDiskError,
    SpoolFullError,
    SpoolUnusableError,
    StoreUnavailableError,
    StoreUnusableError,
)
from producer.messages import ChatMessage, EarlierVersion, SessionInfo, SessionPage
from producer.requests import UNSET, Receipt
from producer.search import SearchFilter, SearchHit, SearchPage

__all__ = [
    "UNSET",
    "AsyncProducer",
    "AuthenticationFailedError",
    "BackscrollError",
    "ChatMessage",
    "CleanupReport",
    "CompactReport",
    "EarlierVersion",
    "ErasureReceipt",
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
    "SearchPage",
    "ServerRefusedError",
    "ServerUnavailableError",
    "SessionInfo",
    "SessionPage",
    "SpoolDiskError",
    "SpoolFullError",
    "SpoolUnusableError",
    "StoreUnavailableError",
    "StoreUnusableError",
]
