"""Output of the commands: tables and lines for people, one JSON document for programs.

Text from users never reaches a terminal unchanged: a control character could clear the screen or
forge a line. Each becomes one visible character, so that offsets of marks in a text remain valid.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click
import orjson
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from backscroll import ChatMessage
from backscroll_worker.transfer.text import speaker

C = TypeVar("C", bound=Callable[..., Any])

Row = Sequence[str | Text]

# Wider than any row, so that nothing is cut where a program reads.
_PIPED_WIDTH: Final = 20_000
_UNKNOWN_WIDTH: Final = 80

_READABLE_WIDTH: Final = 16
"""The width below which a column that wraps over many lines is hard to read."""

_C1_AND_BIDI: Final = (
    *range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F, 0x2028, 0x2029,
    *range(0x202A, 0x202F), *range(0x2066, 0x206A),
)  # fmt: skip
_VISIBLE: Final = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"},
    **dict.fromkeys(_C1_AND_BIDI, "\ufffd"),
}
_ONE_LINE: Final = {**_VISIBLE, ord("\n"): " ", ord("\t"): " "}
# JSON escapes what is below a space; a terminal obeys some other characters too.
_JSON_ESCAPES: Final = {code: f"\\u{code:04x}" for code in _C1_AND_BIDI}

json_option: Callable[[C], C] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document."
)


def printable(text: str) -> str:
    """`text` without characters a terminal would obey; line breaks and tabs are kept."""
    return text.translate(_VISIBLE)


def one_line(text: str) -> str:
    """As `printable`, but on a single line; the length does not change."""
    return text.translate(_ONE_LINE)


def cell(text: str | None, style: str = "") -> Text:
    """User text for a table; it wraps where a terminal is too narrow."""
    return Text(one_line(text or ""), style=style, overflow="fold")


def print_json(document: Any) -> None:
    """One document on standard output; times become ISO 8601 in UTC."""
    options = orjson.OPT_UTC_Z | orjson.OPT_INDENT_2
    try:
        data = orjson.dumps(document, option=options)
    except TypeError:
        data = orjson.dumps(_in_utf8(document), option=options)
    click.echo(data.decode().translate(_JSON_ESCAPES).encode())


def _in_utf8(document: Any) -> Any:
    """The document with file names that are not UTF-8 escaped."""
    if isinstance(document, str):
        return document.encode(errors="backslashreplace").decode()
    if isinstance(document, dict):
        return {name: _in_utf8(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [_in_utf8(value) for value in document]
    return _in_utf8(asdict(document)) if is_dataclass(document) else document  # type: ignore[arg-type]


def for_terminal(chunk: bytes, *, is_json: bool) -> bytes:
    """Part of a document, made safe for a terminal; in JSON by escapes that mean the same."""
    text = chunk.decode()
    return text.translate(_JSON_ESCAPES if is_json else _VISIBLE).encode()


def console() -> Console:
    """Standard output for people: as wide as the terminal, or as the text when it is piped."""
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    out = Console(width=width, markup=False, highlight=False, emoji=False)
    if out.width < 1:  # COLUMNS=0, and rich would print nothing
        out.width = _UNKNOWN_WIDTH
    return out


def table(
    columns: Sequence[str],
    rows: Sequence[Row],
    *,
    right: Sequence[str] = (),
    folded: Sequence[str] = (),
) -> Table:
    """A table without empty columns; only the `folded` ones may be narrowed."""
    result = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    used = _used(columns, rows)
    for place in used:
        name = columns[place]
        justify: JustifyMethod = "right" if name in right else "left"
        is_folded = name in folded
        result.add_column(name, justify=justify, no_wrap=not is_folded, overflow="fold")
    for row in rows:
        result.add_row(*(row[place] for place in used))
    return result


def show_table(
    columns: Sequence[str],
    rows: Sequence[Row],
    *,
    right: Sequence[str] = (),
    folded: Sequence[str] = (),
) -> None:
    """Print a table; where the terminal is too narrow, print each row as a block of lines."""
    out = console()
    if _least_width(columns, rows, folded) <= out.width:
        out.print(table(columns, rows, right=right, folded=folded))
        return
    for first, *others in rows:
        out.print(first, soft_wrap=True)
        named = zip(columns[1:], map(str, others), strict=True)
        facts = [f"{name} {text}" if name in right else text for name, text in named if text]
        out.print(Text("  ".join(["", *facts])), soft_wrap=True)


def _used(columns: Sequence[str], rows: Sequence[Row]) -> list[int]:
    return [place for place in range(len(columns)) if any(str(row[place]) for row in rows)]


def _least_width(columns: Sequence[str], rows: Sequence[Row], folded: Sequence[str]) -> int:
    """The width at which a table is easy to read."""
    width = 0
    for place in _used(columns, rows):
        widest = max(
            cell_len(text) for text in (columns[place], *(str(row[place]) for row in rows))
        )
        width += 2 + (min(widest, _READABLE_WIDTH) if columns[place] in folded else widest)
    return width


def note(text: str) -> None:
    """Print a line on standard error, so that it never gets into a document."""
    click.echo(f"backscroll: {one_line(text)}", err=True)


class Bar:
    """Shows on a terminal's standard error how far something has come, until it is over."""

    def __init__(self, progress: Progress, doing: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(doing, total=total)
        self._total = total or 0

    def show(self, done: int, total: int) -> None:
        """`done` of `total` is done."""
        self._progress.update(self._task, completed=done, total=total)

    def advance(self, count: int) -> None:
        """`count` more is done."""
        self._progress.advance(self._task, count)

    def expect(self, count: int) -> None:
        """`count` more is to be done."""
        self._total += count
        self._progress.update(self._task, total=self._total)


@contextmanager
def progress_bar(doing: str, total: int | None = None, *, is_shown: bool = True) -> Iterator[Bar]:
    """A bar, which shows nothing where standard error is not a terminal."""
    errors = Console(stderr=True)
    is_shown = is_shown and errors.is_terminal
    with Progress(console=errors, transient=True, disable=not is_shown) as progress:
        yield Bar(progress, doing, total)


def who(message: ChatMessage, style: str) -> list[Text]:
    """The speaker's name and the role, or the role alone where nobody knows who spoke."""
    name, role = speaker(message), one_line(message.role)
    if name is None:
        return [Text(role, style=style)]
    return [Text(one_line(name), style=style), Text(f"({role})")]


def local_time(moment: datetime | None, *, seconds: bool = True) -> str:
    """`moment` in local time."""
    if moment is None:
        return ""
    form = "%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M"
    try:
        return moment.astimezone().strftime(form)
    except OverflowError:  # the first and the last day a datetime can hold
        return moment.astimezone(UTC).strftime(f"{form}Z")


def duration(seconds: float | None) -> str:
    """A length of time in a suitable unit."""
    if seconds is None:
        return ""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def counted(count: int, noun: str) -> str:
    """ "1 message", "2 messages"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
