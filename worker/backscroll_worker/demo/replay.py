"""Runs the adapters and a worker, shows their progress, and waits until all is stored."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from backscroll.contract.errors import BackscrollError
from backscroll.transport.connection import connect
from backscroll.transport.rq_protocol import in_flight_key, queue_key
from backscroll_worker.demo import adapter
from backscroll_worker.demo.adapter import Remembered
from backscroll_worker.demo.corpus import CHANNELS, Session
from backscroll_worker.ops.up import environment
from backscroll_worker.settings import Settings


class DemoFailedError(BackscrollError):
    """A process of the demo ended before its work was done; see its log."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What the adapters sent, as they remember it, and the time until all of it was stored."""

    remembered: dict[str, Remembered]
    operations: int
    rollbacks: int
    seconds: float


@contextmanager
def running_command(name: str, settings: Settings, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """`backscroll NAME` as a process of its own, its log in the data directory."""
    command = [sys.executable, "-m", "backscroll_worker.cli", name]
    with (settings.data_dir / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, env=environment(settings, url), stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def replay(
    sessions: list[Session],
    settings: Settings,
    url: str,
    worker: subprocess.Popen[bytes],
    console: Console,
) -> Replayed:
    """Let three adapters replay `sessions` concurrently, and wait until all of it is stored."""
    started = time.monotonic()
    reports = {name: settings.data_dir / f"{name}.json" for name in CHANNELS}
    counters = {name: multiprocessing.get_context("spawn").Value("i", 0) for name in CHANNELS}
    own = {name: [each for each in sessions if each.channel == name] for name in CHANNELS}
    with connect(url) as client, ExitStack() as stack:
        adapters = {
            name: stack.enter_context(
                adapter.running(url, settings.queue, own[name], counters[name], reports[name])
            )
            for name in CHANNELS
        }
        # After the adapters have started: the bars have a thread, which a Ctrl-C could reach.
        progress = stack.enter_context(_progress(console))
        bars = {
            name: progress.add_task(
                f"{name} adapter", total=sum(session.exchanges for session in own[name])
            )
            for name in CHANNELS
        }
        waiting = progress.add_task("waiting in the queue", total=None)
        while True:
            depth = _depth(client, settings.queue)
            for name, bar in bars.items():
                progress.update(bar, completed=counters[name].value)
            progress.update(waiting, completed=depth)
            if not any(process.is_alive() for process in adapters.values()) and depth == 0:
                break
            _must_live(worker, settings.data_dir / "worker.log")
            time.sleep(0.05)
        progress.remove_task(waiting)
    seconds = time.monotonic() - started
    for name, process in adapters.items():
        if process.exitcode != 0:
            raise DemoFailedError(f"the {name} adapter ended with exit code {process.exitcode}")
    return _collect(list(reports.values()), seconds)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("  {task.description:<22}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _depth(client: redis.Redis, queue: str) -> int:
    """The number of operations that wait or are in flight."""
    with client.pipeline() as pipeline:
        pipeline.llen(queue_key(queue))
        pipeline.llen(in_flight_key(queue))
        waiting, in_flight = pipeline.execute()
    return int(waiting) + int(in_flight)


def _must_live(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        last_line = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
        raise DemoFailedError(f"the worker ended; the last line of {log}: {last_line}")


def _collect(reports: list[Path], seconds: float) -> Replayed:
    remembered: dict[str, Remembered] = {}
    operations = rollbacks = 0
    for path in reports:
        report = orjson.loads(path.read_bytes())
        remembered.update(report["remembered"])
        operations += report["operations"]
        rollbacks += report["rollbacks"]
        path.unlink()
    return Replayed(remembered, operations, rollbacks, seconds)
