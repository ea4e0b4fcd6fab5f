"""The server killed, away, frozen, or behind a network that breaks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.adapter import SpoolingAdapter
from tests.crash.laboratory import Laboratory, Tally
from tests.crash.load import Load, run, working, writing
from tests.crash.network import FAULTS, BadNetwork
from tests.crash.server import CrashableServer
from tests.processes import wait_for


@pytest.fixture
def laboratory(
    crashable: CrashableServer, tmp_path: Path, scheme: str, tally: Tally
) -> Iterator[Laboratory]:
    with Laboratory(crashable.url, tmp_path / "laboratory", scheme, 1, tally) as laboratory:
        yield laboratory


def test_a_server_killed_while_producers_write_loses_nothing_acknowledged(
    laboratory: Laboratory, crashable: CrashableServer, tally: Tally
) -> None:
    with working(laboratory), writing(laboratory, Load(0, writers=3)):
        for _ in range(4):
            time.sleep(0.4)
            crashable.restart()
        laboratory.wait_for_more_than(50)
    assert laboratory.check() == []
    assert tally.operations > 50


def test_a_server_that_is_away_for_ten_seconds_is_waited_for(
    laboratory: Laboratory, crashable: CrashableServer, tally: Tally
) -> None:
    with working(laboratory), writing(laboratory, Load(0, writers=3)):
        time.sleep(0.4)
        crashable.kill()
        time.sleep(10.0)
        crashable.start()
        laboratory.wait_for_more_than(50)
    assert laboratory.check() == []
    assert tally.operations > 50


def test_a_frozen_server_that_wakes_doubles_and_reorders_nothing(
    laboratory: Laboratory, crashable: CrashableServer, tally: Tally
) -> None:
    with working(laboratory), writing(laboratory, Load(0, writers=3)):
        for _ in range(3):
            time.sleep(0.3)
            crashable.freeze()
            time.sleep(0.7)
            crashable.thaw()
        laboratory.wait_for_more_than(50)
    assert laboratory.check() == []
    assert tally.operations > 50


@pytest.mark.parametrize("patience", [1_000, 1], ids=["who insists", "who gives up"])
def test_lost_replies_and_halved_frames_double_and_reorder_nothing(
    laboratory: Laboratory, crashable: CrashableServer, tally: Tally, patience: int
) -> None:
    with BadNetwork(str(crashable.socket), seed=1) as network:
        settings = laboratory.settings.with_options(redis_url=network.url, group_size=20)
        load = Load(0, writers=3, url=network.url, patience=patience)
        with working(laboratory, settings=settings), writing(laboratory, load):
            network.share = 0.03
            deadline = time.monotonic() + 90
            while min(network.faults[fault] for fault in FAULTS) < 3:
                assert time.monotonic() < deadline, network.faults
                time.sleep(0.1)
            laboratory.wait_for_more_than(50)
    assert laboratory.check() == []
    assert tally.operations > 50


def test_the_spool_of_a_killed_adapter_is_sent_once_and_in_order(
    laboratory: Laboratory, crashable: CrashableServer, tally: Tally
) -> None:
    with (
        working(laboratory),
        SpoolingAdapter(laboratory, "adapter", operations_per_second=200.0) as adapter,
    ):
        for _ in range(4):
            crashable.kill()
            wait_for(lambda: adapter.spooled > 20, "operations in the spool")
            adapter.replace()
            crashable.start()
            adapter.replace()  # while they are being sent
            wait_for(lambda: adapter.spooled == 0, "the spool to be empty")
    assert laboratory.check() == []
    assert tally.faults["adapter killed, its spool full"] >= 4
    assert tally.operations > 80


def test_everything_at_once(
    laboratory: Laboratory, crashable: CrashableServer, tally: Tally
) -> None:
    run(laboratory, Load(5, writers=4), crashable)
    assert laboratory.check() == []
    assert tally.kills.total() >= 5
    assert tally.operations > 200
