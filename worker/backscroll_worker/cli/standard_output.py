"""Standard output that says what is wrong with it, whoever writes there: click, rich or a command.

An OSError that comes up from there looks like any other, and each of these writers has a way of its
own to end on a closed pipe. So an error of ours is raised where all of them end, at the descriptor.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from backscroll_worker.ops.exit_codes import OutputClosedError, OutputError


class _Descriptor(io.FileIO):
    """Writes until it fails once."""

    _has_failed = False

    def write(self, data: Any, /) -> int:
        if self._has_failed:  # what is left in buffers when the program ends has nowhere to go
            return len(data)
        try:
            return super().write(data)
        except OSError as error:
            self._has_failed = True
            raise output_error("standard output", error) from None


def output_error(stream: str, error: OSError) -> OutputError:
    """Our error for what went wrong with a stream."""
    kind = OutputClosedError if isinstance(error, BrokenPipeError) else OutputError
    return kind(f"{stream}: {error.strerror or error}")


@contextmanager
def checked_output() -> Iterator[None]:
    """Have whatever is written to standard output arrive, or raise `OutputError`."""
    given = sys.stdout
    if given is not sys.__stdout__:  # somebody has put another in its place, and looks after it
        yield
        return
    if given is None:  # closed by the shell: writing is an error then, and only that
        raw = _Descriptor(os.open(os.devnull, os.O_RDONLY), "wb")
    else:
        raw = _Descriptor(given.fileno(), "wb", closefd=False)
    out = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(given, "encoding", "utf-8"),
        errors="backslashreplace",  # a terminal that knows only ASCII shows what it can
        line_buffering=True,
    )
    with redirect_stdout(out):
        try:
            yield
        finally:
            out.flush()
