"""The power goes: what was synced is there, what was not may be, in part and in any order."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.budget import tries
from tests.crash.checker import Violation, check_store
from tests.crash.laboratory import Laboratory, Tally
from tests.crash.points import POINTS
from tests.crash.test_two_workers import freeze, thaw

POWER_CUTS = tries(12, deep=25)
COPIES = tries(8, deep=15)


@pytest.fixture
def laboratory(server_url: str, tmp_path: Path, scheme: str, tally: Tally) -> Iterator[Laboratory]:
    """With a single writer, so that the order of all operations is known."""
    directory = tmp_path / "laboratory"
    with Laboratory(server_url, directory, scheme, 1, tally, writers=1) as laboratory:
        yield laboratory


def test_after_a_power_cut_the_store_opens_verifies_and_holds_a_prefix(
    laboratory: Laboratory, tally: Tally
) -> None:
    for number in range(POWER_CUTS):
        laboratory.write(20)
        laboratory.live(laboratory.life(POINTS["power lost"]))
        assert check_copy(laboratory, number) == []
    laboratory.drain()
    assert laboratory.check() == []
    assert tally.kills.total() >= POWER_CUTS * 2 // 3


def test_a_copy_of_the_files_at_any_moment_verifies_and_holds_a_prefix(
    laboratory: Laboratory,
) -> None:
    process = laboratory.begin(laboratory.life(burst=False))
    try:
        for number in range(COPIES):
            laboratory.write(40)
            time.sleep(laboratory.random.uniform(0, 0.02))
            freeze(process)
            found = check_copy(laboratory, number)
            thaw(process)
            assert found == []
        laboratory.wait_until_drained()
    finally:
        process.kill()
        process.join()
    assert laboratory.check() == []


def check_copy(laboratory: Laboratory, number: int) -> list[Violation]:
    """A copy of the store as its files are now, compared with what was asked for until now."""
    source = Path(laboratory.settings.store.partition("://")[2])
    copy = laboratory.directory / f"copy-{number}" / "store"
    copy.parent.mkdir()
    if source.is_dir():
        shutil.copytree(source, copy)
    else:
        for suffix in ("", "-wal"):  # -shm is no file but memory
            with suppress(FileNotFoundError):
                shutil.copy(f"{source}{suffix}", f"{copy}{suffix}")
        if (blobs := Path(f"{source}-blobs")).is_dir():
            shutil.copytree(blobs, f"{copy}-blobs")
    scheme = laboratory.settings.store.partition("://")[0]
    ledger = laboratory.ledger().without_acknowledgements()
    found = check_store(f"{scheme}://{copy}", ledger, prefix=True)
    shutil.rmtree(copy.parent)
    return found
