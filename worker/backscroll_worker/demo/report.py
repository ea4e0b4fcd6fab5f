"""The demo's output: sessions, a transcript, searches, the verdict, maintenance, next steps."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backscroll import Producer, SearchFilter, SearchHit
from backscroll.contract.messages import SessionInfo
from backscroll.contract.results import CleanupReport
from backscroll_worker.demo.group import GroupChat
from backscroll_worker.demo.platform import BOT, Shown
from backscroll_worker.demo.replay import Replayed
from backscroll_worker.demo.verdict import Verdict
from backscroll_worker.ops.stats import size
from backscroll_worker.settings import Settings

_SEARCHES: Final = (
    ("artificial intelligence", SearchFilter()),
    ("人工知能", SearchFilter()),
    ('"favorite" col* -blue', SearchFilter(role="user")),
    ("สบาย", SearchFilter()),
)
_HALF_REMEMBERED: Final = "wine electricity"
"""Words from different messages of one conversation."""

_TRANSCRIPT_MESSAGES: Final = 6
_GROUP_MESSAGES: Final = 12


def show_busiest(console: Console, producer: Producer) -> SessionInfo:
    """The sessions with the most messages; returns the first."""
    sessions = sorted(
        producer.sessions(agent="demo-assistant", limit=1000).sessions,
        key=lambda session: session.message_count,
        reverse=True,
    )
    table = Table(box=box.SIMPLE_HEAD, title="The busiest sessions", title_justify="left")
    table.add_column("session", no_wrap=True)
    table.add_column("name")
    table.add_column("messages", justify="right")
    for session in sessions[:6]:
        table.add_row(Text(session.key), Text(session.name or ""), f"{session.message_count:,}")
    console.print(table)
    return sessions[0]


def show_transcript(console: Console, producer: Producer, session: SessionInfo) -> None:
    """The newest messages of one session."""
    console.print(Text(f"The end of {session.key}", style="italic"))
    for message in producer.load(session.key, limit=_TRANSCRIPT_MESSAGES):
        speaker = (message.extra or {}).get("sender", message.role)
        line = Text(f"  {speaker:>10}  ", style="cyan" if message.role == "user" else "green")
        console.print(line.append(message.content, style="default"), soft_wrap=True)
    console.print()


def show_searches(console: Console, producer: Producer) -> None:
    """A few searches with their best hits, the matches highlighted."""
    for query, where in _SEARCHES:
        hits = producer.search(query, where, limit=2)
        line = Text("search ", style="italic").append(query, style="bold")
        if where.role:
            line.append(f"  (role {where.role})")
        console.print(line)
        for hit in hits:
            snippet = _snippet(hit, in_color=console.is_terminal)
            console.print(Text(f"  {hit.key}  ", style="dim").append_text(snippet), soft_wrap=True)
    console.print()


def _snippet(hit: SearchHit, *, in_color: bool) -> Text:
    if not in_color:
        return Text(hit.highlighted("[", "]"))
    snippet = Text(hit.snippet)
    for start, end in hit.marks:
        snippet.stylize("bold black on yellow", start, end)
    return snippet


def show_verdict(console: Console, replayed: Replayed, verdict: Verdict) -> None:
    """The counts of the comparison, and whether it holds."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title="Stored against sent, every message",
        title_justify="left",
    )
    table.add_column("compared")
    table.add_column("count", justify="right")
    for name, count in (
        ("sessions", verdict.sessions),
        ("messages", verdict.messages),
        ("rolled back", replayed.rollbacks),
    ):
        table.add_row(name, f"{count:,}")
    for name in ("missing", "doubled", "unexpected", "misplaced", "altered"):
        count = getattr(verdict, name)
        table.add_row(name, Text(f"{count:,}", style="bold red" if count else "green"))
    console.print(table)
    if verdict.holds:
        console.print(Text("  The check holds: all there, in order, once.\n", style="bold green"))
    else:
        console.print(Text("  THE CHECK FAILED.\n", style="bold red"))


def show_group(console: Console, chat: GroupChat) -> None:
    """The end of the group chat, what was done to it, and whether it is stored as it was shown."""
    console.print(Text("A group chat, as it is stored: two adapters got all of it", style="italic"))
    _show_lines_of(console, chat.stored)
    console.print(
        f"\n  {chat.edited} edits and {chat.deleted} deletions, arrived {chat.early} times before "
        f"their message;\n  {chat.delivered_again} updates delivered again; the model failed in "
        f"{chat.failed} of {chat.failed + chat.answered} answers"
    )
    if chat.holds:
        said = f"  The group holds: its {len(chat.stored)} messages are what its window shows.\n"
        console.print(Text(said, style="bold green"))
    else:
        console.print(Text("  THE GROUP DIFFERS. Its window shows:", style="bold red"))
        _show_lines_of(console, chat.window)


def _show_lines_of(console: Console, shown: Sequence[Shown]) -> None:
    authors = {message.id: message.author for message in shown}
    for message in shown[-_GROUP_MESSAGES:]:
        line = Text(f"  {message.author:>10}  ", style="green" if message.author == BOT else "cyan")
        line.append(message.text, style="default")
        if message.reply_to is not None:
            line.append(f"  (to {authors.get(message.reply_to, 'what is gone')})", style="dim")
        console.print(line, soft_wrap=True)


def show_maintenance(console: Console, producer: Producer, ttl_hours: float) -> CleanupReport:
    """Run and show a cleanup and a compaction; returns the cleanup's report."""
    cleaned = producer.cleanup(ttl_hours)
    console.print(
        f"cleanup   removed {cleaned.sessions:,} sessions with {cleaned.messages:,} messages, "
        f"idle for over {ttl_hours / 24:.0f} days"
    )
    compacted = producer.compact()
    console.print(
        f"compact   {size(compacted.bytes_before)} before, {size(compacted.bytes_after)} after\n"
    )
    return cleaned


def show_throughput(console: Console, replayed: Replayed) -> None:
    """Show the throughput, from the first call to the last commit."""
    console.print(
        f"{replayed.operations:,} operations enqueued and committed in "
        f"{replayed.seconds:.1f} s: [bold]{replayed.operations / replayed.seconds:,.0f} a second"
        "[/bold]\n"
    )


def show_next_steps(console: Console, settings: Settings, cleaned: Sequence[str]) -> None:
    """Show where everything is, and commands to try; `cleaned` are the deleted sessions."""
    command = f"{_own_command()} --data-dir {settings.data_dir}"
    archived = f"BACKSCROLL_ARCHIVE={settings.archive} {command}"
    console.print(
        Text(f"The store is kept until you remove its folder: {settings.data_dir}"), soft_wrap=True
    )
    _show_lines(
        console,
        "Explore it:",
        f"{command} search {_HALF_REMEMBERED} --by-session",
        f"{command} sessions --name 'english fo'",
        f"{archived} restore --list",
        f"{archived} up    # and rq-dashboard, until Ctrl-C",
    )
    _show_lines(
        console,
        "While that runs, from another terminal:",
        f"{command} cleanup --ttl-hours 0 --dry-run",
        *(f"{command} restore {shlex.quote(key)} --pin" for key in cleaned[:1]),
    )


def _show_lines(console: Console, title: str, *lines: str) -> None:
    console.print(title)
    for line in lines:
        console.print(Text(f"  {line}", style="cyan"), soft_wrap=True)


def _own_command() -> str:
    """The command to type: `backscroll`, or its path when it is not on the PATH."""
    if shutil.which("backscroll"):
        return "backscroll"
    script = Path(sys.executable).with_name("backscroll")
    return str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else str(script)
