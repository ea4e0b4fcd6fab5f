"""`backscroll erase`: removes a session, sender, room or author, and prints a receipt."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from rich.table import Table

from backscroll.contract.codec import decode, encode
from backscroll.contract.errors import MalformedJobError
from backscroll.contract.messages import LATEST_MICROS, from_micros
from backscroll.contract.operations import (
    Append,
    Operation,
    Replace,
    Write,
    described_attributes,
)
from backscroll.contract.results import ErasureReceipt
from backscroll.contract.validation import check_subject
from backscroll.spool.queue import Spool
from backscroll.transport.rq_protocol import Job
from backscroll_worker.cli.output import (
    cell,
    console,
    counted,
    json_option,
    local_time,
    note,
    print_json,
)
from backscroll_worker.cli.sending import ask_worker, confirm, timeout_option, yes_option
from backscroll_worker.contract.tombstones import Tombstone, Tombstones, digest
from backscroll_worker.settings import Settings

_COUNTS: Final = ("sessions", "messages", "op_ids", "archived", "failed_jobs")


@click.command()
@click.option("--session", "key", metavar="KEY", help="One session.")
@click.option("--sender", help="All sessions of this sender.")
@click.option("--room", help="All sessions of this room.")
@click.option("--author", help="What this author said, in all sessions.")
@click.option(
    "--spool",
    "spools",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Also from this spool on this host; no producer may use it. Can be given several times.",
)
@yes_option
@timeout_option
@json_option
@click.pass_obj
def erase(
    settings: Settings,
    /,
    spools: tuple[Path, ...],
    yes: bool,
    timeout_seconds: float,
    as_json: bool,
    **given: str | None,
) -> None:
    """Remove every trace of a session, sender, room or author.

    Of an author only the messages go; what others said stays. The worker removes all from
    store, archive and failed jobs. Messages sent before that arrive later are dropped; those
    sent from now on are stored. Pinned sessions are erased too. The receipt contains no names.

    \b
    Example:
      backscroll erase --sender user123
      backscroll erase --author 4711
      backscroll erase --session telegram_user123 --yes --json
    """
    subject = check_subject(given)
    name, value = next((name, value) for name, value in subject.items() if value is not None)
    shown = "session" if name == "key" else name
    confirm(f"Erase everything of {shown} {value!r} permanently?", yes)
    spooled = sum(_erase_from_spool(path, name, value) for path in spools)
    receipt = ask_worker(settings, timeout_seconds, "erasing", lambda p: p.erase(**subject))
    if as_json:
        print_json({**_fields(receipt), "spooled": spooled})
    else:
        console().print(_table(receipt, shown, spooled))
    if not spooled and not any(getattr(receipt, name) for name in _COUNTS):
        note(f"nothing of {shown} {value!r} was found")
    if receipt.log_is_held:
        note(
            "another program reads the store and keeps its old log, which may hold erased text; "
            "stop that program, then run 'backscroll compact'"
        )
    if receipt.unreadable:
        note(
            f"{counted(receipt.unreadable, 'session')} could not be attributed: the files are "
            f"unreadable. They may belong to the {shown}; 'backscroll check' names the files, "
            "--session erases a session"
        )


COMMANDS = (erase,)


def _erase_from_spool(path: Path, name: str, value: str) -> int:
    """Remove the operations known to be the subject's, or its messages; returns of how many."""
    spool = Spool(path)
    try:
        subject = _Spooled(name, value)
        spool.change(subject.learn)
        removed = spool.change(subject.rest_of)
    finally:
        spool.close()
    note(f"{path}: {counted(removed, 'operation')} removed")
    return removed


class _Spooled:
    """What of a spool is an erased subject's, by all that the spool says."""

    def __init__(self, name: str, value: str) -> None:
        self._name, self._value = name, value
        self._keys = {value} if name == "key" else set[str]()
        self._messages = set[tuple[str, str]]()
        """The author's, by session and each of their ids."""
        erased = {digest("author", value): Tombstone(LATEST_MICROS, LATEST_MICROS)}
        self._tombstones = Tombstones(erased if name == "author" else {})

    def learn(self, job: Job) -> bytes:
        operation = _operation(job)
        if operation is not None and described_attributes(operation).get(self._name) == self._value:
            self._keys.add(operation.key)  # type: ignore[attr-defined]
        if isinstance(operation, Append) and self._name == "author":
            for id_, message in zip(operation.message_ids, operation.messages, strict=True):
                if message.author == self._value:
                    ids = filter(None, (id_, message.platform_id))
                    self._messages.update((operation.key, each) for each in ids)
        return job[-1]

    def rest_of(self, job: Job) -> bytes | None:
        """The data that the job may have from now on; None if nothing of it may stay."""
        operation, data = _operation(job), job[-1]
        is_about = getattr(operation, self._name, None) == self._value
        if is_about or getattr(operation, "key", None) in self._keys:
            return None
        if isinstance(operation, Replace):
            named = operation.key, operation.message_id or operation.platform_id or ""
            if named in self._messages:
                return None
        if not isinstance(operation, Write):
            return data
        spared = self._tombstones.spared(operation)
        if spared is None or spared is operation:
            return None if spared is None else data
        return encode(spared)


def _operation(job: Job) -> Operation | None:
    with suppress(MalformedJobError):
        return decode(job[0], job[-1])
    return None


def _fields(receipt: ErasureReceipt) -> dict[str, Any]:
    times = {name: from_micros(getattr(receipt, name)) for name in ("asked_at", "finished_at")}
    return {**asdict(receipt), **times}


def _table(receipt: ErasureReceipt, subject: str, spooled: int) -> Table:
    rows = Table.grid(padding=(0, 2))
    rows.add_row("erasure", cell(receipt.op_id))
    rows.add_row(
        "of", f"{'an' if subject == 'author' else 'a'} {subject}, SHA-256 {receipt.subject_sha256}"
    )
    rows.add_row("asked for", local_time(from_micros(receipt.asked_at)))
    rows.add_row("finished", local_time(from_micros(receipt.finished_at)))
    for name in _COUNTS:
        rows.add_row(name.replace("_", " "), f"{getattr(receipt, name):,}")
    rows.add_row("spooled", f"{spooled:,}")
    rows.add_row("message ids", f"SHA-256 {receipt.messages_sha256}")
    return rows
