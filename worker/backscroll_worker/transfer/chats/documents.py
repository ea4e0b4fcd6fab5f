"""Exports that are a JSON document: whose it is, and the conversations in it, one by one.

A document that is nearly one of these is refused with what it lacks. Of those that are a list of
conversations one is in memory at a time; of a messenger's chat, its messages are.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from typing import Any, BinaryIO, Final, NamedTuple

from backscroll.channels.values import mapping
from backscroll.contract.errors import InvalidInputError
from backscroll_worker.transfer.chats import assistants, messengers
from backscroll_worker.transfer.chats.conversation import Conversation, Options
from backscroll_worker.transfer.json_pieces import BadValueError, JsonPieces
from backscroll_worker.transfer.source import Advance, Damage, Found, NotKept

MAX_CONVERSATION_BYTES: Final = 256 * 1024 * 1024
_NOT_JSON: Final = "text that is not Unicode, or numbers that JSON lacks"
_FIRST_ENTRIES: Final = 100
_ID: Final = (str, int)
_KINDS: Final = {dict: "an object", list: "a list", str: "text", _ID: "an id"}
_CHATS: Final = ("chats", "left_chats")

Read = Callable[[Mapping[str, Any], Options], Iterator[Conversation]]
Begin = Callable[[Mapping[str, Any], Options], messengers.Begun]


class _Form(NamedTuple):
    """A JSON form: the fields that it needs, and others by which it is known.

    It is read as a whole, or its messages one by one.
    """

    name: str
    needs: Mapping[str, Any]
    shows: tuple[str, ...]
    read: Read | None = None
    begin: Begin | None = None

    def lacks(self, fields: Mapping[str, Any]) -> str:
        """What is missing or is of another kind; "" if nothing is."""
        missing = [f"no {name}" for name in self.needs if fields.get(name) is None]
        others = [
            f"a field {name} that is not {_KINDS[kind]}"
            for name, kind in self.needs.items()
            if fields.get(name) is not None and not isinstance(fields[name], kind)
        ]
        return " and ".join([*missing, *others])

    def likeness(self, names: Mapping[str, Any]) -> int:
        return sum(name in names for name in (*self.needs, *self.shows))


_FORMS: Final = (
    _Form(
        "a ChatGPT export",
        {"mapping": dict},
        ("current_node", "create_time", "conversation_id", "moderation_results"),
        assistants.chatgpt,
    ),
    _Form(
        "a Claude export",
        {"chat_messages": list, "uuid": str},
        ("account", "summary"),
        assistants.claude,
    ),
    _Form(
        "an Open WebUI export",
        {"chat": dict, "id": str},
        ("user_id", "share_id", "folder_id"),
        assistants.open_webui,
    ),
    _Form(
        "a DiscordChatExporter file",
        {"guild": dict, "channel": dict, "messages": list},
        ("dateRange", "exportedAt", "messageCount"),
        begin=messengers.discord,
    ),
    _Form(
        "a Telegram export",
        {"messages": list, "type": str, "id": _ID},
        ("name",),
        begin=messengers.telegram,
    ),
)
_ACCOUNT: Final = _Form(
    "a Telegram export of an account",
    {"chats": dict},
    ("personal_information", "left_chats", "frequent_contacts"),
)
_BY_MESSAGES: Final = tuple(form for form in _FORMS if form.begin is not None)
_KNOWN: Final = frozenset(
    ("title", "name", "current_leaf_message_uuid", *(
        name for form in (*_FORMS, _ACCOUNT) for name in (*form.needs, *form.shows)
    ))
)  # fmt: skip


def is_document(fields: Mapping[str, Any]) -> bool:
    """Whether this is a whole export, and not one line of several."""
    return any(not form.lacks(fields) for form in (*_FORMS, _ACCOUNT))


def begins_document(start: bytes) -> bool:
    """Whether an object whose beginning this is may be an export, by the names in it."""
    names = dict[str, None]()
    with suppress(InvalidInputError):  # as it is only the beginning
        for name in JsonPieces(io.BytesIO(start), "").members():
            names[name] = None
    return any(form.likeness(names) > 1 for form in _FORMS) or _ACCOUNT.likeness(names) > 0


def read_document(name: str, file: BinaryIO, options: Options) -> Iterator[Found]:
    """The sessions in a JSON document; raises `InvalidInputError` where nobody's form is known."""
    json = JsonPieces(file, name)
    if json.begins_with(b"["):
        yield from _list(name, json, options)
    elif json.begins_with(b"{"):
        yield from _object(name, json, options)
    else:
        raise _nobodys(name)
    json.finish()
    yield Advance(json.advanced())
    yield NotKept(_NOT_JSON, json.altered)


def _list(name: str, json: JsonPieces, options: Options) -> Iterator[Found]:
    form: _Form | None = None
    before = list[Damage]()  # the first one that is somebody's
    number = 0
    for number, _ in enumerate(json.elements(), 1):
        where = f"{name}: conversation {number}"
        try:
            fields = mapping(json.value(MAX_CONVERSATION_BYTES))
        except BadValueError as error:
            fields, problem = {}, str(error)
        else:
            problem = _nearest(fields)
        form = form or _fitting(fields)
        if form is None:
            before.append(Damage(where, problem))
            if len(before) == _FIRST_ENTRIES:
                break
            continue
        yield from before
        before.clear()
        if lacking := form.lacks(fields):
            yield Damage(where, f"has {lacking}" if fields else problem)
        else:
            yield from _read(form, where, fields, options)
        yield Advance(json.advanced())
    if number == 0:
        raise InvalidInputError("file", f"{name} is an empty list")
    if before:
        raise InvalidInputError("file", f"{name}: the first conversation {before[0].problem}")


def _object(name: str, json: JsonPieces, options: Options) -> Iterator[Found]:
    """A document of one conversation, or an account's with its chats."""
    chat = _Chat(name, json, options)
    is_account = False
    for field in json.members():
        if field in _CHATS and json.begins_with(b"{"):
            is_account = (yield from _chats(name, json, options)) or is_account
            chat.lacks(field)
        else:
            chat.take(field)
    if is_account:
        return
    if problem := chat.problem():
        raise InvalidInputError("file", f"{name} {problem}")
    yield from chat.found()


def _chats(name: str, json: JsonPieces, options: Options) -> Generator[Found, None, bool]:
    """What is in the list of chats; returns whether there is one."""
    is_there = False
    for field in json.members():
        if field != "list" or not json.begins_with(b"["):
            continue
        is_there = True
        for number, _ in enumerate(json.elements(), 1):
            where = f"{name}: chat {number}"
            if not json.begins_with(b"{"):
                yield Damage(where, "is not an object")
                continue
            chat = _Chat(where, json, options)
            for each in json.members():
                chat.take(each)
            if problem := chat.problem():
                yield Damage(where, problem)
            else:
                yield from chat.found()
            yield Advance(json.advanced())
    return is_there


class _Chat:
    """An object with messages, of which each is read and dropped.

    Where what says whose it is comes behind the messages, they are kept until then.
    """

    def __init__(self, where: str, json: JsonPieces, options: Options) -> None:
        self._where = where
        self._json = json
        self._options = options
        self._fields: dict[str, Any] = {}
        self._left = MAX_CONVERSATION_BYTES
        self._begun: messengers.Begun | None = None
        self._bad: list[Damage] = []

    def take(self, field: str) -> None:
        """Read the member of that name, which is next."""
        if field == "messages" and self._json.begins_with(b"["):
            self._fields[field] = []
            form = next((each for each in _BY_MESSAGES if not each.lacks(self._fields)), None)
            if form is not None and form.begin is not None:
                self._begun = self._begun or form.begin(self._fields, self._options)
                self._add_messages(self._begun)
                return
        if field not in _KNOWN:
            return
        before = self._json.position
        try:
            self._fields[field] = self._json.value(self._left)
        except BadValueError as error:
            raise InvalidInputError("file", f"{self._where}: {field} {error}") from None
        self._left -= self._json.position - before

    def _add_messages(self, begun: messengers.Begun) -> None:
        for number, _ in enumerate(self._json.elements(), 1):
            try:
                messengers.add(begun, self._json.value(MAX_CONVERSATION_BYTES))
            except BadValueError as error:
                where = f"{self._where}: message {number}"
                self._bad.append(Damage(where, str(error), is_session=False))

    def lacks(self, field: str) -> None:
        """Note that there is such a field, but nothing in it."""
        self._fields[field] = None

    def problem(self) -> str:
        """What it lacks to be somebody's; "" if it is."""
        return "" if _fitting(self._fields) else _nearest(self._fields)

    def found(self) -> Iterator[Found]:
        """The session in it."""
        form = _fitting(self._fields)
        if form is None:
            return
        yield from self._bad
        if self._begun is None:
            yield from _read(form, self._where, self._fields, self._options)
        elif form.begin is not None:  # with a name that came behind the messages
            self._begun.made.name = form.begin(self._fields, self._options).made.name
            yield from found(self._where, iter([self._begun.made]), self._options)


def found(where: str, conversations: Iterator[Conversation], options: Options) -> Iterator[Found]:
    """What becomes of these conversations of a file."""
    for conversation in conversations:
        own = f"{where}: {conversation.key}" if conversation.key else where
        yield from conversation.found(own, options)


def _read(form: _Form, where: str, fields: Mapping[str, Any], options: Options) -> Iterator[Found]:
    if form.read is not None:
        yield from found(where, form.read(fields, options), options)
    elif form.begin is not None:
        begun = form.begin(fields, options)
        for message in fields["messages"]:
            messengers.add(begun, message)
        yield from found(where, iter([begun.made]), options)


def _fitting(fields: Mapping[str, Any]) -> _Form | None:
    return next((form for form in _FORMS if not form.lacks(fields)), None)


def _nearest(fields: Mapping[str, Any]) -> str:
    """What a conversation of nobody lacks to be somebody's."""
    nearest = max((*_FORMS, _ACCOUNT), key=lambda form: form.likeness(fields))
    if nearest.likeness(fields):
        return f"looks like {nearest.name}, but has {nearest.lacks(fields)}"
    return "is not an export; 'backscroll migrate' takes over a folder of sessions"


def _nobodys(name: str) -> InvalidInputError:
    return InvalidInputError("file", f"{name} {_nearest({})}")
