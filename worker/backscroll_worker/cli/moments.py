"""Points in time as people type them: for --since, --until and the like."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

import click

from backscroll_worker.contract.retention import duration_micros

SINCE_HELP: Final = "2026-01-31, 2026-01, yesterday, 30d (ago)"
UNTIL_HELP: Final = "a day or month stands for its beginning"
"""Parts of the help of options that take a `Moment`."""

_DAYS_AGO: Final = {"today": 0, "yesterday": 1}
_MONTH: Final = re.compile(r"[0-9]{4}-[0-9]{2}")
_EARLIEST: Final = datetime.fromtimestamp(0, UTC)


class Moment(click.ParamType[datetime]):
    """A time, a day, a month, or an age; a day and a month stand for their beginning.

    Times are ISO 8601, local without a time zone; ages are durations as in the retention file.
    """

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """`value` as an aware datetime."""
        try:
            return _moment(value.strip())
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is not a valid time; write 2026-01-31, 2026-01, 2026-01-31T18:00Z, "
                "today, yesterday or 30d (ago; also m, h, w and y)",
                param,
                ctx,
            )


def _moment(text: str) -> datetime:
    now = datetime.now().astimezone()
    if (days := _DAYS_AGO.get(text.lower())) is not None:
        return datetime.combine(now.date() - timedelta(days), time.min).astimezone()
    if (micros := duration_micros(text)) is not None:
        try:
            return max(now - timedelta(microseconds=micros), _EARLIEST)
        except OverflowError:
            return _EARLIEST
    if _MONTH.fullmatch(text):
        text += "-01"
    return datetime.fromisoformat(text).astimezone()
