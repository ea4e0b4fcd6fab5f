"""What every store promises of retention rules and caps, and of what comes back afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscroll.contract.messages import ChatMessage
from backscroll.contract.results import CleanupReport
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.retention import Retention
from backscroll_worker.testing.fixtures import Open, Rules, UrlAt
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    bring_back,
    contents,
    found,
    keys,
    open_tested,
    requests,
    say,
)

NEEDS = "archive"

IDS = st.sampled_from("abcd")
EXTRAS = st.one_of(
    st.none(),
    st.builds(lambda ids: {"tool_calls": [{"id": id_} for id_ in ids]}, st.lists(IDS, max_size=3)),
    st.builds(lambda id_: {"tool_call_id": id_}, IDS),
    st.builds(lambda a, b: {"tool_call_id": a, "tool_calls": [{"id": b}]}, IDS, IDS),
    st.sampled_from([{"tool_calls": 7}, {"tool_calls": [7, {"id": []}]}, {"tool_call_id": {}}]),
)


def pairs(extras: list[dict[str, Any] | None]) -> set[tuple[int, int]]:
    """Each result with its call, found the slow way: the last call of that id before it."""
    found = set()
    for result, extra in enumerate(extras):
        wanted = (extra or {}).get("tool_call_id")
        for call in range(result - 1, -1, -1):
            calls = (extras[call] or {}).get("tool_calls")
            ids = [c.get("id") for c in calls if isinstance(c, dict)] if type(calls) is list else []
            if isinstance(wanted, str) and wanted in ids:
                found.add((call, result))
                break
    return found


def tears(torn: set[tuple[int, int]], cut: int) -> bool:
    return any(call < cut <= result for call, result in torn)


def by_rule(report: CleanupReport) -> dict[str, tuple[int, int, int]]:
    return {rule.rule: (rule.sessions, rule.messages, rule.capped) for rule in report.rules}


MANY_RULES = """
    [default]
    ttl = "10h"
    [[rule]]
    channel = "slack"
    ttl = "20h"
    [[rule]]
    channel = "slack"
    room = "legal-*"
    ttl = "forever"
    [[rule]]
    sender = "bot"
    ttl = "1h"
    [[rule]]
    key = "log*"
    keep_messages = 3
"""


def test_each_session_goes_by_its_own_rule_and_the_report_says_which(
    store: StoreUnderTest, clock: Clock, rules: Rules
) -> None:
    for key in ("plain", "slack", "legal", "bot", "pinned", "log", "log idle"):
        say(store, key, *"abcde")
    store.describe("slack", channel="slack")
    store.describe("legal", channel="slack", room="legal-1")
    store.describe("bot", sender="bot")
    store.describe("pinned", sender="bot", pinned=True)
    clock.advance(hours=5)
    say(store, "log", "f")
    clock.advance(hours=5, micros=1)
    retention = rules(MANY_RULES)
    dry = finish(store.cleanup(retention, dry_run=True))
    assert keys(store) == {"plain", "slack", "legal", "bot", "pinned", "log", "log idle"}
    wet = finish(store.cleanup(retention))
    assert keys(store) == {"slack", "legal", "pinned", "log"}
    assert contents(store, "log") == ["d", "e", "f"]
    assert contents(store, "pinned") == list("abcde")
    assert by_rule(wet) == by_rule(dry) == {
        "default": (1, 5, 0), "sender=bot": (1, 5, 0), "key=log*": (1, 5, 3),
    }  # fmt: skip
    assert set(wet.details) == set(dry.details)
    assert (wet.sessions, wet.messages, wet.capped) == (3, 15, 3)
    assert {(d.key, d.rule, round(d.idle_hours), d.messages, d.is_whole) for d in dry.details} == {
        ("plain", "default", 10, 5, True),
        ("bot", "sender=bot", 10, 5, True),
        ("log idle", "key=log*", 10, 5, True),
        ("log", "key=log*", 5, 3, False),
    }
    clock.advance(hours=10)
    assert set(finish(store.cleanup(retention)).keys) == {"slack", "log"}
    clock.advance(hours=10_000)
    finish(store.cleanup(retention))
    assert keys(store) == {"legal", "pinned"}
    assert store.verify() == []


def test_rules_go_by_name_and_agent_too_and_what_is_pinned_loses_nothing(
    store: StoreUnderTest, clock: Clock, rules: Rules
) -> None:
    for key in ("report", "other", "helper", "pinned"):
        say(store, key, *"abcd")
    store.describe("report", name="Report of May")
    store.describe("other", name="No Report")
    store.describe("helper", agent="tester")
    store.describe("pinned", agent="tester", name="Report of June", pinned=True)
    clock.advance(hours=2)
    text = """
        [[rule]]
        name = "Report*"
        ttl = "1h"
        [[rule]]
        agent = "tester"
        keep_messages = 2
    """
    report = finish(store.cleanup(rules(text)))
    assert (report.sessions, report.capped) == (1, 2)
    assert {key: "".join(contents(store, key)) for key in keys(store)} == {
        "other": "abcd", "helper": "cd", "pinned": "abcd",
    }  # fmt: skip


@pytest.mark.needs("search")
def test_a_cap_takes_the_oldest_messages_and_nothing_else(
    open_store: Open, clock: Clock, rules: Rules
) -> None:
    with open_store() as store:
        ids = store.append("s", *(ChatMessage.user(f"m{number}") for number in range(9)))
        store.describe("s", name="named")
        before = store.session("s")
        clock.advance(hours=1)
        report = finish(store.cleanup(rules("[default]\nkeep_messages = 4")))
        assert (report.sessions, report.capped, report.ttl_hours) == (0, 5, None)
        assert contents(store, "s") == ["m5", "m6", "m7", "m8"]
        assert found(store, "m1") == set()
        assert found(store, "m7") == {"m7"}
        after = store.session("s")
        assert before is not None
        assert after is not None
        assert (after.last_activity, after.name) == (before.last_activity, "named")
        assert after.message_count == 4
    with open_store() as store:
        assert contents(store, "s") == ["m5", "m6", "m7", "m8"]
        assert store.remove("s", ids[0]) is False
        assert store.remove("s", ids[6]) is True
        say(store, "s", "m9")
        assert contents(store, "s") == ["m5", "m7", "m8", "m9"]
        assert store.verify() == []


def test_op_ids_of_capped_messages_stay_known(
    open_store: Open, clock: Clock, rules: Rules, archive: Archive
) -> None:
    sent = [requests.append("s", (ChatMessage.user(str(n)),) * 2, None) for n in range(4)]
    with open_store() as store:
        apply_all(store, sent)
        finish(store.cleanup(rules("[default]\nkeep_messages = 3"), archive=archive))
        assert contents(store, "s") == ["2", "3", "3"]
    with open_store() as store:
        assert all(outcome.duplicate for outcome in apply_all(store, sent))
        assert contents(store, "s") == ["2", "3", "3"]
        assert bring_back(store, archive, "s").messages == 5
        assert all(outcome.duplicate for outcome in apply_all(store, sent))
        assert contents(store, "s") == list("00112233")


@settings(max_examples=20, deadline=None)
@given(st.lists(EXTRAS, min_size=1, max_size=12), st.integers(1, 12), st.booleans())
def test_a_cap_never_tears_a_call_from_its_result(
    url_at: UrlAt,
    tmp_path_factory: pytest.TempPathFactory,
    extras: list[dict[str, Any] | None],
    keep: int,
    with_archive: bool,
) -> None:
    directory = tmp_path_factory.mktemp("cap")
    path = directory / "retention.toml"
    path.write_text(f"[default]\nkeep_messages = {keep}")
    archive = Archive(directory / "archive") if with_archive else None
    with open_tested(url_at(directory / "store")) as store:
        messages = [ChatMessage("x", str(n), extra) for n, extra in enumerate(extras)]
        store.append("s", *messages)
        report = finish(store.cleanup(Retention.load(path, None), archive=archive))
        left = contents(store, "s")
        gone = len(extras) - len(left)
        assert left == [str(number) for number in range(gone, len(extras))]
        wanted = max(0, len(extras) - keep)
        torn = pairs(extras)
        sound = [
            cut
            for cut in range(wanted + 1)
            if not any(call < cut <= result for call, result in torn)
        ]
        assert gone == report.capped == max(sound)
        assert store.verify() == []
        if archive is not None and gone:
            bring_back(store, archive, "s")
            assert contents(store, "s") == [str(number) for number in range(len(extras))]


@pytest.mark.needs("search")
def test_a_large_session_is_capped_in_slices_and_comes_back(
    open_store: Open, clock: Clock, rules: Rules, archive: Archive
) -> None:
    with open_store() as store:
        texts = [f"m{number}" for number in range(3_000)]
        store.append("s", *(ChatMessage.user(text) for text in texts))
        slices = store.cleanup(rules("[default]\nkeep_messages = 10"), archive=archive)
        said = []
        for number, _ in enumerate(slices):
            said.append(f"meanwhile {number}")
            say(store, "s", said[-1])
        assert said
        left = contents(store, "s")
        assert left == [*texts, *said][-len(left) :]
        assert 10 <= len(left) <= 10 + len(said)
        assert bring_back(store, archive, "s").messages == 3_000 + len(said) - len(left)
        assert contents(store, "s") == [*texts, *said]
        assert store.verify() == []
    with open_store() as store:
        assert contents(store, "s") == [*texts, *said]
        assert found(store, "m17") == {"m17"}


@pytest.mark.needs("files")
def test_a_session_written_to_while_archived_stays_and_leaves_the_archive(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    apply_all(
        store,
        [requests.append(f"s{n}", (ChatMessage.user("old"),), None) for n in range(600)],
    )
    clock.advance(hours=2)
    active, pinned, described = "s1", "s2", "s3"
    slices = store.cleanup(1, archive=archive)
    for _ in slices:
        if store.exists(active) and contents(store, active) == ["old"]:
            say(store, active, "new")
            store.describe(pinned, pinned=True)
            store.describe(described, channel="another")
            break
    report = finish(slices)
    assert contents(store, active) == ["old", "new"]
    assert contents(store, pinned) == ["old"]
    assert report.sessions == 600 - len(keys(store))
    for file in archive.files():
        assert not {active, pinned} & file.check().keys.keys()
    assert archive.verify() == []
    assert store.verify() == []


@pytest.mark.needs("files")
@pytest.mark.parametrize("what", ["rolled back", "described"])
def test_a_cap_that_no_longer_applies_when_carried_out_takes_nothing(
    store: StoreUnderTest, rules: Rules, archive: Archive, what: str
) -> None:
    say(store, "s", *map(str, range(10)))
    retention = rules(
        '[default]\nkeep_messages = 8\n[[rule]]\nroom = "legal-*"\nkeep_messages = "all"'
    )
    slices, is_chosen = store.cleanup(retention, archive=archive), False
    for _ in slices:
        if archive.files() and not is_chosen:
            is_chosen = True
            if what == "described":
                store.describe("s", room="legal-7")
            else:
                for _ in range(5):
                    store.remove_last("s")
    assert is_chosen
    assert contents(store, "s") == list(map(str, range(10 if what == "described" else 5)))
    assert archive.files() == []
    finish(store.cleanup(retention, archive=archive))
    assert contents(store, "s") == list(map(str, range(10 if what == "described" else 5)))
