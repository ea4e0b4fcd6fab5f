"""An outage is logged when it begins, when its reason changes, every minute, and when it ends."""

from __future__ import annotations

import logging
import time

import pytest

from backscroll.transport.outage import Outage

log = logging.getLogger("backscroll.test")


def test_each_reason_is_logged_once_and_the_end_with_a_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage(log, "the store")
    for _ in range(2):
        outage.report_recovered()
        for reason in ("disk full.", "disk full.", "no permission", "disk full."):
            outage.report(reason, "jobs wait")
        outage.report_recovered()
    lines = [
        "the store fails: disk full; jobs wait",
        "the store fails: no permission; jobs wait",
        "the store works again, after 4 failures in 0 s",
    ]
    assert [record.getMessage() for record in caplog.records] == 2 * lines


def test_reasons_that_always_differ_are_logged_every_minute_only(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage, now = Outage(log, "the server"), 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for second in range(181):
        now = float(second)
        outage.report(f"attempt {second}", "trying again")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 8 + 3
    assert said[-1] == "the server still fails, 181 times in 180 s: attempt 180"
