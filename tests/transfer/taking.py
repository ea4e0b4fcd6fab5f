"""A file taken into an empty store, and all that is there then."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from backscroll import ChatMessage
from backscroll_worker.transfer.chats.conversation import Options
from backscroll_worker.transfer.import_files import ImportReport, import_files, look_through
from tests.transfer.sessions import everything

ME = frozenset({"Fares", "U9"})
OPTIONS = Options(me=ME, zone=ZoneInfo("Europe/Berlin"))


def taken(path: Path, folder: Path) -> tuple[ImportReport, dict[str, list[ChatMessage]]]:
    store = f"sqlite://{folder / 'store.db'}"
    report = import_files([path], store, OPTIONS, lambda _: None)
    return report, {key: said for key, (_, said) in everything(store).items()}


def looked(path: Path) -> ImportReport:
    """What an import of the file would say."""
    return look_through([path], OPTIONS, lambda _: None)


def changed(sample: Any, **fields: Any) -> list[Any]:
    """A list of one conversation, with other fields."""
    return [{**sample[0], **fields}]
