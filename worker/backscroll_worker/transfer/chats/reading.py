"""Which program a file or folder is from, by its content, and the sessions in it.

A file that is nearly one of those is refused with what it lacks.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.resources.abc import Traversable
from io import BufferedReader
from typing import Any, Final, NamedTuple

import orjson

from backscroll.channels.values import mapping
from backscroll.contract.errors import InvalidInputError
from backscroll_worker.contract.interchange import numbered_lines
from backscroll_worker.transfer.chats import agent_logs, assistants, messengers, slack, whatsapp
from backscroll_worker.transfer.chats.conversation import (
    Conversation,
    Options,
    bytes_of,
    object_in,
)
from backscroll_worker.transfer.source import Advance, Damage, Found

ZIP_MAGIC: Final = b"PK\x03\x04"
MAX_LINE_BYTES: Final = 64 * 1024 * 1024


class _Form(NamedTuple):
    """A JSON form: the fields that it needs, and others by which it is known."""

    name: str
    needs: tuple[str, ...]
    shows: tuple[str, ...]
    read: Callable[[Mapping[str, Any], Options], Iterator[Conversation]]

    def lacks(self, fields: Mapping[str, Any]) -> list[str]:
        return [name for name in self.needs if name not in fields]

    def likeness(self, fields: Mapping[str, Any]) -> int:
        return sum(name in fields for name in (*self.needs, *self.shows))


_FORMS: Final = (
    _Form(
        "a ChatGPT export",
        ("mapping",),
        ("current_node", "create_time", "conversation_id", "moderation_results"),
        assistants.chatgpt,
    ),
    _Form(
        "a Claude export", ("chat_messages", "uuid"), ("account", "summary"), assistants.claude
    ),
    _Form(
        "an Open WebUI export", ("chat", "id"), ("user_id", "share_id", "folder_id"),
        assistants.open_webui,
    ),
    _Form(
        "a DiscordChatExporter file",
        ("guild", "channel", "messages"),
        ("dateRange", "exportedAt", "messageCount"),
        messengers.discord,
    ),
    _Form("a Telegram export", ("messages", "type", "id"), ("name",), messengers.telegram),
    _Form(
        "a Telegram export of an account",
        ("chats",),
        ("personal_information", "left_chats", "frequent_contacts"),
        messengers.telegram,
    ),
)  # fmt: skip


def read_document(name: str, raw: bytes, options: Options) -> Iterator[Found]:
    """The sessions in a JSON document; raises `InvalidInputError` where nobody's form is known."""
    document = _parsed(name, raw)
    is_list = isinstance(document, list)
    entries = document if is_list else [document]
    if not entries:
        raise InvalidInputError("file", f"{name} is an empty list")
    form = _form(name, entries[0])
    for number, entry in enumerate(entries, 1):
        where = f"{name}: conversation {number}" if is_list else name
        fields = mapping(entry)
        if lacking := form.lacks(fields):
            yield Damage(where, f"has no {' and no '.join(lacking)}")
        else:
            yield from _found(where, form.read(fields, options), options)
    yield Advance(len(raw))


def read_log(form: str, name: str, file: BufferedReader[Any], options: Options) -> Iterator[Found]:
    """The session in an agent's log of that form."""
    lines = numbered_lines(file, MAX_LINE_BYTES)
    yield from _found(name, agent_logs.read(form, lines, name, options), options)


def read_chat(name: str, lines: Iterable[bytes], options: Options) -> Iterator[Found]:
    """The session in a chat of WhatsApp."""
    texts = (raw.decode("utf-8", "replace") for raw in lines)
    yield from _found(name, whatsapp.whatsapp(texts, name, options), options)


def read_folder(name: str, folder: Traversable, options: Options) -> Iterator[Found]:
    """The sessions in an export that is a folder or a ZIP file.

    Raises `InvalidInputError` where it is nobody's export.
    """
    if slack.is_slack(folder):
        yield from _found(name, slack.slack(folder, options), options)
        return
    documents = sorted(
        each.name
        for each in folder.iterdir()
        if each.is_file()
        and (
            each.name == "result.json"
            or (each.name.startswith("conversations") and each.name.endswith(".json"))
        )
    )
    for document in documents:
        try:
            raw = bytes_of(folder.joinpath(document))
            yield from read_document(f"{name}/{document}", raw, options)
        except InvalidInputError as error:
            yield Damage("file", str(error).removeprefix("file: "))
    if documents:
        return
    for each in folder.iterdir():
        if each.name.endswith(".txt") and each.is_file():
            lines = bytes_of(each).splitlines(keepends=True)
            if lines and whatsapp.is_whatsapp(lines[0].decode("utf-8", "replace")):
                own = name if each.name == "_chat.txt" else each.name
                yield from read_chat(f"{own}/_chat.txt" if own is name else own, lines, options)
                return
    raise InvalidInputError(
        "file",
        f"{name} has neither conversations.json nor result.json, users.json with channels.json, "
        "or a chat of WhatsApp; 'backscroll migrate' takes over a folder of sessions",
    )


def opened_zip(file: BufferedReader[Any]) -> Traversable:
    """The folder in a ZIP file; raises `InvalidInputError` if it is damaged."""
    try:
        return zipfile.Path(zipfile.ZipFile(file))
    except zipfile.BadZipFile as error:
        raise InvalidInputError("file", f"{file.name}: {error}") from None


def is_document(fields: Mapping[str, Any]) -> bool:
    """Whether this is a whole export, and not one line of several."""
    return any(not form.lacks(fields) for form in _FORMS)


def log_form(line: bytes) -> str | None:
    """Whose log begins with this line, if it is an agent's."""
    return agent_logs.form_of(object_in(line) or {})


def with_line(line: bytes, file: BufferedReader[Any]) -> BufferedReader[Any]:
    """The file as it was before this line was read from it."""
    return BufferedReader(_Again(line, file))


class _Again(io.RawIOBase):
    def __init__(self, line: bytes, file: BufferedReader[Any]) -> None:
        self._left = memoryview(line)
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        taken = self._left[: len(buffer)] or self._file.read1(len(buffer))
        self._left = self._left[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)


def _found(where: str, conversations: Iterator[Conversation], options: Options) -> Iterator[Found]:
    for conversation in conversations:
        own = f"{where}: {conversation.key}" if conversation.key else where
        yield from conversation.found(own, options)


def _form(name: str, first: object) -> _Form:
    fields = mapping(first)
    for form in _FORMS:
        if not form.lacks(fields):
            return form
    nearest = max(_FORMS, key=lambda form: form.likeness(fields))
    if nearest.likeness(fields):
        lacking = " and no ".join(nearest.lacks(fields))
        raise InvalidInputError("file", f"{name} looks like {nearest.name}, but has no {lacking}")
    raise InvalidInputError(
        "file", f"{name} is not an export; 'backscroll migrate' takes over a folder of sessions"
    )


def _parsed(name: str, raw: bytes) -> Any:
    """What JSON says; Python's own reader also takes text that has halves of characters."""
    try:
        return orjson.loads(raw)
    except ValueError as error:
        try:
            return json.loads(raw.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise InvalidInputError("file", f"{name} is not JSON: {error}") from None
