"""openai-agents: a session of one of its five classes, with a file or a client of its own.

Sessions that share a file, as they may, wait for its lock: 50 of them make half as many turns per
second, or still fewer (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from agents import SQLiteSession, TResponseInputItem
from agents.extensions.memory import (
    AdvancedSQLiteSession,
    AsyncSQLiteSession,
    RedisSession,
    SQLAlchemySession,
)
from agents.memory import Session
from sqlalchemy.ext.asyncio import create_async_engine

from backscroll import ChatMessage
from backscroll.contract.errors import InvalidInputError
from bench.conversations import Conversation


@dataclass(frozen=True, slots=True)
class _Theirs:
    session: Session

    async def append(self, *messages: ChatMessage) -> None:
        items = [{"role": message.role, "content": message.content} for message in messages]
        await self.session.add_items(cast(list[TResponseInputItem], items))

    async def load(self, limit: int) -> Sequence[Any]:
        return await self.session.get_items(limit)

    async def pop(self) -> object:
        return await self.session.pop_item()


@asynccontextmanager
async def opened(name: str, url: str, file: Path, key: str) -> AsyncIterator[Conversation]:
    """The session `key` of the class `name`, in `file` or on the server at `url`."""
    session: Session
    async with AsyncExitStack() as stack:
        match name:
            case "SQLiteSession":
                session = stack.enter_context(closing(SQLiteSession(key, file)))
            case "AdvancedSQLiteSession":
                advanced = AdvancedSQLiteSession(session_id=key, db_path=file, create_tables=True)
                session = stack.enter_context(closing(advanced))
            case "AsyncSQLiteSession":
                session = asynchronous = AsyncSQLiteSession(key, file)
                stack.push_async_callback(asynchronous.close)
            case "RedisSession":
                session = on_server = RedisSession.from_url(key, url=url)
                stack.push_async_callback(on_server.close)
            case "SQLAlchemySession":
                engine = create_async_engine(f"sqlite+aiosqlite:///{file}")
                stack.push_async_callback(engine.dispose)
                session = SQLAlchemySession(key, engine=engine, create_tables=True)
            case other:
                raise InvalidInputError("name", f"must be a class of openai-agents, not {other}")
        yield _Theirs(session)
