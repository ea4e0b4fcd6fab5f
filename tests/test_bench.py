"""The benchmark's own pieces: a figure is worth no more than what it is made of."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from backscroll import ChatMessage, Producer
from backscroll.contract.operations import Append, Describe, Write
from backscroll_worker.testing.stores import contents, open_tested
from backscroll_worker.transfer.migrate import migrate
from bench.__main__ import main as bench_all
from bench.arena import arena
from bench.drain import worker_program
from bench.measure import Comparison, Figure, Row, Series, at_least, at_most
from bench.million import main as bench_million
from bench.million_data import conversations
from bench.million_fill import as_said, fill, write_files
from bench.million_maintenance import compact
from bench.million_reads import Queries, append_rate, load_p99, p99, search_p99
from bench.report import as_markdown
from bench.suite import BENCHMARKS
from bench.workers import count_commits, read_commits

ENVIRONMENT: dict[str, Any] = {
    "packages": {}, "machine": "m", "system": "s", "file_system": "f", "python": "p",
    "server": "v", "appendonly": "a", "sqlite": "3",
}  # fmt: skip


def key_of(operation: Write) -> str:
    assert isinstance(operation, Append | Describe)
    return operation.key


def content_of(operation: Write) -> str:
    assert isinstance(operation, Append)
    return operation.messages[0].content


def test_all_is_said_once_in_the_order_of_its_times() -> None:
    said = list(as_said(conversations(200, 4_000)))
    assert [operation.at for operation in said] == sorted(operation.at for operation in said)
    by_key: dict[str, list[Write]] = {}
    for operation in said:
        by_key.setdefault(key_of(operation), []).append(operation)
    for conversation in conversations(200, 4_000):
        first, *appends = by_key.pop(conversation.key)
        assert isinstance(first, Describe)
        assert first.attributes == conversation.attributes
        assert [content_of(op) for op in appends] == [m.content for m in conversation.messages]
    assert not by_key
    neighbours = itertools.pairwise(map(key_of, said))
    assert sum(one != other for one, other in neighbours) > 220  # or 199: one after the other


def test_a_filled_store_holds_what_is_told_of_it(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path / 'store.db'}"
    told: list[str] = []
    filled = fill(url, 20, 600, told.append)
    with open_tested(url, read_only=True) as store:
        infos = store.sessions(limit=1_000).sessions
        texts = [text for info in infos for text in contents(store, info.key)]
        assert store.verify() == []
        for kind, queries in Queries.of(filled).kinds.items():
            assert all(store.search(query, limit=1).hits for query in queries), kind
    assert len(texts) == filled.messages == 600
    assert sum(len(text.encode()) for text in texts) == filled.text_bytes
    listed = [info.key for info in reversed(infos)]
    activity = [filled.last_activity[key] for key in listed]
    assert set(listed) == set(filled.keys)
    assert activity == sorted(activity)
    assert told[-1].endswith("600 messages")


def test_the_files_are_taken_over_as_the_same_conversations(tmp_path: Path) -> None:
    directory, url = tmp_path / "files", f"sqlite://{tmp_path / 'store.db'}"
    write_files(directory, 5, 60)
    report = migrate(directory, url)
    assert (report.sessions, report.messages, report.refused) == (5, 60, [])
    with open_tested(url, read_only=True) as store:
        for conversation in conversations(5, 60):
            expected = [message.content for message in conversation.messages]
            assert contents(store, conversation.key) == expected


def test_one_in_a_hundred_exceeds_the_p99() -> None:
    assert p99([float(number) for number in range(101)]) == 99


def series(*runs: float) -> Series:
    return Series("ours", "ms", runs)


@pytest.mark.parametrize(
    ("row", "is_met"),
    [
        (Figure("x", series(1, 5, 90), at_most(5)), True),
        (Figure("x", series(1, 6, 90), at_most(5)), False),
        (Figure("x", series(5), at_least(5)), True),
        (Comparison("x", series(15), series(10), at_most(1.5)), True),
        (Comparison("x", series(15), series(10), at_least(1.6)), False),
    ],
)
def test_a_row_is_met_by_the_median_of_its_runs(row: Row, is_met: bool) -> None:
    assert row.is_met == is_met
    assert row.to_dict()["is_met"] == is_met
    shown = as_markdown([row], ENVIRONMENT)
    assert ("| yes |" in shown, "**no**" in shown) == (is_met, not is_met)


def test_a_figure_has_its_bound_in_its_own_unit() -> None:
    shown = as_markdown([Figure("load, p99", series(0.5), at_most(1))], ENVIRONMENT)
    assert "| load, p99 (ms) | 0.50 (one run) |  |  |  | ≤ 1 ms | yes |" in shown


def test_a_small_store_is_measured_like_a_large_one(server_url: str, tmp_path: Path) -> None:
    with arena(server_url, tmp_path) as place:
        filled = fill(place.store, 20, 600, lambda _text: None)
        with open_tested(place.store) as store:
            assert 0 < load_p99(store.store, filled.keys, 50) < 1_000
            assert 0 < search_p99(store.store, Queries.of(filled).kinds["common word"], 50) < 1_000
            assert append_rate(store.store, filled.keys, 600) > 10
            for key in filled.keys[:10]:
                store.delete(key)
        compacted = compact(place)
    assert 0 < compacted.fresh <= 1.01 * compacted.after < compacted.before
    assert 0 < compacted.longest_slice_ms < 1e3 * compacted.seconds


def test_what_finds_nothing_is_no_measurement(tmp_path: Path) -> None:
    with (
        open_tested(f"sqlite://{tmp_path / 'store.db'}") as store,
        pytest.raises(LookupError, match="nothing was found"),
    ):
        load_p99(store.store, ["nobody"], 5)


def test_the_help_describes_each_benchmark() -> None:
    said = CliRunner().invoke(bench_all, ["--help"]).output.splitlines()
    listed = [line.split(maxsplit=1) for line in said[said.index("  Benchmarks:") + 1 :]]
    assert [name for name, description in listed if description] == list(BENCHMARKS)


def test_a_benchmark_checks_its_output_file_before_it_measures() -> None:
    for program in (bench_all, bench_million):
        result = CliRunner().invoke(program, ["--json", "/nonexistent/figures.json"])
        assert result.exit_code == 2
        assert "cannot write there" in result.output


def test_the_measured_worker_records_each_of_its_commits(server_url: str, tmp_path: Path) -> None:
    commits = tmp_path / "commits"
    began = time.monotonic()
    with Producer(server_url) as producer, arena(server_url, tmp_path, "sqlite") as fresh:
        program = *worker_program("Backscroll"), str(commits)
        with fresh.running(*program) as process:
            for number in range(3):
                producer.append("a", ChatMessage.user(str(number)), ack="stored")
                assert process.poll() is None
    recorded = read_commits(commits)
    assert count_commits(commits) == len(recorded) == 3
    assert began < recorded[0] <= recorded[1] <= recorded[2] < time.monotonic()
