"""What the whole suite shares: real servers to talk to, each test with an empty one."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis

from backscroll import Producer, calls
from backscroll.transport.tails import kept_answer
from backscroll_worker.ops.server import running_server
from backscroll_worker.settings import Settings
from tests.ordering import begin_with_slow, has_fast, mark
from tests.processes import running_worker
from tests.tails import Hits

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a root for directories that pytest makes safely
_ENOUGH_BYTES: Final = 2 << 30


def pytest_configure() -> None:
    """Have the tests' files in memory where there is room: no test asks whether a disk keeps them.

    Those of a power cut have a disk of their own making.
    """
    if not os.environ.get("PYTEST_DEBUG_TEMPROOT") and _MEMORY.is_dir():
        room = os.statvfs(_MEMORY)
        if room.f_bavail * room.f_frsize > _ENOUGH_BYTES and os.access(_MEMORY, os.W_OK):
            os.environ["PYTEST_DEBUG_TEMPROOT"] = str(_MEMORY)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's background jobs have it
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Four more than there are processors: most tests wait for what others do, but no fast one."""
    processors = os.cpu_count() or 1
    return processors if _wants_fast_only(config) else processors + 4


def _wants_fast_only(config: pytest.Config) -> bool:
    return bool(config.getoption("markexpr") == "fast")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    is_needless = (
        _wants_fast_only(config)
        and collection_path.suffix == ".py"
        and not has_fast(collection_path)
    )
    return True if is_needless else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare Python's collector all that the tests' modules import, now and in each test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark(items)
    begin_with_slow(items)


def in_ci() -> bool:
    """Whether a missing program must fail the suite instead of skipping a test."""
    return bool(os.environ.get("CI"))


@pytest.fixture(autouse=True)
def _no_outside_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("BACKSCROLL_") or name == "REDIS_URL":
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _same_umask() -> Iterator[None]:
    """A test must not depend on the shell's umask, nor on that of the command run before it."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def _same_niceness() -> Iterator[None]:
    """Nobody can take that back, and what later tests start would have it."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    yield
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data_dir = tmp_path_factory.mktemp("server")
    settings = Settings(redis_url=None, data_dir=data_dir, store=f"sqlite://{data_dir}/x.db")
    with running_server(settings) as url:
        yield url


@pytest.fixture(scope="session")
def _browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    from tests.browser import chromium  # noqa: PLC0415 - selenium is large, and few ask for it

    with chromium(tmp_path_factory.mktemp("browser")) as chrome:
        yield chrome


@pytest.fixture
def chrome(_browser: Chrome) -> Iterator[Chrome]:
    """A browser, which shows nothing yet."""
    yield _browser
    _browser.get("about:blank")
    _browser.get_log("browser")  # type: ignore[no-untyped-call]  # what it has said is read


@pytest.fixture
def server_url(_server: str) -> str:
    """The URL of a Valkey that is empty when the test starts."""
    with redis.Redis.from_url(_server) as client:
        client.flushall()
    return _server


@pytest.fixture(scope="session")
def _dashboard(_server: str) -> Iterator[str]:
    from tests.dashboards import dashboard  # noqa: PLC0415 - so is what it imports

    with dashboard(_server) as address:
        yield address


@pytest.fixture
def address(server_url: str, _dashboard: str) -> str:
    """Where a dashboard shows the empty server."""
    return _dashboard


@pytest.fixture
def settings(server_url: str, tmp_path: Path) -> Settings:
    """Settings for the empty server and a store that is not there yet."""
    return Settings(
        redis_url=server_url, data_dir=tmp_path, store=f"sqlite://{tmp_path / 'backscroll.db'}"
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[redis.Redis]:
    assert settings.redis_url is not None
    with redis.Redis.from_url(settings.redis_url) as client:
        yield client


@pytest.fixture
def producer(settings: Settings) -> Iterator[Producer]:
    with Producer(settings.redis_url, timeout_seconds=60) as producer:
        yield producer


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "worker.log"


@pytest.fixture
def hits(monkeypatch: pytest.MonkeyPatch) -> Hits:
    """How many calls of this process were answered out of a tail."""
    hits, real = Hits(), kept_answer

    def counting(*given: Any) -> Any:
        hits.count += 1
        return real(*given)

    monkeypatch.setattr(calls, "kept_answer", counting)
    return hits


@pytest.fixture(params=["sqlite", "jsonl"])
def working_on_each(
    request: pytest.FixtureRequest, settings: Settings, client: redis.Redis, tmp_path: Path
) -> Iterator[Popen[bytes]]:
    """A worker, for a store of each kind."""
    settings = settings.with_options(store=f"{request.param}://{tmp_path / 'store'}")
    with running_worker(settings, client, tmp_path / "worker.log") as worker:
        yield worker
