"""The demo: it passes on the real corpus, and its check is one that can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from producer import ChatMessage, Producer
from tests.processes import spawn
from worker.demo.corpus import CHANNELS, load_sessions
from worker.demo.verdict import compare
from worker.settings import Settings


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


def test_the_demo_replays_everything_and_its_check_holds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "worker.cli", "demo"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    assert "The check holds" in said
    assert "[人工知能]" in said
    assert "cleanup   removed 30 sessions" in said
    assert "a torn line was left out" in said
    assert "backscroll --data-dir" in said
