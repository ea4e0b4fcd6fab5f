"""A thread for the two long calls into SQLite that end a group; Python has time meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait


class Committer:
    """Runs what ends a group in a thread of its own, while the caller does something else.

    The connection is the thread's for as long: `wait` before anything else is done with it.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="commit")
        # It starts its thread now, as a Ctrl-C while it starts one makes it start another.
        self._threads.submit(lambda: None).result()

    def run(self, commit: Callable[[], None], meanwhile: Callable[[], None] | None) -> None:
        """Call both, and return when both have; raises what either raises."""
        if meanwhile is None:
            commit()
            return
        committing = self._threads.submit(commit)
        meanwhile()
        committing.result()

    def wait(self) -> None:
        """Until the thread has nothing to do, whatever comes in between: a Ctrl-C."""
        is_idle: Future[None] | None = None
        while is_idle is None or not is_idle.done():
            try:
                is_idle = is_idle or self._threads.submit(lambda: None)
                wait([is_idle])
            except RuntimeError:
                return  # it has ended
            except BaseException:  # noqa: S112 - one is on its way out already
                continue

    def close(self) -> None:
        """End the thread."""
        self._threads.shutdown()
