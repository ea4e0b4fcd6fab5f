"""`backscroll` as a process that starts at once: forked from one that has imported everything.

To import takes longer than what most tests ask of it. That it starts from nothing, too, is shown by
the tests of `up`, of the demo and of the documents, which start it as a user does. Other programs
that are written in Python start in the same way.
"""

from __future__ import annotations

import functools
import gc
import importlib
import inspect
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

_REQUEST_BYTES: Final = 1 << 17
_IMPORTED_LATE: Final = (
    "flask",
    "rq.cli",
    "rq_dashboard",
    "waitress",
    "backscroll_worker.ops.dashboard",
    "backscroll_worker.loop.worker",
    "backscroll_worker.maintenance.scheduler",
)
"""What the commands import when they are run."""
_PIPES: Final = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_ROOT: Final = Path(__file__).parent.parent


class Prepared(subprocess.Popen[Any]):
    """`python ARGUMENTS`, with the options of any other process but for `preexec_fn`.

    The arguments are `-c PROGRAM ...`, `-m MODULE ...`, or those of `backscroll`. Its standard
    input is empty unless one is given.
    """

    def __init__(self, arguments: Sequence[str], **options: Any) -> None:
        self._keeper, self._report = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        super().__init__(arguments, **{"stdin": subprocess.DEVNULL, **options})

    def _execute_child(self, arguments: Sequence[str], *options: Any) -> None:
        """What the base class starts a program by, once it has made the pipes."""
        names = inspect.signature(subprocess.Popen._execute_child).parameters  # type: ignore[attr-defined]
        given = dict(zip(names, (self, arguments, *options), strict=True))
        place, environment = given["cwd"] or str(Path.cwd()), dict(given["env"] or os.environ)
        request = (arguments, place, environment, given["umask"], given["start_new_session"])
        ends = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        streams = [number if end == -1 else end for number, end in enumerate(ends)]
        try:
            with self._report:
                descriptors = [self._report.fileno(), *streams]
                socket.send_fds(_prepared()[0], [json.dumps(request).encode()], descriptors)
        finally:
            self._close_pipe_fds(*(given[name] for name in _PIPES))  # type: ignore[attr-defined]
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


def run_prepared(
    *arguments: str, timeout: float = 100, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """As `subprocess.run`; both outputs are kept, as text, unless the options say otherwise."""
    kept = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with Prepared(arguments, **{**kept, **options}) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


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


def _become(
    arguments: list[str],
    directory: str,
    environment: dict[str, str],
    umask: int,
    is_leader: bool,
) -> list[str]:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # whoever asked first may have held some back
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    if umask >= 0:
        os.umask(umask)
    if is_leader:
        os.setsid()
    _open_streams()
    return arguments


def _open_streams() -> None:
    """As at a start: what they are now decides when their text is written out, and how."""
    encoding = os.environ.get("PYTHONIOENCODING")
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        before = getattr(sys, name)
        stream = os.fdopen(
            number,
            mode,
            buffering=1 if name == "stderr" else -1,
            encoding=encoding or before.encoding,
            errors=before.errors,
            closefd=False,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    for module in _IMPORTED_LATE:
        importlib.import_module(module)
    from backscroll_worker.cli import main

    gc.freeze()  # what is here already need not be looked through, nor copied, in each process
    with socket.socket(fileno=os.dup(0)) as listening:
        sys.argv = ["backscroll", *_next_arguments(listening)]
    if sys.argv[1] == "-c":
        sys.argv[:3], program = ["-c"], sys.argv[2]
        exec(program, {"__name__": "__main__"})  # noqa: S102
    elif sys.argv[1] == "-m":
        sys.argv[:3], program = ["-m"], sys.argv[2]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        main(prog_name="backscroll")
