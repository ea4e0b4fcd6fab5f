"""A pytest plugin that puts Backscroll in the place of a framework's own stores.

It is loaded into the framework's test run, before the tests import the stores. What the variables
PEER_… of the environment say: the framework, the URL of the history, the file with what does not
apply, and where the outcomes go.
"""

# ruff: noqa: PLC0415 - of the two frameworks only the one whose tests are run is imported
from __future__ import annotations

import fnmatch
import json
import os
import sys
import tomllib
from collections.abc import Generator
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

_URL: Final = os.environ["PEER_HISTORY"]
_RUN: Final = os.environ["PEER_RUN"]
_FRAMEWORK: Final = os.environ["PEER_NAME"]
_LISTED: Final = tomllib.loads(Path(os.environ["PEER_NOT_APPLICABLE"]).read_text())[_FRAMEWORK]

_made = 0
_numbers: Final = count()
_outcomes: Final[dict[str, dict[str, str]]] = {}


def _store_of(place: object) -> str:
    """The prefix of the keys of what is in a store of its own there."""
    global _made  # noqa: PLW0603 - the outcome of a test says whether it made one of ours
    _made += 1
    return f"{_RUN}/{place}/"


def _openai_agents() -> None:
    import agents
    from agents import memory
    from agents.extensions import memory as extensions
    from agents.extensions.memory import encrypt_session
    from agents.memory import sqlite_session

    from backscroll.integrations.openai_agents import BackscrollSession
    from backscroll.integrations.openai_encrypted import BackscrollEncryptedSession

    class SQLiteSession(BackscrollSession):
        def __init__(
            self,
            session_id: str,
            db_path: object = ":memory:",
            sessions_table: str = "",
            messages_table: str = "",
            session_settings: Any = None,
        ) -> None:
            place = f"memory {next(_numbers)}" if db_path == ":memory:" else db_path
            super().__init__(
                session_id, _URL, prefix=_store_of(place), session_settings=session_settings
            )

        def close(self) -> None:
            pass

    class AsyncSQLiteSession(SQLiteSession):
        async def close(self) -> None:  # type: ignore[override]
            pass

    class RedisSession(BackscrollSession):
        def __init__(
            self,
            session_id: str,
            *,
            redis_client: object,
            key_prefix: str = "agents:session",
            ttl: int | None = None,
            session_settings: Any = None,
        ) -> None:
            super().__init__(
                session_id,
                _URL,
                prefix=_store_of(f"redis {id(redis_client)} {key_prefix}"),
                session_settings=session_settings,
            )

        @classmethod
        def from_url(
            cls, session_id: str, *, url: str, redis_kwargs: object = None, **given: Any
        ) -> RedisSession:
            return cls(session_id, redis_client=url, **given)

        async def close(self) -> None:
            pass

        async def ping(self) -> bool:
            return True

    for module in (agents, memory, sqlite_session):
        module.SQLiteSession = SQLiteSession  # type: ignore[attr-defined]
    for name, instead in (
        ("async_sqlite_session", AsyncSQLiteSession),
        ("redis_session", RedisSession),
    ):
        module = __import__(f"agents.extensions.memory.{name}", fromlist=["x"])
        setattr(module, instead.__name__, instead)
        setattr(extensions, instead.__name__, instead)
    setattr(extensions, "EncryptedSession", BackscrollEncryptedSession)  # noqa: B010 - it is lazy
    encrypt_session.EncryptedSession = BackscrollEncryptedSession  # type: ignore[misc]


def _strands_agents() -> None:
    import strands.session
    from strands.session import file_session_manager

    from backscroll.integrations.strands import BackscrollRepository, BackscrollSessionManager

    class MockedSessionRepository(BackscrollRepository):
        def __init__(self) -> None:
            super().__init__(_URL, prefix=_store_of(f"memory {next(_numbers)}"))

    class FileSessionManager(BackscrollSessionManager):
        def __init__(self, session_id: str, storage_dir: str | None = None, **_: Any) -> None:
            super().__init__(session_id, _URL, prefix=_store_of(storage_dir))

    file_session_manager.FileSessionManager = FileSessionManager  # type: ignore[misc, assignment]
    strands.session.FileSessionManager = FileSessionManager  # type: ignore[misc, assignment]
    fixture = ModuleType("tests.fixtures.mock_session_repository")
    fixture.MockedSessionRepository = MockedSessionRepository  # type: ignore[attr-defined]
    sys.modules[fixture.__name__] = fixture
    sys.modules["moto"] = ModuleType("moto")  # stands in for AWS, which nothing here needs


{"openai-agents": _openai_agents, "strands-agents": _strands_agents}[_FRAMEWORK]()


def _reason(item: pytest.Item) -> str | None:
    """Why a test does not apply."""
    file, name = item.path.name, item.name
    for reason, patterns in _LISTED["reasons"].items():
        if any(fnmatch.fnmatchcase(f"{file}::{name}", pattern) for pattern in patterns):
            return str(reason)
    only = _LISTED.get("only", {}).get(file)
    if only is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in only["tests"]):
        return None
    return str(only["reason"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if reason := _reason(item):
            item.add_marker(pytest.mark.skip(reason=reason))
            _outcomes[item.nodeid] = {"outcome": "not applicable", "reason": reason}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    before = _made
    result = yield
    if _made == before and _outcomes[item.nodeid]["outcome"] == "passed":
        _outcomes[item.nodeid] = {"outcome": "without a store"}
    return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    known = _outcomes.setdefault(report.nodeid, {"outcome": "passed"})
    if report.failed:
        known.update(outcome="failed", reason=report.longreprtext[-2000:])
    elif report.skipped and known["outcome"] == "passed":
        known.update(outcome="skipped by the framework")


def pytest_sessionfinish() -> None:
    Path(os.environ["PEER_OUTCOMES"]).write_text(json.dumps(_outcomes))
