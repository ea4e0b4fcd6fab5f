"""Runs processes side by side, shows their output, and restarts those that end.

A process that ends soon after its start is restarted with increasing delay, up to half a minute.
One that ends because of unusable settings is not restarted, as with the systemd units.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.ops.server import RunningServer

_FIRST_WAIT_SECONDS: Final = 0.5
_LONGEST_WAIT_SECONDS: Final = 30.0
_STEADY_SECONDS: Final = 10.0
"""A process that ran for this long is restarted without delay."""

_LOOK_SECONDS: Final = 0.5
_STOP_SECONDS: Final = 60.0
_STOPS: Final = (signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class Restarts:
    """When a process that has ended is to be restarted."""

    quick_ends: int = 0
    started_at: float = field(default_factory=time.monotonic)
    due: float | None = None

    def begin(self) -> None:
        self.started_at, self.due = time.monotonic(), None

    def schedule(self) -> float:
        """Note that it has ended; returns the seconds until it is restarted."""
        now = time.monotonic()
        self.quick_ends = 0 if now - self.started_at > _STEADY_SECONDS else self.quick_ends + 1
        doubled = _FIRST_WAIT_SECONDS * 2.0 ** max(0, self.quick_ends - 1)
        wait = min(doubled, _LONGEST_WAIT_SECONDS)
        self.due = now + wait
        return wait

    @property
    def is_due(self) -> bool:
        return self.due is not None and time.monotonic() >= self.due


@dataclass(slots=True)
class Part:
    """One supervised process, started by `command`."""

    name: str
    command: str
    is_essential: bool
    process: subprocess.Popen[str] | None = None
    restarts: Restarts = field(default_factory=Restarts)


class Supervisor:
    """Keeps `parts` running, and the embedded server, until a signal comes."""

    def __init__(self, parts: Iterable[Part], environ: Mapping[str, str]) -> None:
        self._parts = list(parts)
        self._environ = dict(environ)
        self._events: SimpleQueue[Part | None] = SimpleQueue()  # None: stop
        self._output = threading.Lock()
        self._server_restarts = Restarts()

    def run(self, server: RunningServer) -> int:
        """Run until the end; returns the exit code: 0, or that of an essential part."""
        before = [signal.signal(number, lambda *_: self._events.put(None)) for number in _STOPS]
        try:
            return self._run(server)
        finally:
            for number, handler in zip(_STOPS, before, strict=True):
                signal.signal(number, handler)

    def _run(self, server: RunningServer) -> int:
        code = None
        try:
            for part in self._parts:
                self._start(part)
            while code is None:
                with suppress(Empty):
                    ended = self._events.get(timeout=_LOOK_SECONDS)
                    code = 0 if ended is None else self._note_end(ended)
                self._start_what_is_due(server)
        finally:
            self._stop()
        return code

    def _start(self, part: Part) -> None:
        part.restarts.begin()
        try:
            part.process = process = self._launch(part)
        except OSError as error:  # no memory, or the program file is being replaced
            wait = part.restarts.schedule()
            self._say(part.name, f"cannot be started: {error}; next try in {wait:g} s")
            return
        self._say(part.name, f"started (pid={process.pid})")
        threading.Thread(target=self._watch, args=(part, process), daemon=True).start()

    def _launch(self, part: Part) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 - our own commands
            part.command.split(),
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches only us, and we pass it on once
            text=True,
            errors="replace",
        )

    def _watch(self, part: Part, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            self._say(part.name, line.rstrip("\n"))
        process.wait()
        self._events.put(part)

    def _note_end(self, part: Part) -> int | None:
        """Report how it ended; returns the exit code to end with if the part is essential."""
        code = None if part.process is None else part.process.returncode
        part.process = None
        self._say(part.name, f"stopped (rc={code})")
        if code == ExitCode.USAGE:
            self._say(part.name, "not restarted: its settings are unusable")
            return code if part.is_essential else None
        wait = part.restarts.schedule()
        self._say(part.name, f"restart in {wait:g} s")
        return None

    def _start_what_is_due(self, server: RunningServer) -> None:
        self._look_after(server)
        for part in self._parts:
            if part.process is None and part.restarts.is_due:
                self._start(part)

    def _look_after(self, server: RunningServer) -> None:
        """Restart the server; the other parts wait for it by themselves."""
        restarts = self._server_restarts
        if restarts.due is None and server.has_ended():
            self._say("server", f"stopped; restart in {restarts.schedule():g} s")
        if restarts.is_due:
            try:
                server.start_again()
            except Exception as error:  # the next try may succeed
                self._say("server", f"{error}; next try in {restarts.schedule():g} s")
            else:
                restarts.begin()
                self._say("server", "started")

    def _stop(self) -> None:
        """Stop all parts: jobs in flight are finished, unless a second signal comes."""
        running = [part for part in self._parts if part.process is not None]
        _signal(running, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while running:
            ended: Part | None = None
            with suppress(Empty):
                ended = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            if ended is None:
                _signal(running, signal.SIGKILL)
                deadline = time.monotonic() + _STOP_SECONDS
            elif ended.process is not None:
                self._say(ended.name, f"stopped (rc={ended.process.returncode})")
                running.remove(ended)

    def _say(self, name: str, text: str) -> None:
        """Write a line to standard error; if that was closed, stop everything."""
        with self._output:
            try:
                sys.stderr.write(f"{time.strftime('%H:%M:%S')} {name:<9} | {text}\n")
                sys.stderr.flush()
            except BrokenPipeError:
                sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
                self._events.put(None)


def _signal(parts: Iterable[Part], number: signal.Signals) -> None:
    for part in parts:
        if part.process is not None and part.process.poll() is None:
            part.process.send_signal(number)
