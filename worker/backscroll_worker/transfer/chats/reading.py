"""Which program a folder or a log is from, by its content, and the sessions in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Final

from backscroll.contract.errors import InvalidInputError
from backscroll_worker.contract.interchange import numbered_lines
from backscroll_worker.transfer.chats import agent_logs, slack, whatsapp
from backscroll_worker.transfer.chats.conversation import NOT_UNICODE, Options, object_in
from backscroll_worker.transfer.chats.documents import found, read_document
from backscroll_worker.transfer.folders import Folder
from backscroll_worker.transfer.opening import as_utf8
from backscroll_worker.transfer.source import Damage, Found, NotKept

MAX_LINE_BYTES: Final = 64 * 1024 * 1024
_FIRST_LINES: Final = 20

Read = Callable[[str, BinaryIO, Options], Iterator[Found]]
_TEXTS: Final = (".json", ".txt")


def read_log(form: str, name: str, file: BinaryIO, options: Options) -> Iterator[Found]:
    """The session in an agent's log of that form."""
    lines = numbered_lines(file, MAX_LINE_BYTES)
    yield from found(name, agent_logs.read(form, lines, name, options), options)


def read_chat(name: str, file: BinaryIO, options: Options) -> Iterator[Found]:
    """The session in a chat of WhatsApp."""
    texts = _Texts(file)
    yield from found(name, whatsapp.whatsapp(texts, name, options), options)
    yield NotKept(NOT_UNICODE, texts.altered)


def read_folder(folder: Folder, options: Options) -> Iterator[Found]:
    """The sessions in an export that is a folder or a ZIP file.

    Raises `InvalidInputError` where it is nobody's export.
    """
    files = folder.files()
    documents = [each for each in files if _is_document(each)]
    chats = [each for each in files if each.endswith(".txt") and _is_whatsapp(folder, each)]
    for name, why in folder.passed_over.items():
        if name.endswith(_TEXTS):
            yield Damage(f"{folder.name}/{name}", why)
    if slack.is_slack(files):
        yield from found(folder.name, slack.slack(folder, options), options)
    elif documents or chats:
        for each in documents or chats:
            yield from _read_file(folder, each, options, read_document if documents else read_chat)
    else:
        raise InvalidInputError("file", f"{folder.name} {_lacks(files)}")


def _read_file(folder: Folder, name: str, options: Options, read: Read) -> Iterator[Found]:
    try:
        with folder.opened(name) as raw:
            _, file = as_utf8(raw)
            yield from read(f"{folder.name}/{name}", file, options)
    except InvalidInputError as error:
        yield Damage("file", str(error).removeprefix("file: "))


def _is_document(name: str) -> bool:
    return name == "result.json" or (name.startswith("conversations") and name.endswith(".json"))


def _is_whatsapp(folder: Folder, name: str) -> bool:
    try:
        with folder.opened(name) as raw:
            return whatsapp.is_whatsapp(as_utf8(raw)[0])
    except InvalidInputError:
        return name == "_chat.txt"  # and reading it says what is wrong with it


def _lacks(files: list[str]) -> str:
    if "users.json" in files or not {*slack.LISTS}.isdisjoint(files):
        return f"looks like a Slack export, but has no {slack.lacks(files)}"
    if any(each.endswith(".zip") for each in files):
        return "has only other ZIP files: unpack it, and import these"
    if any(each.endswith(".html") for each in files):
        return "is an export as HTML: export it as JSON, and import that"
    for ending in (".json", ".jsonl"):
        if any(each.endswith(ending) for each in files):
            return (
                f"is not an export by itself: give the files in it, as *{ending}; "
                "'backscroll migrate' takes over a folder of the original's sessions"
            )
    return (
        "has neither conversations.json nor result.json, users.json with channels.json, "
        "or a chat of WhatsApp; 'backscroll migrate' takes over a folder of sessions"
    )


def log_form(head: bytes, first_line: bytes) -> str | None:
    """Whose log begins so, if it is an agent's."""
    *whole, _ = head.split(b"\n")
    lines: Iterable[bytes] = whole[1:_FIRST_LINES] if first_line.endswith(b"\n") else ()
    forms = (agent_logs.form_of(object_in(line) or {}) for line in (first_line, *lines))
    return next(filter(None, forms), None)


class _Texts(Iterator[str]):
    """The lines of a text; one that is too long for a message is in parts."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.altered = 0
        """How many lines were not UTF-8; U+FFFD stands in the place of what was not."""

    def __next__(self) -> str:
        raw = self._file.readline(MAX_LINE_BYTES)
        if not raw:
            raise StopIteration
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.altered += 1
            return raw.decode("utf-8", "replace")
