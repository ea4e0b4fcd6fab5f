"""The times of a chat of WhatsApp, which its file has as the phone's language writes them."""

from __future__ import annotations

import time
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from backscroll_worker.transfer.chats.conversation import Options
from backscroll_worker.transfer.import_files import import_files, look_through
from tests.transfer import chat_samples as samples
from tests.transfer.sessions import everything
from tests.transfer.taking import OPTIONS, taken


@pytest.mark.parametrize(
    ("lines", "days"),
    [
        ("12/31/25, 6:05 PM - Ada: x\n1/1/26, 6:05 AM - Bo: y\n", ["12-31 18:05", "01-01 06:05"]),
        ("31/12/2025, 18:05 - Ada: x\n01/01/2026, 06:05 - Bo: y\n", ["12-31 18:05", "01-01 06:05"]),
        ("[2025-12-31, 18:05:01] Ada: x\n[2026-01-01, 6:05:01] Bo: y\n",
         ["12-31 18:05", "01-01 06:05"]),
        ("31.12.25, 18:05 - Ada: x\n", ["12-31 18:05"]),
        # Only the order tells: as months and days it would go back.
        ("05/06/25, 1:00 - Ada: x\n01/07/25, 1:00 - Bo: y\n", ["06-05 01:00", "07-01 01:00"]),
        ("5/6/25, 12:05\u202fAM - Ada: x\n13/6/25, 12:05\u202fpm - Ada: y\n",
         ["06-05 00:05", "06-13 12:05"]),
        ("[2025. 12. 31. 오후 6:05:09] Ada: x\n[2026. 1. 1. 오전 6:05:09] Bo: y\n",
         ["12-31 18:05", "01-01 06:05"]),
        ("2025/12/31 下午6:05 - Ada: x\n2026/1/1 凌晨12:05 - Bo: y\n",
         ["12-31 18:05", "01-01 00:05"]),
        ("٣١\u200f/١٢\u200f/٢٠٢٥، ٦:٠٥ م - Ada: x\n١\u200f/١\u200f/٢٠٢٦، ٦:٠٥ ص - Bo: y\n",
         ["12-31 18:05", "01-01 06:05"]),
        ("31/12/25, 6:05 μ.μ. - Ada: x\n1/1/26, 6:05 π.μ. - Bo: y\n",
         ["12-31 18:05", "01-01 06:05"]),
        ("31.12.2025 ÖS 6:05 - Ada: x\n", ["12-31 18:05"]),
        ("31.12.25 г., 18:05 - Ada: x\n", ["12-31 18:05"]),
        ("31/12/2568 18:05 - Ada: x\n", ["12-31 18:05"]),
        ("2025-12-31 18 h 05 - Ada: x\n", ["12-31 18:05"]),
    ],
)  # fmt: skip
def test_dates_of_any_locale_are_read(tmp_path: Path, lines: str, days: list[str]) -> None:
    path = tmp_path / "_chat.txt"
    path.write_text(lines)
    report, sessions = taken(path, tmp_path)
    assert report.refused == []
    ((said),) = sessions.values()
    zone = ZoneInfo("Europe/Berlin")
    times = [each.created_at.astimezone(zone) for each in said if each.created_at]
    assert [f"{at:%m-%d %H:%M}" for at in times] == days


def test_dates_that_do_not_tell_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "_chat.txt"
    path.write_text("05/06/25, 18:05 - Ada: x\n")
    report, _ = taken(path, tmp_path)
    (refused,) = report.refused
    assert "--dates dmy or mdy" in refused
    told = look_through([path], Options(dates="mdy"), lambda _: None)
    assert (told.sessions, told.refused) == (1, [])


def test_dates_that_are_not_in_the_order_given_are_refused(tmp_path: Path) -> None:
    path = samples.chat_text(tmp_path)
    (refused,) = look_through([path], Options(dates="mdy"), lambda _: None).refused
    assert str(path) in refused
    assert "in the order mdy" in refused


def test_dates_of_which_only_the_first_is_clear_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "_chat.txt"
    path.write_text("05/05/25, 18:05 - Ada: x\n05/06/25, 18:05 - Ada: y\n")
    (refused,) = look_through([path], OPTIONS, lambda _: None).refused
    assert "--dates dmy or mdy" in refused


def test_times_without_a_zone_are_in_the_one_of_their_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        for zone in (None, ZoneInfo("Europe/Berlin")):
            options = Options(zone=zone)
            hours = [
                moment.astimezone(UTC).hour
                for day in ("2025-01-31", "2025-07-31")
                if (moment := options.moment(f"{day}T12:00:00"))
            ]
            assert hours == [11, 10]
        path = tmp_path / "_chat.txt"
        path.write_text("31/01/25, 12:00 - Ada: x\n31/07/25, 12:00 - Ada: y\n")
        store = f"sqlite://{tmp_path / 'store.db'}"
        import_files([path], store, Options(), lambda _: None)
        ((_, said),) = everything(store).values()
        assert [each.created_at.astimezone(UTC).hour for each in said if each.created_at] == [
            11,
            10,
        ]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_hour_that_is_there_twice_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "_chat.txt"
    hours = ("01:50", "02:10", "02:50", "02:49", "02:05", "02:55", "03:01")
    path.write_text("".join(f"26/10/25, {hour} - Ada: {hour}\n" for hour in hours))
    _, sessions = taken(path, tmp_path)
    ((said),) = sessions.values()
    times = [each.created_at.astimezone(UTC) for each in said if each.created_at]
    shown = ["23:50", "00:10", "00:50", "00:49", "01:05", "01:55", "02:01"]
    assert [f"{at:%H:%M}" for at in times] == shown
