"""WhatsApp's `_chat.txt`: a line a message, in the form of the phone's language.

    [31.12.23, 18:05:09] Ada: Happy new year        iOS, German
    [31.12.2023 klo 18.05.09] Ada: Happy new year   iOS, Finnish
    31/12/2023, 18:05 - Ada: Happy new year         Android, British
    12/31/23, 6:05 PM - Ada: Happy new year         Android, American
    [2023. 12. 31. 오후 6:05:09] Ada: Happy new year   iOS, Korean

Further lines of a message have no time. Which number is the day follows from the whole file: one of
them is larger than 12 somewhere, or the days would not be in order.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from backscroll.channels.message import file
from backscroll.channels.values import name as shown
from backscroll.contract.errors import InvalidInputError
from backscroll.contract.message_checks import MAX_OPERATION_BYTES
from backscroll_worker.transfer.chats.conversation import Conversation, Options
from backscroll_worker.transfer.source import STANDARD_INPUT_NAME

_MARKS: Final = dict.fromkeys(map(ord, "\u200e\u200f\u202a\u202b\u202c\ufeff"))
_MARK: Final = "\u200e"
_MORNING: Final = (
    "am",
    "上午",
    "凌晨",
    "清晨",
    "早上",
    "오전",
    "午前",
    "ص",
    "πμ",
    "öö",
    "de",
    "pg",
)
_AFTERNOON: Final = ("pm", "下午", "中午", "晚上", "오후", "午後", "م", "μμ", "ös", "du", "ptg")
_SPELLED: Final = "|".join(r"\.?\s?".join(half) + r"\.?" for half in (*_MORNING, *_AFTERNOON))
_HALVES: Final = f"(?i:{_SPELLED})"
_BETWEEN: Final = r"[\u200e\u200f]?[./-][\u200e\u200f]? ?"
_LINE: Final = re.compile(
    rf"[\u200e\u200f\ufeff]*\[?(?P<a>\d{{1,4}}){_BETWEEN}(?P<b>\d{{1,2}}){_BETWEEN}(?P<c>\d{{1,4}})"
    r"\.?(?:\sг\.)?[,،]?[\u200e\u200f]?\s+(?:(?:klo|kl\.|um|at|à)\s)?"
    rf"(?:(?P<before>{_HALVES})\s*)?"
    r"(?P<hour>\d{1,2})(?:[:.]|\sh\s)(?P<minute>\d\d)(?:[:.](?P<second>\d\d))?"
    rf"\s*(?P<after>{_HALVES})?(?:\]| -)\s(?P<rest>.*)",
    re.DOTALL,
)
_NEARLY: Final = re.compile(
    r"\W*\d{1,4}\D{1,4}\d{1,2}\D{1,4}\d{1,4}\D.{0,20}\d.{0,20}(?:\]| - )[^:]{1,120}: "
    r"|\W*\d{1,2}[:.]\d\d\D.{0,20}\d.{0,20}(?:\]| - )[^:]{1,120}: "
)
_AUTHOR: Final = re.compile(r"(?P<name>[^:\n]{1,120}?): (?P<text>.*)", re.DOTALL)
_FILE_ATTACHED: Final = (
    "file attached|Datei angehängt|archivo adjunto|fichier joint|file allegato|arquivo anexado"
    "|ficheiro anexado|bestand bijgevoegd|bifogad fil|файл добавлен|dosya ekli|文件附件|الملف مرفق"
)
_ATTACHED: Final = re.compile(  # with what is said of it before it on iOS, below it on Android
    r"(?:(?P<above>.*)\u200e)?<[^<>:]{2,30}: (?P<name>[^<>]+)>"
    rf"|(?P<file>[^\n]+\.\w{{2,4}}(?= \((?:{_FILE_ATTACHED})\))|\w{{3}}-\d{{8}}-WA\d+\.\w{{2,4}})"
    r" \([^()\n]+\)(?:\n(?P<below>.*))?"
    r"|(?P<other>\S+\.\w{2,4}) \([^()]+\)",
    re.DOTALL,
)
_TITLE: Final = re.compile(
    r"(?i)^(?:whatsapp[ -]chat(?: with| mit| met| -)?|chat (?:de )?whatsapp con"
    r"|conversa do whatsapp com|discussion whatsapp avec) "
)
_ORDERS: Final = ("dmy", "mdy", "ymd")
_FIRST_LINES: Final = 20
_BUDDHIST: Final = 543
"""By how much the years of Thai phones are larger."""
_EVENTS: Final = "events, such as who joined, and files that the export does not have"


class _Line(NamedTuple):
    numbers: tuple[int, int, int]
    hour: int
    minute: int
    second: int
    rest: str


def is_whatsapp(head: bytes) -> bool:
    """Whether a text begins as a chat of WhatsApp does; something else may be before it."""
    lines = head.decode("utf-8", "replace").split("\n")[:_FIRST_LINES]
    return any(_LINE.match(line) for line in (lines[:1] if head.startswith(b"[") else lines))


def is_nearly_whatsapp(head: bytes) -> bool:
    """Whether a text begins with a time and a name, though not in a form that is known."""
    return _NEARLY.match(head.decode("utf-8", "replace").split("\n")[0]) is not None


def whatsapp(lines: Iterable[str], name: str, options: Options) -> Iterator[Conversation]:
    """The chat in a file of that name; raises `InvalidInputError` if its dates cannot be read."""
    entries = list(_entries(lines))
    order = _order(name, [entry.numbers for entry in entries], options.dates)
    chat = _chat_name(name)
    made = Conversation(options.key("whatsapp", shown(chat) or "chat"), name=chat or None)
    if name == STANDARD_INPUT_NAME:
        made.key = ""  # or all that come from there would be one session
    made.channel = "whatsapp"
    at: datetime | None = None
    for entry in entries:
        at = _moment(entry, order, options, at) or at
        spoken = _AUTHOR.fullmatch(entry.rest)
        said = "" if spoken is None else spoken["text"].lstrip(_MARK)
        found = _ATTACHED.fullmatch(said) if "(" in said or "<" in said else None
        if spoken is None or (found is None and _is_event(spoken["name"], spoken["text"])):
            made.not_kept[_EVENTS] += 1
            continue
        who = spoken["name"].translate(_MARKS)
        caption = (found["above"] or found["below"] or "") if found else said
        made.add(
            options.role_of(who),
            caption.replace(_MARK, "").strip() if found else caption,
            at,
            author=who,
            author_name=who,
            attachments=[file(name_=found["name"] or found["file"] or found["other"])]
            if found
            else (),
        )
    yield made


def _is_event(name: str, said: str) -> bool:
    """Whether the program itself says this, or has it in the place of a file.

    It has a mark before it on iOS, as have polls, which have several lines, and places, which have
    an address. On Android it has no author; a colon may be in the name of a group, in quotes.
    """
    if name.count('"') % 2 or name.count("“") > name.count("”"):
        return True
    return said.startswith(_MARK) and "\n" not in said and "://" not in said


def _entries(lines: Iterable[str]) -> Iterator[_Line]:
    """The messages, each with all of its lines."""
    begun: _Line | None = None
    more, size = list[str](), 0
    for raw in lines:
        said = raw.rstrip("\r\n")
        found = _LINE.fullmatch(said)
        if found is None:
            size += len(said)
            if begun is not None and size <= 2 * MAX_OPERATION_BYTES:  # or it is refused anyway
                more.append(said)
            continue
        if begun is not None:
            yield begun._replace(rest="\n".join([begun.rest, *more]))
        begun, more, size = _begun(found), [], 0
    if begun is not None:
        yield begun._replace(rest="\n".join([begun.rest, *more]))


def _begun(found: re.Match[str]) -> _Line:
    hour = int(found["hour"])
    if half := re.sub(r"[.\s]", "", found["before"] or found["after"] or "").lower():
        hour = hour % 12 + (12 if half in _AFTERNOON else 0)
    numbers = int(found["a"]), int(found["b"]), int(found["c"])
    return _Line(numbers, hour, int(found["minute"]), int(found["second"] or 0), found["rest"])


def _order(name: str, dates: list[tuple[int, int, int]], given: str | None) -> str:
    """Which of the numbers are day, month and year: the only order in which all dates are."""
    orders = _ORDERS if given is None else (given,)
    fitting = [order for order in orders if all(_date(each, order) for each in dates)]
    in_turn = [order for order in fitting if _is_sorted([_date(each, order) for each in dates])]
    fitting = in_turn or fitting
    if not fitting:
        which = f"the order {given}" if given else "any order of day and month"
        raise InvalidInputError("file", f"{name} has dates that cannot be read in {which}")
    if any(len({_date(each, order) for order in fitting}) > 1 for each in dates):
        raise InvalidInputError(
            "file",
            f"{name} has dates that do not say which number is the day; give --dates dmy or mdy",
        )
    return fitting[0]


def _date(numbers: tuple[int, int, int], order: str) -> datetime | None:
    named = dict(zip(order, numbers, strict=True))
    if (numbers[0] > 31) != (order == "ymd"):
        return None  # a year that comes first has four digits
    year = named["y"] + (2000 if named["y"] < 100 else 0)
    year -= _BUDDHIST if year > _BUDDHIST + 2000 else 0
    try:
        return datetime(year, named["m"], named["d"]) if 2009 <= year < 2200 else None
    except ValueError:
        return None


def _is_sorted(dates: list[datetime | None]) -> bool:
    known = [each for each in dates if each is not None]
    return all(one <= other for one, other in itertools.pairwise(known))


def _moment(entry: _Line, order: str, options: Options, after: datetime | None) -> datetime | None:
    day = _date(entry.numbers, order)
    if day is None or entry.hour > 23 or entry.minute > 59 or entry.second > 59:
        return None
    local = day.replace(hour=entry.hour, minute=entry.minute, second=entry.second)
    return options.in_zone(local, after)


def _chat_name(name: str) -> str:
    """Whom a chat is with, as the names of exports have it.

    All exports of iOS have the same name: those from several folders are not one session.
    """
    path = Path(name).absolute()
    own = path.parent.name if path.stem == "_chat" else path.stem
    own = own.removesuffix(".zip")
    return _TITLE.sub("", own).strip()
