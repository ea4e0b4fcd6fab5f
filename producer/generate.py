"""Writes the blocking `Producer`, `client*.py`, from `aio*.py`: nothing is written twice.

    python producer/generate.py [--check]

`await` goes; for a call of the plumbing, `await self._x(…)` becomes `run(self._x, …)`. Lines marked
`# asyncio` and paragraphs that begin with "On asyncio" stay out. With --check it only compares.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parent / "backscroll"
SOURCES: Final = sorted(PACKAGE.glob("aio*.py"))

_NOTE: Final = "# Made from {} by producer/generate.py, which `make lint` checks. Do not edit.\n"
_IMPORT: Final = "from backscroll.calls import run\n"
_NAMES: Final = {
    "AsyncProducer": "Producer", "AsyncMessages": "Messages", "AsyncSessions": "Sessions",
    "AsyncLifecycle": "Lifecycle", "AsyncChatHistory": "ChatHistory",
    "AsyncTurn": "Turn", "AsyncBox": "Box", "backscroll.aio": "backscroll.client",
    "__aenter__": "__enter__", "__aexit__": "__exit__",
}  # fmt: skip
_ASYNC_PARAGRAPH: Final = re.compile(r"(?ms)^ *On asyncio\b.*?(?:\n\n|\n(?= *\"\"\"))")

# A place in the source, how many characters go there, and what comes instead.
_Edit = tuple[int, int, str]


def blocking(source: Path) -> str:
    """The module, whose calls are awaited, with calls that block; formatted."""
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(line for line in lines if not line.endswith("  # asyncio\n"))
    text = _ASYNC_PARAGRAPH.sub("", text)
    for place, length, instead in sorted(_edits(text), reverse=True):
        text = text[:place] + instead + text[place + length :]
    for name, instead in _NAMES.items():
        text = text.replace(name, instead)
    opened = "from __future__ import annotations\n"
    text = text.replace(opened, f"{opened}\n{_IMPORT}", 1)
    made = _NOTE.format(source.name) + text
    return _ruff("format", _ruff("check", "--fix", "--select=F401,I", made))


def _edits(text: str) -> Iterator[_Edit]:
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    raw = text.encode()

    def place(line: int, column: int) -> int:
        return len(raw[: starts[line - 1] + column].decode())

    nodes = list(ast.walk(ast.parse(text)))
    ours = {node.name for node in nodes if isinstance(node, ast.AsyncFunctionDef)}
    for node in nodes:
        if isinstance(node, ast.AsyncFunctionDef):
            yield place(node.lineno, node.col_offset), len("async "), ""
        elif isinstance(node, ast.Await):
            call = node.value
            called = ast.unparse(call).partition("(")[0].rpartition(".")[2]
            is_plumbing = called.startswith("_") and called not in ours
            yield place(node.lineno, node.col_offset), len("await "), "run(" * is_plumbing
            if isinstance(call, ast.Call) and is_plumbing:
                end = place(call.func.end_lineno or 0, call.func.end_col_offset or 0)
                yield end, 1, ", " if call.args or call.keywords else ""


def _ruff(*arguments: str) -> str:
    *options, text = arguments
    command = [
        sys.executable,
        "-m",
        "ruff",
        *options,
        "--quiet",
        f"--stdin-filename={PACKAGE}/client.py",
        "-",
    ]
    return subprocess.run(  # noqa: S603 - the linter of this project
        command, input=text, capture_output=True, text=True, check=True
    ).stdout


def main(arguments: list[str]) -> str | None:
    """Write the files, or say that one differs from what would be written."""
    for source in SOURCES:
        target = source.with_name(source.name.replace("aio", "client"))
        text = blocking(source)
        if arguments != ["--check"]:
            target.write_text(text, encoding="utf-8")
        elif target.read_text(encoding="utf-8") != text:
            return f"edit {source.name}, not {target.name}, and run python producer/generate.py"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
