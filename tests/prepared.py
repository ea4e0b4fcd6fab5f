"""`backscroll` as a process that starts at once: forked from one that has imported everything.

To import takes longer than what most tests ask of it. That it starts from nothing, too, is shown by
the tests of `up`, of the demo and of the documents, which start it as a user does.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_REQUEST_BYTES: Final = 1 << 17
_IMPORTED_LATE: Final = (
    "flask",
    "rq_dashboard",
    "waitress",
    "backscroll_worker.ops.dashboard",
    "backscroll_worker.loop.worker",
    "backscroll_worker.maintenance.scheduler",
)
"""What the commands import when they are run."""
_ROOT: Final = Path(__file__).parent.parent


class Prepared(subprocess.Popen[bytes]):
    """`python ARGUMENTS`, to be treated like a process that was started in any other way.

    They are `-c PROGRAM ...`, or those of `backscroll`.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], output: int
    ) -> None:
        # The base class would start a program; what it knows of one is set here instead.
        self._child_created = False
        self.args = list(arguments)
        self.stdin = self.stdout = self.stderr = None
        self.returncode: Any = None
        self._keeper, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = json.dumps([self.args, str(Path.cwd()), dict(environment)]).encode()
        with theirs, Path(os.devnull).open("rb") as nothing:
            descriptors = [theirs.fileno(), nothing.fileno(), output, output]
            socket.send_fds(_prepared()[0], [request], descriptors)
        self.pid = int(self._keeper.recv(16))

    def wait(self, timeout: float | None = None) -> int:
        """As of any process."""
        if self.returncode is None:
            self._keeper.settimeout(timeout)
            try:
                self.returncode = int(self._keeper.recv(16))
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._keeper.close()
        return int(self.returncode)

    def poll(self) -> int | None:
        """As of any process."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None


@functools.cache
def _prepared() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Where to ask for a process, and the one that it is forked from, which ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = [sys.executable, "-u", "-m", "tests.prepared"]
    with theirs:
        return ours, subprocess.Popen(program, stdin=theirs.fileno(), cwd=_ROOT)


def _next_arguments(requests: socket.socket) -> list[str]:
    """Fork for each request; returns, in the new process only, what it is to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a keeper ended
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 4)
        if not request:
            sys.exit()
        if os.fork() == 0:
            _keep(*descriptors)
            return _become(*json.loads(request))
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(report: int, *streams: int) -> None:
    """Fork once more, and report which process that is and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid:
        for stream in (*streams, 0):
            os.close(stream)
        os.write(report, b"%d" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(report, b"%d" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.close(report)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)


def _become(arguments: list[str], directory: str, environment: dict[str, str]) -> list[str]:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    return arguments


if __name__ == "__main__":
    for module in _IMPORTED_LATE:
        importlib.import_module(module)
    from backscroll_worker.cli import main

    with socket.socket(fileno=os.dup(0)) as listening:
        sys.argv = ["backscroll", *_next_arguments(listening)]
    if sys.argv[1] == "-c":
        sys.argv[:3], program = ["-c"], sys.argv[2]
        exec(program, {"__name__": "__main__"})  # noqa: S102
    else:
        main(prog_name="backscroll")
