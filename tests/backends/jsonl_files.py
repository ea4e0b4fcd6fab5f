"""For tests of JSONL files: reading a directory, and filling one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson


def names(directory: Path) -> set[str]:
    """The files in it, but for the record of activity, which every store has."""
    return {path.name for path in directory.iterdir()} - {".activity"}


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def as_the_original_reads(path: Path) -> list[tuple[str, str]]:
    """A line with role and content is a message, any other is skipped."""
    return [
        (line["role"], line["content"])
        for line in lines(path)
        if {"role", "content"} <= line.keys()
    ]


def write_as_the_original(path: Path, *contents: str) -> None:
    path.write_text("".join(f'{{"role":"user","content":"{text}"}}\n' for text in contents))
