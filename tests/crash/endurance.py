"""The laboratory for long: rounds of load on one store, and kills until there are enough.

After each round of load the store is compared, emptied by a cleanup and compacted, so that its
growth and the server's show what is not given back. One in which something was wrong is left as it
is, and the next round begins with another.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from typing import Any, Final

from backscroll import Producer
from backscroll_worker.testing.stores import open_tested
from tests.crash.checker import Violation
from tests.crash.hostile import (
    LIMIT_ADAPTERS,
    REFUSED_ADAPTERS,
    kill_at_the_limits,
    kill_while_clocks_jump,
    kill_while_files_are_touched,
    kill_while_the_server_refuses,
)
from tests.crash.laboratory import Laboratory, Tally
from tests.crash.load import Load, run
from tests.crash.mixed import ADAPTERS, kill_in_mixed_work
from tests.crash.network import BadNetwork
from tests.crash.points import WORKER_POINTS
from tests.crash.rounds import (
    kill_at_points,
    kill_at_random_times,
    kill_in_maintenance,
    kill_in_migration,
)
from tests.crash.server import CrashableServer

Show = Callable[[float], None]

_ROUND_SECONDS: Final = 20.0
_LOST_SHARE: Final = 0.002
_EMPTY_STORE_BYTES: Final = 32 * 1024 * 1024
_EMPTY_SERVER_BYTES: Final = 32 * 1024 * 1024


class Endurance:
    """Load on one store of one kind, round after round."""

    def __init__(
        self,
        server: CrashableServer,
        directory: Path,
        scheme: str,
        seed: int,
        tally: Tally,
        writers: int,
    ) -> None:
        self._server = server
        self._directory = directory
        self._scheme = scheme
        self._seed = seed
        self._tally = tally
        self._writers = writers
        self._spoilt = 0
        self._most_store_bytes = 0
        self._most_server_bytes = 0

    def run(self, seconds: float, show: Show) -> None:
        """Rounds until the time is over."""
        with self._server.client() as client:
            client.flushall()  # the queue knows which store it went into before
        started = time.monotonic()
        for number in count():
            elapsed = time.monotonic() - started
            show(min(elapsed, seconds))
            if elapsed >= seconds:
                break
            with self._tally.counting("load"):
                self._round(number, min(_ROUND_SECONDS, seconds - elapsed))
        self._tally.notes.append(
            f"emptied after each of {number} rounds of load with {self._writers} producer "
            f"processes, the store had at most {self._most_store_bytes / 1e6:.1f} MB and the "
            f"server's memory {self._most_server_bytes / 1e6:.1f} MB"
        )

    def _round(self, number: int, seconds: float) -> None:
        place, store = self._directory / f"load-{number}", f"store-{self._spoilt}"
        with (
            Laboratory(
                self._server.url, place, self._scheme, self._seed + number, self._tally,
                writers=0, store=self._directory / store,
            ) as laboratory,
            BadNetwork(str(self._server.socket), self._seed + number) as network,
        ):  # fmt: skip
            laboratory.drain()  # a store that is there
            load = Load(seconds, self._writers, 60.0, round=number)
            if number % 2:
                network.share = _LOST_SHARE
                load = Load(seconds, self._writers, 60.0, url=network.url, round=number)
            run(laboratory, load, self._server)
            self._tally.faults.update(network.faults)
            if laboratory.check():
                self._spoilt += 1
                laboratory.client.flushall()
            else:
                self._empty(laboratory)
                shutil.rmtree(place)

    def _empty(self, laboratory: Laboratory) -> None:
        """Take everything away again, and see what stays."""
        url = laboratory.settings.redis_url
        pid = laboratory.begin(laboratory.life(burst=False))
        try:
            with Producer(url, timeout_seconds=120) as producer:
                cursor = None
                while True:
                    page = producer.sessions(limit=500, cursor=cursor)
                    for info in page.sessions:
                        if info.pinned or info.ttl_hours is not None:
                            producer.describe(info.key, pinned=False, ttl_hours=None)
                    cursor = page.cursor
                    if cursor is None:
                        break
                producer.cleanup(0.0)
                producer.compact()
        finally:
            pid.terminate()
            pid.join(60)
        with open_tested(laboratory.settings.store, read_only=True) as store:
            left, size = store.sessions(limit=10).sessions, store.size_bytes()
        if left:
            found = Violation("left behind", laboratory.settings.store, f"{left[0].key}")
            self._tally.violations.append(found)
        laboratory.client.flushall()  # what maintenance leaves for operators to look at
        memory: Any = laboratory.client.info("memory")
        self._note_size("store", size, _EMPTY_STORE_BYTES)
        self._note_size("server", int(memory["used_memory"]), _EMPTY_SERVER_BYTES)
        self._most_store_bytes = max(self._most_store_bytes, size)
        self._most_server_bytes = max(self._most_server_bytes, int(memory["used_memory"]))

    def _note_size(self, what: str, size: int, most: int) -> None:
        if size > most:
            detail = f"{size:,} bytes when it is empty"
            self._tally.violations.append(Violation("left behind", what, detail))


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of round: what is done to a laboratory, and who writes there."""

    name: str
    run: Callable[[Laboratory], None]
    writers: int | Sequence[Mapping[str, Any]] = 3
    is_checked: bool = True
    """Whether the store is to be compared; a migration is compared as it goes."""


_POINTS: Final = Kind("named points", lambda each: kill_at_points(each, WORKER_POINTS * 2))
_ANY_TIME: Final = Kind("any time", lambda each: kill_at_random_times(each, 40))
_MIXED: Final = Kind("mixed work", lambda each: kill_in_mixed_work(each, WORKER_POINTS), ADAPTERS)

KINDS: Final = (
    _POINTS,
    _MIXED,
    Kind("clocks jump", lambda each: kill_while_clocks_jump(each, WORKER_POINTS * 2)),
    _POINTS,
    _ANY_TIME,
    Kind("files touched", lambda each: kill_while_files_are_touched(each, WORKER_POINTS * 2)),
    _POINTS,
    Kind("limits", lambda each: kill_at_the_limits(each, WORKER_POINTS), LIMIT_ADAPTERS),
    Kind("cleanup and compaction", lambda each: kill_in_maintenance(each, 3)),
    _POINTS,
    Kind("server refuses", lambda each: kill_while_the_server_refuses(each, 4), REFUSED_ADAPTERS),
    _MIXED,
    _ANY_TIME,
    Kind("migration", lambda each: kill_in_migration(each, 2), is_checked=False),
)


def kill_until(
    kills: int, url: str, directory: Path, scheme: str, seed: int, tally: Tally, show: Show
) -> None:
    """Rounds of each kind in turn, each on a new store."""
    for number, kind in enumerate(cycle(KINDS)):
        show(min(kills, tally.kills.total()))
        if tally.kills.total() >= kills:
            break
        place = directory / f"kills-{number}"
        with (
            tally.counting(kind.name),
            Laboratory(url, place, scheme, seed + number, tally, writers=kind.writers) as each,
        ):
            each.client.flushall()
            before = len(tally.violations)
            kind.run(each)
            if kind.is_checked:
                each.check()
        if len(tally.violations) == before:
            shutil.rmtree(place)
