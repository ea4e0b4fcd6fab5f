"""A transcript in Markdown (CommonMark).

Messages stand in block quotes, so that their text cannot pass for a heading or for another message.
Their emphasis, lists, code spans and code blocks are kept. Nothing in them acts: there is no HTML,
no link or image except a plain address, and no definition that another message's text could use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from backscroll.contract.messages import ChatMessage
from backscroll_worker.transfer.sessions import ExportedSession
from backscroll_worker.transfer.text import (
    Block,
    attached,
    blocks,
    clock,
    day,
    speaker,
    stamp,
    visible,
    who_and_where,
)

_BACKTICKS: Final = re.compile("`+")
_TILDES: Final = re.compile("~{3,}")
_ENTITY: Final = re.compile(r"&(?=#?[0-9A-Za-z]+;)")
# Some renderers know fewer backslash escapes than CommonMark; an entity is text in all of them.
_NAMED: Final = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_ENTITIES: Final = {ord(mark): _NAMED.get(mark, f"&#{ord(mark)};") for mark in "\\<>[]!|~&"}
# Braces give attributes to what is before them (kramdown, Python-Markdown), make it HTML (pandoc's
# {=html}), include files (GitLab) and are run as templates (Jekyll, VitePress).
_BRACES: Final = {ord(mark): f"&#{ord(mark)};" for mark in "{}"}
_IN_TEXT: Final = {**{ord(mark): _ENTITIES[ord(mark)] for mark in "\\<[]"}, **_BRACES}
_LITERAL: Final = {**_ENTITIES, **_BRACES, **{ord(mark): f"\\{mark}" for mark in "`*_()#+-."}}
_NOT_IN_CODE: Final = ("\\", "|", "{{", "{%")
# Languages to be coloured, and nothing else: viewers draw mermaid and maps, load what PlantUML
# includes, and run dataviewjs.
_LANGUAGES: Final = frozenset(
    ("bash", "c", "c#", "c++", "clojure", "cmake", "console", "cpp", "cs", "csharp", "css", "csv",
    "dart", "diff", "docker", "dockerfile", "elixir", "erlang", "f#", "fsharp", "go", "graphql",
    "groovy", "haskell", "hcl", "html", "http", "ini", "java", "javascript", "js", "json",
    "json5", "jsonc", "jsonl", "jsx", "julia", "kotlin", "kt", "less", "lisp", "log", "lua",
    "make", "makefile", "markdown", "matlab", "md", "nginx", "nix", "objective-c", "objectivec",
    "ocaml", "pascal", "patch", "perl", "php", "plaintext", "powershell", "prolog", "properties",
    "proto", "protobuf", "ps1", "py", "python", "python3", "r", "rb", "rs", "ruby", "rust",
    "sass", "scala", "scheme", "scss", "sh", "shell", "sql", "swift", "terraform", "text", "toml",
    "ts", "tsx", "txt", "typescript", "vb", "vim", "vue", "xml", "yaml", "yml", "zig", "zsh")
)  # fmt: skip


def markdown(sessions: Iterable[ExportedSession]) -> Iterator[bytes]:
    """One document with all sessions."""
    separator = ""
    for session in sessions:
        yield f"{separator}{_header(session)}".encode()
        today = ""
        for message in session.messages:
            if message.created_at is not None and (its_day := day(message.created_at)) != today:
                today = its_day
                yield f"\n## {today}\n".encode()
            yield _message(message).encode()
        separator = "\n---\n\n"


def _header(session: ExportedSession) -> str:
    info, (began, ended) = session.info, session.times
    facts = "".join([f"- {name}: {_literal(value)}\n" for name, value in who_and_where(info)])
    return (
        f"# {_literal(info.name or info.key)}\n\n{facts}"
        f"- from {stamp(began)} to {stamp(ended)}\n"
        f"- messages: {info.message_count:,}{', pinned' if info.pinned else ''}\n"
    )


def _message(message: ChatMessage) -> str:
    name, role = speaker(message), _literal(message.role)
    remarks = [f"**{role}**" if name is None else f"**{_literal(name)}** ({role})"]
    if message.created_at is not None:
        remarks.append(clock(message.created_at))
    if message.edits:
        remarks.append(f"edited {stamp(message.edits[-1].replaced_at)}")
    parts = [_block(block) for block in blocks(message.content)]
    parts += [f"{_literal(label)}  " for label in attached(message)]
    body = "\n".join(parts) or "*(empty)*"
    quoted = "\n".join(f"> {line}" if line else ">" for line in body.split("\n"))
    return f"\n{' · '.join(remarks)}\n\n{quoted}\n"


def _block(block: Block) -> str:
    if not block.is_code:
        # Two spaces keep a line break, as it was meant in a chat.
        lines = [f"{_line(line)}  " if line.strip() else "" for line in block.text.split("\n")]
        return "\n".join(lines).removesuffix("  ")
    longest = max((len(run) for run in _BACKTICKS.findall(block.text)), default=0)
    fence = "`" * max(3, longest + 1)  # so that nothing in it ends it
    language = block.language if block.language.lower() in _LANGUAGES else ""
    return f"{fence}{language}\n{block.text}\n{fence}"


def _line(line: str) -> str:
    """A line of text in which nothing acts.

    A code span stays as it is, but only where every renderer sees that span: runs of backticks come
    in pairs, none opens a code block, and no backslash, table cell, template or address before it
    consumes one.
    """
    runs = list(_BACKTICKS.finditer(line))
    pairs = list(zip(runs[::2], runs[1::2], strict=False))
    is_doubtful = (
        len(runs) % 2
        or any(len(first[0]) != len(last[0]) or len(first[0]) > 2 for first, last in pairs)
        or any(marks in line for marks in _NOT_IN_CODE)
        or any(map(_ends_with_address, _between(line, pairs)))
    )
    if is_doubtful:
        return _text(line).replace("`", "&#96;")
    parts, end = [], 0
    for first, last in pairs:
        parts += [_text(line[end : first.start()]), line[first.start() : last.end()]]
        end = last.end()
    return "".join([*parts, _text(line[end:])])


def _between(line: str, pairs: list[tuple[re.Match[str], re.Match[str]]]) -> Iterator[str]:
    """The text before each of the code spans."""
    end = 0
    for first, last in pairs:
        yield line[end : first.start()]
        end = last.end()


def _ends_with_address(text: str) -> bool:
    """Whether some renderers may make a link of the last word, and of what follows it."""
    word = text[max(map(text.rfind, " \t")) + 1 :]
    return any(mark in word for mark in ":.@")


def _text(text: str) -> str:
    shown = _ENTITY.sub("&amp;", text).translate(_IN_TEXT)
    return _TILDES.sub(lambda run: "&#126;" * len(run[0]), shown)  # they would open a code block


def _literal(text: str) -> str:
    """Text as it is, without any Markdown."""
    shown = visible(text).replace("\n", " ").translate(_LITERAL)
    return shown.replace("://", "&#58;//")  # or some renderers make a link of it
