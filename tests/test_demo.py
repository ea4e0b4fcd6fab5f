"""The demo: it passes on the real corpus, and its check is one that can fail."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from backscroll import ChatMessage, Producer
from backscroll_worker.demo import adapter
from backscroll_worker.demo.corpus import CHANNELS, load_sessions
from backscroll_worker.demo.verdict import compare
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.processes import spawn, wait_for
from tests.test_up import free_port, read_until

pytestmark = pytest.mark.slow


def test_the_corpus_has_over_ten_thousand_exchanges_in_28_languages() -> None:
    sessions = load_sessions()
    assert sum(session.exchanges for session in sessions) > 10_000
    assert len({session.language for session in sessions}) == 28
    assert {session.channel for session in sessions} == set(CHANNELS)
    assert len({session.key for session in sessions}) == len(sessions)


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        (lambda history: history, set()),
        (lambda history: [*history, ["x", "user", "never stored", None]], {"missing"}),
        (lambda history: history[:-1], {"unexpected"}),
        (lambda history: history[::-1], {"misplaced"}),
        (lambda history: [[*history[0][:2], "other words", None], *history[1:]], {"altered"}),
    ],
    ids=["nothing", "missing", "unexpected", "misplaced", "altered"],
)
def test_its_check_notices_every_kind_of_damage(
    damage: object, wrong: set[str], settings: Settings, tmp_path: Path
) -> None:
    with Producer(settings.redis_url) as producer:
        history = []
        for text in "abc":
            receipt = producer.append("k", ChatMessage.user(text))
            history.append([receipt.message_ids[0], "user", text, None])
        producer.describe("k", agent="demo-assistant")
        worker = spawn(settings, "worker", log=tmp_path / "worker.log")
        try:
            verdict = compare(producer, {"k": damage(history)})  # type: ignore[operator]
        finally:
            worker.terminate()
            worker.wait()
    counts = {
        name: getattr(verdict, name)
        for name in ("missing", "doubled", "unexpected", "misplaced", "altered")
    }
    assert {name for name, count in counts.items() if count} == wrong
    assert verdict.holds == (not wrong)


def test_it_notices_a_session_that_nobody_sent(settings: Settings, tmp_path: Path) -> None:
    with Producer(settings.redis_url) as producer:
        producer.append("k", ChatMessage.user("a"))
        producer.describe("k", agent="demo-assistant")
        worker = spawn(settings, "worker", log=tmp_path / "worker.log")
        try:
            verdict = compare(producer, {})
        finally:
            worker.terminate()
            worker.wait()
    assert verdict.unexpected == 1
    assert not verdict.holds


def environment(directory: Path) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "BACKSCROLL_DASHBOARD_PORT": str(free_port()),
    }


def test_the_demo_replays_everything_and_its_check_holds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "backscroll_worker.cli", "demo"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    assert "The check holds" in said
    assert "The group holds" in said
    assert "THE GROUP" not in said
    assert "[人工知能]" in said
    assert "cleanup   removed 30 sessions" in said
    assert "skipped a torn line" in said
    what_it_suggests_works(said, tmp_path)


def what_it_suggests_works(said: str, directory: Path) -> None:
    """Every line under the demo's last titles does something when it is pasted into a shell."""
    lines = [line.strip() for line in said.splitlines() if " --data-dir " in line]
    search, sessions, listing, up, cleanup, restore = lines

    def pasted(line: str) -> str:
        done = subprocess.run(  # noqa: S602 - what a user does
            line,
            shell=True,
            env=environment(directory),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout if done.returncode == 0 else ""

    assert "words in different messages" in pasted(search)
    assert "english" in pasted(sessions)
    assert "1,666" in pasted(listing)
    running = subprocess.Popen(  # noqa: S602
        f"exec env {up}", shell=True, env=environment(directory), stderr=subprocess.PIPE
    )
    try:
        read_until(running, b"storing queue")
        assert "would delete 238 sessions" in pasted(cleanup)
        assert "restored" in pasted(restore)
    finally:
        running.terminate()
        running.communicate(timeout=60)
        assert running.returncode == 0


def test_a_ctrl_c_is_not_for_the_adapters(settings: Settings, tmp_path: Path) -> None:
    url, report = settings.redis_url or "", tmp_path / "report.json"
    sent = multiprocessing.get_context("spawn").Value("i", 0)
    with adapter.running(url, settings.queue, load_sessions()[:2], sent, report) as process:
        assert process.pid is not None
        while process.is_alive():  # from its first moment to its last
            os.kill(process.pid, signal.SIGINT)
            process.join(0.005)
        assert process.exitcode == 0
    assert report.stat().st_size > 0


def test_the_adapters_end_with_the_demo(settings: Settings, tmp_path: Path) -> None:
    url, sent = settings.redis_url or "", multiprocessing.get_context("spawn").Value("i", 0)
    arguments = (url, settings.queue, load_sessions(), sent, tmp_path / "report.json")
    with suppress(KeyboardInterrupt), adapter.running(*arguments) as process:
        wait_for(lambda: sent.value, "the adapter to send something")
        raise KeyboardInterrupt
    assert process.exitcode == -signal.SIGTERM


AS_IT_IS: Final = ("-m", "backscroll_worker.cli")
WITH_FEW_SESSIONS: Final = (
    "-c",
    """
import time
from backscroll_worker import demo
from backscroll_worker.cli import main
load_sessions = demo.load_sessions
demo.load_sessions = lambda: load_sessions()[:9]
demo.compare = lambda *_: time.sleep(600)  # so that it is interrupted in its check
main()
""",
)


def interrupted(
    directory: Path,
    moment: Callable[[subprocess.Popen[bytes], Path], object],
    how: tuple[str, ...] = AS_IT_IS,
) -> str:
    """What a demo says that gets a Ctrl-C, as its terminal sends it, at that moment."""
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *how, "demo"],
            env=environment(directory),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    wait_for(lambda: moment(process, log), "the moment")
    while (
        process.poll() is None
    ):  # Python ignores one that comes while it runs a weakref's callback
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
    assert process.returncode == ExitCode.INTERRUPTED
    return re.sub(r"(?s)Exception ignored in: .*?KeyboardInterrupt: \n", "", log.read_text())


def has_begun_to_start_adapters(process: subprocess.Popen[bytes], _log: Path) -> bool:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return any(b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes() for child in children)


def has_stored_something(_process: subprocess.Popen[bytes], log: Path) -> bool:
    """Something that was sent: what the demo migrates before is a month old."""
    if "migrated" not in log.read_text():
        return False
    (path,) = log.parent.glob("backscroll-demo-*/backscroll.db")
    with open_tested(f"sqlite://{path}", read_only=True) as store:
        yesterday = datetime.now(UTC) - timedelta(days=1)
        return bool(store.sessions(active_since=yesterday, limit=1).sessions)


def has_stored_all(_process: subprocess.Popen[bytes], log: Path) -> bool:
    return "enqueued and committed" in log.read_text()


@pytest.mark.parametrize("moment", [has_begun_to_start_adapters, has_stored_something])
def test_a_demo_that_is_stopped_early_leaves_nothing(tmp_path: Path, moment: Any) -> None:
    said = interrupted(tmp_path, moment)
    assert "Traceback" not in said, said
    assert [
        line for line in said.splitlines() if line.startswith("Stopped before everything was")
    ], said
    assert not list(tmp_path.glob("backscroll-demo-*"))


def test_a_demo_that_is_stopped_late_says_where_its_store_is(tmp_path: Path) -> None:
    said = interrupted(tmp_path, has_stored_all, WITH_FEW_SESSIONS)
    assert "Traceback" not in said, said
    (folder,) = tmp_path.glob("backscroll-demo-*")
    assert f"Stopped. The store is kept until you remove its folder: {folder}" in said
    with open_tested(f"sqlite://{folder / 'backscroll.db'}", read_only=True) as store:
        assert store.sessions(limit=1).sessions
