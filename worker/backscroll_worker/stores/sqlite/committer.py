"""A thread for the two long SQLite calls that end a group, which release Python's lock."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait


class Committer:
    """Runs the end of a group in a thread of its own, while the caller does something else.

    Meanwhile the connection belongs to the thread: call `wait` before using it.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="commit")
        # Start the thread now: a Ctrl-C during a later start would make the pool start another.
        self._threads.submit(lambda: None).result()

    def run(self, commit: Callable[[], None], meanwhile: Callable[[], None] | None) -> None:
        """Call both, and return when both have returned; raises what either raises."""
        if meanwhile is None:
            commit()
            return
        committing = self._threads.submit(commit)
        meanwhile()
        committing.result()

    def wait(self) -> None:
        """Wait until the thread is idle, even if a Ctrl-C interrupts the wait."""
        is_idle: Future[None] | None = None
        while is_idle is None or not is_idle.done():
            try:
                is_idle = is_idle or self._threads.submit(lambda: None)
                wait([is_idle])
            except RuntimeError:
                return  # it has ended
            except BaseException:  # noqa: S112 - another exception is already being raised
                continue

    def close(self) -> None:
        """End the thread."""
        self._threads.shutdown()
