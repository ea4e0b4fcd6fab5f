"""One call for all places of a history: a queue's server, or a store in this process."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from backscroll.aio import AsyncProducer
from backscroll.aio_chat_history import AsyncChatHistory
from backscroll.client import Producer
from backscroll.client_chat_history import ChatHistory
from backscroll.contract.errors import InvalidSettingError
from backscroll.settings import SCHEMES

_EMBEDDED: Final = "backscroll_worker.embedded"
_OF_QUEUES: Final = (
    "retries", "max_queue_depth", "max_connections", "spool", "spool_max_bytes", "local_reads",
)  # fmt: skip
_OF_STORES: Final = ("keep_edits", "ttl_hours", "retention", "archive", "op_ids_hours")


def connect(url: str | None = None, queue: str | None = None, **options: Any) -> ChatHistory:
    """The history at `url`, with the calls of a `Producer`, to be used in a `with` or closed.

    redis://, rediss:// and unix:// lead to a queue's server; what is said goes through the queue to
    a worker, and a `Producer` is returned. The default is BACKSCROLL_REDIS_URL or REDIS_URL.
    sqlite:///PATH and jsonl:///DIRECTORY are a store that this process opens for itself: no server
    and no worker; with two slashes the path is relative to the working directory. A `Local` is
    returned, which `pip install "backscroll[worker]"` provides.

    `options` are those of `Producer`, or of `Local`. With a server and on the store's host,
    `local_reads=True` has reads answered from the store's files, beside the worker; see
    `backscroll_worker.embedded.LocalReadProducer`.

    Raises `InvalidSettingError` for what is not valid or has no meaning there, or where the package
    for it is not installed; the rest as `Producer` and `Local` do.
    """
    options["queue"] = queue
    if _is_queue(url, options):
        made = _from_worker("LocalReadProducer") if _has_local_reads(options) else Producer
    else:
        made = _from_worker("Local")
    history: ChatHistory = made(url, **options)
    return history


def connect_async(
    url: str | None = None, queue: str | None = None, **options: Any
) -> AsyncChatHistory:
    """As `connect`, for asyncio: an `AsyncProducer` or `AsyncLocal`."""
    options["queue"] = queue
    if _is_queue(url, options):
        wanted = _has_local_reads(options)
        made = _from_worker("AsyncLocalReadProducer") if wanted else AsyncProducer
    else:
        made = _from_worker("AsyncLocal")
    history: AsyncChatHistory = made(url, **options)
    return history


def _is_queue(url: str | None, options: dict[str, Any]) -> bool:
    """Whether `url` is a server's; raises for an option that means nothing there."""
    is_queue = not url or not isinstance(url, str) or url.startswith(SCHEMES)
    if not is_queue and "://" not in str(url):
        raise InvalidSettingError(
            f"url: {url!r} is not a URL: use redis://localhost:6379/0 for a queue's server, "
            "sqlite:///path/to/chat.db or jsonl:///path/to/directory for a store in this process"
        )
    for name in _OF_STORES if is_queue else _OF_QUEUES:
        if options.pop(name, None):
            where = (
                f"it is set for the worker, as BACKSCROLL_{name.upper()}"
                if is_queue
                else "a store in this process has no queue"
            )
            raise InvalidSettingError(f"{name}: has no meaning here: {where}")
    return is_queue


def _has_local_reads(options: dict[str, Any]) -> bool:
    if not options.get("local_reads"):
        options.pop("local_reads", None)
    return "local_reads" in options


def _from_worker(name: str) -> Any:
    """A class of the worker's package, which an adapter may not have."""
    try:
        return getattr(import_module(_EMBEDDED), name)
    except ImportError as error:
        raise InvalidSettingError(
            f"a store is used in this process by what is not installed here ({error}): "
            "pip install 'backscroll[worker]'"
        ) from error
