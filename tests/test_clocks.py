"""A worker whose clock is far ahead of the server's deletes nothing, and says so."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from backscroll import ChatMessage, Producer
from backscroll.contract.errors import BackscrollError
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import run
from tests.processes import running_worker, spawn, wait_for

AHEAD = """
import time
wall, wall_ns = time.time, time.time_ns
time.time = lambda: wall() + {seconds}
time.time_ns = lambda: wall_ns() + {seconds} * 10**9
"""


@pytest.fixture
def clock_ahead(tmp_path: Path) -> Callable[[int], dict[str, str]]:
    """The environment of a process whose clock is ahead by so many seconds."""

    def variables(seconds: int) -> dict[str, str]:
        (tmp_path / "sitecustomize.py").write_text(AHEAD.format(seconds=seconds))
        return {"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"}

    return variables


@pytest.mark.parametrize(("days_ahead", "is_refused"), [(3_650, True), (-30, False), (0, False)])
def test_a_worker_ahead_of_the_server_refuses_to_clean_up(
    settings: Settings,
    tmp_path: Path,
    clock_ahead: Callable[[int], dict[str, str]],
    days_ahead: int,
    is_refused: bool,
) -> None:
    assert settings.redis_url is not None
    with open_tested(settings.store) as store:
        store.append("young", ChatMessage.user("x"))
    client = redis.Redis.from_url(settings.redis_url)
    producer = Producer(settings.redis_url)
    variables, log = clock_ahead(days_ahead * 86_400), tmp_path / "log"
    with running_worker(settings, client, log, **variables):
        if is_refused:
            with pytest.raises(BackscrollError, match=r"87,600\.0 hours ahead of the server's"):
                producer.cleanup(24)
            assert producer.cleanup(24, dry_run=True).dry_run
            wait_for(lambda: "nothing was deleted" in log.read_text(), "its log's line")
        else:
            assert producer.cleanup(24).sessions == 0
    with open_tested(settings.store) as store:
        assert store.exists("young")


def test_check_names_a_clock_that_is_far_from_the_servers(
    settings: Settings, tmp_path: Path, clock_ahead: Callable[[int], dict[str, str]]
) -> None:
    assert "this host's agrees with the server's" in run(settings, "check").stdout
    log = tmp_path / "check.log"
    spawn(settings, "check", log=log, **clock_ahead(-7_200)).wait(timeout=60)
    assert "2.0 hours behind the server's" in log.read_text()
