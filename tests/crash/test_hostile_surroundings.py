"""A few kills of each kind of round that `make chaos` has by the hundred."""

from __future__ import annotations

from pathlib import Path

from tests.crash.hostile import (
    LIMIT_ADAPTERS,
    REFUSED_ADAPTERS,
    kill_at_the_limits,
    kill_while_clocks_jump,
    kill_while_files_are_touched,
    kill_while_the_server_refuses,
)
from tests.crash.laboratory import Laboratory, Tally
from tests.crash.mixed import ADAPTERS, kill_in_mixed_work
from tests.crash.points import POINTS
from tests.crash.server import CrashableServer

FEW = tuple(
    POINTS[name]
    for name in (
        "inside the transaction",
        "after commit, before acknowledgement",
        "acknowledgement sent, not read",
        "during recovery",
    )
)


def test_mixed_work_of_every_kind_of_adapter_outlives_kills(
    server_url: str, tmp_path: Path, scheme: str, tally: Tally
) -> None:
    with Laboratory(server_url, tmp_path / "mixed", scheme, 1, tally, writers=ADAPTERS) as mixed:
        kill_in_mixed_work(mixed, FEW)
        assert mixed.check() == []
    assert tally.kills.total() >= 3


def test_clocks_that_jump_between_kills_take_nothing_away(
    laboratory: Laboratory, tally: Tally
) -> None:
    kill_while_clocks_jump(laboratory, FEW)
    assert laboratory.check() == []
    assert tally.kills.total() >= 3


def test_what_others_do_to_the_files_between_kills_harms_nothing(
    laboratory: Laboratory, tally: Tally
) -> None:
    kill_while_files_are_touched(laboratory, FEW)
    assert laboratory.check() == []
    assert tally.faults.total() >= 2 * len(FEW)


def test_a_server_that_refuses_between_kills_loses_and_doubles_nothing(
    crashable: CrashableServer, tmp_path: Path, scheme: str, tally: Tally
) -> None:
    place = tmp_path / "refused"
    with Laboratory(crashable.url, place, scheme, 1, tally, writers=REFUSED_ADAPTERS) as refused:
        kill_while_the_server_refuses(refused, 2)
        assert refused.check() == []
    assert tally.kills.total() >= 2


def test_messages_and_answers_at_every_limit_outlive_kills(
    crashable: CrashableServer, tmp_path: Path, scheme: str, tally: Tally
) -> None:
    place = tmp_path / "limits"
    with Laboratory(crashable.url, place, scheme, 1, tally, writers=LIMIT_ADAPTERS) as limits:
        kill_at_the_limits(limits, FEW)
        assert limits.check() == []
    assert tally.kills.total() >= 3
