"""`backscroll demo`: the whole system on real conversations, with a check of what was stored."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from backscroll import Producer
from backscroll_worker.demo import group, legacy, report
from backscroll_worker.demo.corpus import Session, load_sessions
from backscroll_worker.demo.replay import Replayed, running_command
from backscroll_worker.demo.replay import replay as replay_sessions
from backscroll_worker.demo.verdict import compare
from backscroll_worker.ops.server import running_server
from backscroll_worker.settings import Settings
from backscroll_worker.transfer.migrate import migrate


def run_demo(settings: Settings, console: Console, *, stay: bool = False) -> bool:
    """Replay the corpus through adapters, queue, worker and store; returns whether the check held.

    Everything happens in a new directory and on an embedded server of its own. With `stay` it then
    keeps everything running, with rq-dashboard, until Ctrl-C.
    """
    sessions = load_sessions()
    exchanges = sum(session.exchanges for session in sessions)
    languages = len({session.language for session in sessions})
    console.print(
        f"[bold]Backscroll demo[/bold]: {exchanges:,} real exchanges in {languages} languages, "
        f"{len(sessions)} sessions,\nthree adapter processes, a group chat, one worker\n"
    )
    with _own_folder(console) as folder:
        own = replace(
            settings,
            redis_url=None,
            data_dir=folder.path,
            store=f"sqlite://{folder.path / 'backscroll.db'}",
            archive=folder.path / "archive",
        )
        _migrate_old_sessions(own, sessions, console)
        with running_server(own) as url, running_command("worker", own, url) as worker:
            replayed = replay_sessions(sessions, own, url, worker, console)
            folder.is_useful = True
            chat = asyncio.run(group.play(url, own.queue))
            holds = _show(own, url, replayed, chat, console)
            if stay:
                _stay(own, url, console)
    return holds


@dataclass(slots=True)
class _Folder:
    path: Path
    is_useful: bool = False
    """Whether it contains anything to explore."""


@contextmanager
def _own_folder(console: Console) -> Iterator[_Folder]:
    """A new folder, which is kept, unless Ctrl-C ends the demo before it is of use."""
    folder = _Folder(Path(tempfile.mkdtemp(prefix="backscroll-demo-")))
    try:
        yield folder
    except KeyboardInterrupt:
        if folder.is_useful:
            fate = f"Stopped. The store is kept until you remove its folder: {folder.path}"
        else:
            shutil.rmtree(folder.path, ignore_errors=True)
            fate = f"Stopped before everything was stored, and removed {folder.path}"
        console.print(Text(f"\n{fate}"), soft_wrap=True)
        raise


def _show(
    settings: Settings, url: str, replayed: Replayed, chat: group.GroupChat, console: Console
) -> bool:
    """Show what came of it all; returns whether all of it is stored as it was sent."""
    report.show_throughput(console, replayed)
    with Producer(url, settings.queue, timeout_seconds=120) as producer:
        busiest = report.show_busiest(console, producer)
        report.show_transcript(console, producer, busiest)
        report.show_searches(console, producer)
        verdict = compare(producer, replayed.remembered)
        report.show_verdict(console, replayed, verdict)
        report.show_group(console, chat)
        cleaned = report.show_maintenance(console, producer, ttl_hours=30 * 24)
    report.show_next_steps(console, settings, cleaned.keys)
    return verdict.holds and chat.holds


def _stay(settings: Settings, url: str, console: Console) -> None:
    with running_command("scheduler", settings, url), running_command("dashboard", settings, url):
        address = f"http://{settings.dashboard_host}:{settings.dashboard_port}"
        console.print(f"\nrq-dashboard shows the queue at {address} until Ctrl-C")
        with suppress(KeyboardInterrupt):
            signal.pause()


def _migrate_old_sessions(settings: Settings, sessions: list[Session], console: Console) -> None:
    directory = settings.data_dir / "old-sessions"
    legacy.write_old_sessions(directory, sessions)
    outcome = migrate(directory, settings.store)
    console.print(
        f"migrated {outcome.sessions} sessions with {outcome.messages:,} messages, "
        f"{legacy.AGE_DAYS} days old, from the original's files"
    )
    for line in outcome.corrupt_lines:
        name = Path(line).name
        console.print(Text(f"  skipped a torn line: {name}", style="yellow"), soft_wrap=True)
