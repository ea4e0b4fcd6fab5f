"""SQLite files that were damaged: an error, or a finding of `verify`, or nothing is missing.

SQLite has no checksum over its pages, so a flipped bit within a text stays unseen: such a text may
be wrong, but no message may be missing, doubled or elsewhere without anybody saying so. Its
write-ahead log has checksums and ends where one is wrong: then the last commits are missing, never
some in between.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from backscroll.contract.errors import BackscrollError
from backscroll.contract.messages import ChatMessage
from backscroll_worker.ops.health import check
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import StoreUnderTest, open_tested
from tests.budget import tries

TRIALS = tries(20, deep=60)
SESSIONS = 12
MESSAGES = 25

Damage = Callable[[bytes, random.Random], bytes]
Seen = dict[str, list[str | None]]


def truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(1, len(content))]


def bit_flipped(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 5))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def overwritten(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    junk = rng.randbytes(rng.choice((1, 100, 4_096)))
    return content[:start] + junk + content[start + len(junk) :]


def interleaved(content: bytes, rng: random.Random) -> bytes:
    """Pages in each other's places."""
    pages = [content[start : start + 4_096] for start in range(0, len(content), 4_096)]
    one, other = rng.sample(range(len(pages)), 2)
    pages[one], pages[other] = pages[other], pages[one]
    return b"".join(pages)


def zeroed(content: bytes, rng: random.Random) -> bytes:
    """A stretch that never got to the disk."""
    start = rng.randrange(len(content)) // 512 * 512
    length = rng.choice((512, 4_096, 16_384))
    return content[:start] + bytes(len(content[start : start + length])) + content[start + length :]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with something in it, closed."""
    path = tmp_path_factory.mktemp("sound") / "backscroll.db"
    with open_tested(f"sqlite://{path}") as store:
        for number in range(MESSAGES):
            for session in range(SESSIONS):
                store.append(f"s/{session}", ChatMessage.user(f"{session} said {number} " * 20))
        for session in range(0, SESSIONS, 3):
            store.remove_last(f"s/{session}")
    return path


@pytest.mark.parametrize("damage", [truncated, bit_flipped, overwritten, interleaved, zeroed])
def test_a_damaged_database_is_refused_or_found_damaged_or_complete(
    sound: Path, tmp_path: Path, damage: Damage
) -> None:
    content = sound.read_bytes()
    with open_tested(f"sqlite://{sound}", read_only=True) as store:
        expected = seen_in(store)
    noticed = 0
    for number in range(TRIALS):
        path = tmp_path / f"{number}.db"
        path.write_bytes(damage(content, random.Random(number)))
        seen = look(f"sqlite://{path}")
        if isinstance(seen, str):
            noticed += 1
        else:
            assert seen == expected, number
        path.unlink()
    assert noticed > 0


def look(url: str) -> Seen | str:
    """What is in the store; or what opening, verifying or reading it says is wrong."""
    try:
        with open_tested(url) as store:
            findings = store.verify()
            return str(findings) if findings else seen_in(store)
    except BackscrollError as error:
        return str(error)


def seen_in(store: StoreUnderTest) -> Seen:
    """Which messages are where, whatever they say."""
    return {
        info.key: [message.message_id for message in store.load(info.key)]
        for info in store.sessions(limit=1_000).sessions
    }


@pytest.mark.parametrize("damage", [truncated, bit_flipped, overwritten, zeroed])
def test_a_damaged_log_loses_nothing_but_its_end(tmp_path: Path, damage: Damage) -> None:
    states, log = with_a_log(tmp_path / "sound.db")
    for number in range(TRIALS):
        path = tmp_path / f"{number}.db"
        shutil.copy(tmp_path / "sound.db", path)
        path.with_name(f"{path.name}-wal").write_bytes(damage(log, random.Random(number)))
        with open_tested(f"sqlite://{path}") as store:
            assert store.verify() == []
            assert [message.content for message in store.load("s")] in states


def with_a_log(path: Path) -> tuple[list[list[str]], bytes]:
    """What the session held after each commit, and the log that has all of them."""
    with open_tested(f"sqlite://{path}") as store:
        store.append("s", ChatMessage.user("before"))
    states = [["before"]]
    with open_tested(f"sqlite://{path}") as store:
        before = path.read_bytes()
        for number in range(30):
            store.append("s", ChatMessage.user(f"{number} " + "x" * 2_000))
            states.append([*states[-1], f"{number} " + "x" * 2_000])
        log = path.with_name(f"{path.name}-wal").read_bytes()
    path.write_bytes(before)
    return states, log


def test_check_finds_a_damaged_database(sound: Path, tmp_path: Path, server_url: str) -> None:
    path = tmp_path / "backscroll.db"
    path.write_bytes(interleaved(sound.read_bytes(), random.Random(0)))
    settings = Settings(redis_url=server_url, data_dir=tmp_path, store=f"sqlite://{path}")
    assert any(
        found.area == "store" and found.level == "problem" for found in check(settings, server_url)
    )


def test_check_finds_a_database_that_was_emptied(tmp_path: Path, server_url: str) -> None:
    path = tmp_path / "backscroll.db"
    path.touch()
    settings = Settings(redis_url=server_url, data_dir=tmp_path, store=f"sqlite://{path}")
    problems = [found for found in check(settings, server_url) if found.level == "problem"]
    assert any(found.area == "store" for found in problems)
