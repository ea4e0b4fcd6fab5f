"""A store's time: its clock, and how far that can be trusted.

A wall clock may be set back or ahead, rightly or wrongly, and a store cannot know which. Timestamps
are the clock's. From the clock's recorded history, ages are computed so that nothing ever looks
older than it is:

- The clock is behind its highest time (`Doubt`). Either that was in the future: timestamps later
  than now were made before now. Or now is wrong: when the clock passes its highest time again,
  timestamps made since it was set back may be recent (`kept`).
- The clock went ahead by more than the time since boot did (a gap). Nothing aged by that.
- The machine was booted in between. At most a week of the unmeasured time counts.

All times are microseconds; wall times since 1970 UTC.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeVar, cast

import orjson

from backscroll.contract.errors import OperationRefusedError

T = TypeVar("T")

TOLERANCE: Final = 60_000_000
"""For a smaller step back the store's time stands still until the clock has caught up."""
LONGEST_UNMEASURED: Final = 7 * 24 * 3_600_000_000
_MOST_REMEMBERED: Final = 64
_SAVED_EVERY: Final = 60_000_000
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class ClockChangedError(OperationRefusedError):
    """Deletion by time was stopped, as the time changed."""


class Elapsed(NamedTuple):
    """The time since a boot, including suspension, which nobody can set."""

    boot: str
    micros: int


class Clock(NamedTuple):
    """A store's sources of time; `elapsed` returns None where it is not available."""

    wall: Callable[[], int]
    elapsed: Callable[[], Elapsed | None]


def since_boot() -> Elapsed | None:
    """The time since this machine's boot; None where the boot cannot be identified."""
    boot = _boot_id()
    if boot is None:
        return None
    return Elapsed(boot, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000)


@functools.cache
def _boot_id() -> str | None:
    try:
        return _BOOT_ID.read_text().strip() if hasattr(time, "CLOCK_BOOTTIME") else None
    except OSError:
        return None


def no_later(at: int | None, now: int) -> int | None:
    """A time reported by another program, limited to now: nothing happened in the future."""
    return None if at is None else min(at, now)


def unmeasured() -> None:
    """No time since boot is available."""


@dataclass(slots=True)
class Doubt:
    """The clock was set back to `low`, and has not since reached `until`, where it was before."""

    low: int
    until: int
    is_measured: bool = True
    """Whether every step ahead since would have been noticed."""


@dataclass(slots=True)
class ClockRecord:
    """A store's record of its clock, across restarts."""

    high: int = 0
    wall: int | None = None
    elapsed: Elapsed | None = None
    doubt: Doubt | None = None
    gaps: list[tuple[int, int]] = field(default_factory=list)
    """Steps ahead: the clock's time afterwards, and by how much it was too far."""
    kept: list[tuple[int, int]] = field(default_factory=list)
    """Timestamps from the first time to before the second may be as recent as the second."""

    @classmethod
    def loads(cls, content: bytes | str | None) -> Self | None:
        """The inverse of `dumps`; None when it is unreadable."""
        try:
            fields: dict[str, Any] = orjson.loads(content or b"")
            elapsed, doubt = fields.pop("elapsed"), fields.pop("doubt")
            history = cls(
                elapsed=None if elapsed is None else Elapsed(str(elapsed[0]), int(elapsed[1])),
                doubt=None if doubt is None else Doubt(**doubt),
                gaps=[(int(at), int(size)) for at, size in fields.pop("gaps")],
                kept=[(int(low), int(end)) for low, end in fields.pop("kept")],
                **fields,
            )
            int(history.high)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            return None
        return history

    def dumps(self) -> bytes:
        elapsed = None if self.elapsed is None else list(self.elapsed)
        return orjson.dumps({**asdict(self), "elapsed": elapsed})


@dataclass(slots=True)
class Cutoff:
    """Which timestamps are older than a given age."""

    before: int
    kept: tuple[tuple[int, int], ...] = ()
    future: int | None = None
    """Later timestamps were made before the clock was set back, which is long enough ago."""
    latest: int = 0
    """The latest known timestamp."""

    def is_past(self, stamp: int) -> bool:
        """Whether the timestamp is older."""
        self.latest = max(self.latest, stamp)
        if self.future is not None and stamp > self.future:
            return True
        return stamp < self.before and not any(low <= stamp < end for low, end in self.kept)

    def condition(self, column: str) -> str:
        """The same for a column, in SQL."""
        stretches = (f"({column} >= {low} AND {column} < {end})" for low, end in self.kept)
        kept = "".join(f" AND NOT {stretch}" for stretch in stretches)
        future = "" if self.future is None else f" OR {column} > {self.future}"
        return f"({column} < {self.before}{kept}{future})"


@dataclass(frozen=True, slots=True)
class Passage:
    """The time at one moment, and how much of the earlier time counts."""

    now: int
    gaps: tuple[tuple[int, int], ...] = ()
    kept: tuple[tuple[int, int], ...] = ()
    fell_back_to: int | None = None

    def cutoff(self, age: int) -> Cutoff:
        """The cutoff for `age`."""
        place, left = self.now, age
        for at, size in reversed(self.gaps):
            if place - at >= left:
                break
            left -= max(0, place - at)
            place = min(place, at) - size
        before = place - left
        has_passed = self.fell_back_to is not None and self.fell_back_to < before
        return Cutoff(
            before,
            tuple((low, end) for low, end in self.kept if end >= before),
            self.now + TOLERANCE if has_passed else None,
        )


class StoreClock:
    """The clock of an open store, with its history.

    `now` may change the history. If `must_save` says so, it has to be saved with the next commit,
    and `settle` called when that is on the disk. `must_heal` says that there may be timestamps in
    the future to be set back to now.
    """

    def __init__(self, clock: Clock, history: ClockRecord | None, latest_stamp: int) -> None:
        self._clock = clock
        self._history = history or ClockRecord()
        self._saved_wall = self._history.wall or 0
        self._is_changed = False
        self.must_heal = False
        self.falls = 0
        """How often it was set back since the store was opened."""
        if self._history.wall is not None and latest_stamp > self._history.high + TOLERANCE:
            # The process that made this timestamp was killed before it saved the history.
            self._go_on(latest_stamp, clock.elapsed())
        self._history.high = max(self._history.high, latest_stamp)

    def now(self) -> int:
        """The time. It goes back with the clock, except by small steps."""
        history, wall, elapsed = self._history, self._clock.wall(), self._clock.elapsed()
        if wall < history.high - TOLERANCE:
            self._fall_back(wall, elapsed)
        elif wall >= history.high:
            self._go_on(wall, elapsed)
        return history.high

    @property
    def latest(self) -> int:
        """The highest time so far, possibly by a wrong clock."""
        doubt = self._history.doubt
        return self._history.high if doubt is None else max(doubt.until, self._history.high)

    @property
    def reopened(self) -> tuple[int, int] | None:
        """Since when, and until when, the clock is behind a time that it had before."""
        doubt = self._history.doubt
        return None if doubt is None else (doubt.low, self._history.high + TOLERANCE)

    def passage(self) -> Passage:
        """The time now, for computing many ages."""
        now, history = self.now(), self._history
        low = None if history.doubt is None else history.doubt.low
        return Passage(now, tuple(history.gaps), tuple(history.kept), low)

    def explain(self, stamp: int) -> None:
        """Note a timestamp: the clock was there once, even if the history lacks it."""
        history = self._history
        if history.doubt is None and stamp > history.high + TOLERANCE:
            history.doubt = Doubt(history.high, stamp)
            self._is_changed = True

    def watch(self, slices: Generator[None, None, T]) -> Generator[None, None, T]:
        """Run slices that delete by time; they end with an error if the clock is set back."""
        falls = self.falls
        while True:
            try:
                next(slices)
            except StopIteration as stop:
                return cast(T, stop.value)
            self.now()
            if self.falls != falls:
                slices.close()
                raise ClockChangedError(
                    "the clock was set back meanwhile; check that it is correct, and try again"
                )
            yield

    @property
    def must_save(self) -> bool:
        """Whether the history has to be saved: it has changed, or enough time has passed."""
        return self._is_changed or self._history.high - self._saved_wall >= _SAVED_EVERY

    @property
    def has_changed(self) -> bool:
        """Whether the history has changed and must be saved at once."""
        return self._is_changed

    def dumps(self) -> bytes:
        """The history, to be saved."""
        return self._history.dumps()

    def settle(self) -> None:
        """Note that the last result of `dumps` is durable."""
        self._is_changed, self._saved_wall = False, self._history.high

    def _go_on(self, wall: int, elapsed: Elapsed | None) -> None:
        history = self._history
        if history.wall is not None and wall - history.wall > TOLERANCE:
            self._measure(wall - history.wall, wall, elapsed)
        history.high = history.wall = wall
        history.elapsed = elapsed
        doubt = history.doubt
        if doubt is not None and wall > doubt.until:
            if not doubt.is_measured:
                history.kept.append((doubt.low, wall))
                _bound(history.kept, lambda a, b: (min(a[0], b[0]), max(a[1], b[1])))
            history.doubt, self._is_changed = None, True

    def _measure(self, advance: int, wall: int, elapsed: Elapsed | None) -> None:
        """Record by how much more than the measured time the clock went ahead."""
        history, passed = self._history, _passed(self._history.elapsed, elapsed)
        if history.doubt is not None and passed is None:
            history.doubt.is_measured = False
        if passed is None:
            is_known = history.elapsed is not None and elapsed is not None
            passed = min(advance, LONGEST_UNMEASURED) if is_known else advance
        if advance - passed > TOLERANCE:
            history.gaps.append((wall, advance - passed))
            _bound(history.gaps, lambda a, b: (b[0], a[1] + b[1]))
            self._is_changed = True

    def _fall_back(self, wall: int, elapsed: Elapsed | None) -> None:
        history, old = self._history, self._history.doubt
        back = history.high - wall + (_passed(history.elapsed, elapsed) or 0)
        undone = sum(size for at, size in history.gaps if at > wall) - back
        history.gaps = [gap for gap in history.gaps if gap[0] <= wall]
        if undone > TOLERANCE:
            history.gaps.append((wall, undone))
        lows = [low for low, end in history.kept if end > wall]
        history.kept = [(low, min(end, wall)) for low, end in history.kept if low < wall]
        history.doubt = Doubt(min(wall, *lows), history.high) if lows else Doubt(wall, history.high)
        if old is not None:
            history.doubt = Doubt(
                min(old.low, history.doubt.low), max(old.until, history.high), old.is_measured
            )
        history.high = history.wall = wall
        history.elapsed = elapsed
        self._is_changed = self.must_heal = True
        self.falls += 1


def _passed(since: Elapsed | None, now: Elapsed | None) -> int | None:
    """The time between two moments of one boot; None when it was not measured."""
    if since is None or now is None or since.boot != now.boot or now.micros < since.micros:
        return None
    return now.micros - since.micros


def _bound(pairs: list[tuple[int, int]], merge: Callable[[Any, Any], tuple[int, int]]) -> None:
    """Limit their number: the two oldest are merged into one that makes nothing older."""
    while len(pairs) > _MOST_REMEMBERED:
        pairs[:2] = [merge(pairs[0], pairs[1])]
