"""Nobody but its owner can read what Backscroll writes, whatever the umask."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

import pytest
import redis

from backscroll import ChatMessage, Producer
from backscroll_worker.ops.up import environment
from backscroll_worker.settings import Settings
from tests.cli.command import options, run
from tests.prepared import run_prepared

HI: Final = ChatMessage.user("hi")
UMASKS: Final = ["0", "0027", "0777"]

_API: Final = """
import sys
from pathlib import Path
from backscroll import ChatMessage, Producer
from backscroll_worker.archive.directory import Archive
from backscroll_worker.testing.stores import open_tested
from backscroll_worker.contract.pacing import finish
url, place = sys.argv[1], Path(sys.argv[2])
with open_tested(url) as store:
    store.append("k", ChatMessage.user("hi"))
    finish(store.cleanup(0, archive=Archive(place / "archive" / "deep")))
    store.append("k", ChatMessage.user("hi"))
    store.describe("k", name="a name")
    store.remove_last("k")
    store.append("k", ChatMessage.user("hi"))
    with Producer(f"unix://{place}/nobody", spool=place / "spools" / "a", timeout_seconds=0.1) as p:
        p.append("k", ChatMessage.user("hi"))
"""


def wider_than_the_owners(directory: Path) -> list[str]:
    """What lies under `directory` with other permissions than 0600, or 0700 for a directory."""
    found = []
    for path in directory.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        right = 0o700 if path.is_dir() or path.is_socket() else 0o600
        if mode != right:
            found.append(f"{path} {mode:o}")
    return found


def under(umask: str, *arguments: str, env: dict[str, str] | None = None) -> None:
    ended = run_prepared(*arguments, env=env, umask=int(umask, 8))
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("scheme", ["sqlite", "jsonl"])
@pytest.mark.parametrize("umask", UMASKS)
def test_what_the_python_api_writes_is_its_owners(umask: str, scheme: str, tmp_path: Path) -> None:
    place = tmp_path / "new" / "deep"
    under(umask, "-c", _API, f"{scheme}://{place / 'store'}", str(tmp_path / "new"))
    assert list(place.glob("store*"))
    assert (tmp_path / "new" / "archive").is_dir()
    assert (tmp_path / "new" / "spools" / "a").is_file()
    assert wider_than_the_owners(tmp_path) == []


@pytest.mark.parametrize("scheme", ["sqlite", "jsonl"])
@pytest.mark.parametrize("umask", ["0", "0777"])
def test_what_rqs_own_command_writes_is_its_owners(
    umask: str, scheme: str, settings: Settings, producer: Producer, tmp_path: Path
) -> None:
    place = tmp_path / "stores"
    producer.append("k", HI)
    env = environment(settings, settings.redis_url or "")
    env["BACKSCROLL_STORE"] = f"{scheme}://{place / 'store'}"
    env["RQ_REDIS_URL"] = str(settings.redis_url)
    kind = "backscroll_worker.loop.worker.GroupCommitWorker"
    under(umask, "-m", "rq.cli", "worker", "--burst", "-w", kind, "backscroll", env=env)
    assert list(place.glob("store*"))
    assert wider_than_the_owners(place) == []


@pytest.mark.parametrize("umask", ["0", "0777"])
def test_an_export_is_its_owners(umask: str, settings: Settings, tmp_path: Path) -> None:
    under(umask, "-c", _API, settings.store, str(tmp_path))
    file = tmp_path / "out.jsonl"
    under(umask, *options(settings), "export", "--output", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_permissions_that_an_operator_has_widened_stay(tmp_path: Path) -> None:
    store = tmp_path / "store"
    under("0", "-c", _API, f"sqlite://{store}", str(tmp_path))
    store.chmod(0o640)
    under("0777", "-c", _API, f"sqlite://{store}", str(tmp_path))
    assert stat.S_IMODE(store.stat().st_mode) == 0o640


def test_check_warns_of_what_others_may_read(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    under("0", "-c", _API, settings.store, str(tmp_path))
    path = Path(settings.store.removeprefix("sqlite://"))
    for mode in (0o600, 0o640):  # an operator may let a group read
        path.chmod(mode)
        assert "by others" not in run(settings, "check").stdout
    for mode in (0o644, 0o602, 0o660):
        path.chmod(mode)
        shown = " ".join(run(settings, "check").stdout.split())
        assert "can be read or written by other users" in shown
        assert "chmod" in shown
