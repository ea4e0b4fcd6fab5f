"""Imports that are killed, or have no room on the disk, and are begun again: nothing is lost, and
nothing is there twice.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from click.testing import CliRunner

from backscroll_worker.cli import main
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.transfer.chats.conversation import Options
from backscroll_worker.transfer.import_files import import_files
from tests.budget import tries
from tests.cli.command import document, run
from tests.processes import running_worker, spawn
from tests.transfer.sessions import everything

AT = 1767225600
TEXT = "how much is it to go there? " * 40
KILLS = tries(4, 60)


def account(folder: Path, counts: list[int]) -> Path:
    """An account of Telegram with so many messages in each chat."""
    chats = [
        {"id": chat, "type": "personal_chat", "name": f"N{chat}", "messages": [
            {"id": n, "type": "message", "date_unixtime": str(AT + n), "from_id": "user1",
             "text": f"{n} {TEXT}"} for n in range(1, count + 1)
        ]} for chat, count in enumerate(counts, 1)
    ]  # fmt: skip
    path = folder / f"result-{sum(counts)}.json"
    path.write_bytes(orjson.dumps({"chats": {"list": chats}}))
    return path


def numbers(store: str) -> dict[str, list[int]]:
    """The numbers of the messages in each session, in their order."""
    return {
        key: [int(each.content.split()[0]) for each in said]
        for key, (_, said) in everything(store).items()
    }


def killed(settings: Settings, log: Path, *ordered: str, after: float) -> bool:
    """Whether an import with that time to live was not done when it was killed."""
    process = spawn(settings, "import", *ordered, log=log)
    time.sleep(after)
    process.kill()
    return process.wait() < 0


def check(store: str, counts: list[int], *, is_whole: bool = False) -> None:
    there = numbers(store)
    for chat, count in enumerate(counts, 1):
        said = there.get(f"telegram_{chat}", [])
        assert said == sorted(set(said)), f"telegram_{chat}"
        if is_whole:
            assert said == list(range(1, count + 1))


@pytest.mark.slow
def test_an_import_killed_anywhere_goes_on_when_begun_again(
    settings: Settings, log: Path, tmp_path: Path
) -> None:
    counts = [200] * 40
    first, grown = account(tmp_path, counts), account(tmp_path, [260] * 40)
    begun, stopped = time.monotonic(), 0
    import_files([grown], f"sqlite://{tmp_path / 'whole.db'}", Options(), lambda _: None)
    lifetime = time.monotonic() - begun
    for path, counts_ in ((first, counts), (grown, [260] * 40)):
        for number in range(KILLS):
            after = lifetime * (number + 1) / KILLS
            stopped += killed(settings, log, str(path), after=after)
            check(settings.store, counts_)
        report = document(settings, "import", str(path))
        assert report["refused"] == []
        check(settings.store, counts_, is_whole=True)
    assert document(settings, "import", str(grown))["known"] == 40
    assert stopped


@pytest.mark.slow
def test_an_import_through_the_queue_killed_anywhere_goes_on(
    settings: Settings, client: redis.Redis, log: Path, tmp_path: Path
) -> None:
    counts = [3_000, 10, 400, 10]
    small, path = account(tmp_path, [40, 10]), account(tmp_path, counts)
    ordered = ("--through-queue", str(path))
    stopped = 0
    with running_worker(settings, client, tmp_path / "worker.log"):
        assert run(settings, "import", "--through-queue", str(small)).exit_code == 0
        for number in range(KILLS):
            stopped += killed(settings, log, *ordered, after=0.3 * (number + 1))
        report = document(settings, "import", *ordered)
        assert report["refused"] == []
        again = document(settings, "import", *ordered)
    check(settings.store, counts, is_whole=True)
    assert (again["known"], again["messages"]) == (4, 0)
    assert stopped


@contextmanager
def room_for(size_bytes: int) -> Iterator[None]:
    """No file may become larger meanwhile, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
def test_a_full_disk_ends_an_import_that_goes_on_later(
    settings: Settings, tmp_path: Path, kind: str
) -> None:
    path = account(tmp_path, [300] * 30)
    store = f"{kind}://{tmp_path / 'small'}"
    options = ("--data-dir", str(settings.data_dir), "--store", store)
    with room_for(4_000_000 if kind == "sqlite" else 200_000):
        result: Any = CliRunner().invoke(main, [*options, "import", str(path)])
    assert result.exit_code == ExitCode.STORE, result.output
    assert "Traceback" not in result.output
    check(store, [300] * 30)
    result = CliRunner().invoke(main, [*options, "import", str(path)])
    assert result.exit_code == 0, result.output
    check(store, [300] * 30, is_whole=True)
