"""Where the integrations keep a history in tests: in this process, and over a queue."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from backscroll_worker.settings import Settings
from tests.processes import running_worker


@pytest.fixture(scope="module", params=["embedded", "queue"])
def history(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A URL. The tests of a module share what is there, so each has keys of its own."""
    directory = tmp_path_factory.mktemp("history")
    settings = Settings(
        redis_url=None, data_dir=directory, store=f"sqlite://{directory}/backscroll.db"
    )
    if request.param == "embedded":
        yield f"sqlite://{directory}/chat.db"
    else:
        url: str = request.getfixturevalue("_server")
        with redis.Redis.from_url(url) as client:
            client.flushall()
            with running_worker(replace(settings, redis_url=url), client, directory / "worker.log"):
                yield url


@pytest.fixture
def prefix() -> str:
    """The beginning of keys that no other test has."""
    return f"{uuid.uuid4().hex}/"
