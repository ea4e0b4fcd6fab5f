"""Standard output whose write errors can be recognized: click, rich and commands write to it.

An OSError from standard output looks like any other, and each of these writers handles a closed
pipe in its own way. So the file descriptor that all of them write to raises our own error.
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
    """A file descriptor that discards all writes after the first failure."""

    _has_failed = False

    def write(self, data: Any, /) -> int:
        if self._has_failed:  # buffers are flushed again when the program exits
            return len(data)
        try:
            return super().write(data)
        except OSError as error:
            self._has_failed = True
            raise output_error("standard output", error) from None


def output_error(stream: str, error: OSError) -> OutputError:
    """Our error for an error of a stream."""
    kind = OutputClosedError if isinstance(error, BrokenPipeError) else OutputError
    return kind(f"{stream}: {error.strerror or error}")


@contextmanager
def checked_output() -> Iterator[None]:
    """Make every write to standard output succeed or raise `OutputError`."""
    given = sys.stdout
    if given is not sys.__stdout__:  # replaced by the caller, who handles errors
        yield
        return
    if given is None:  # closed by the shell: then writing is an error, nothing else is
        raw = _Descriptor(os.open(os.devnull, os.O_RDONLY), "wb")
    else:
        raw = _Descriptor(given.fileno(), "wb", closefd=False)
    out = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(given, "encoding", "utf-8"),
        errors="backslashreplace",  # for a terminal that knows only ASCII
        line_buffering=True,
    )
    with redirect_stdout(out):
        try:
            yield
        finally:
            out.flush()
