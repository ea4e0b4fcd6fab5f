"""A dry run says what the import of the same files into an empty store says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscroll_worker.transfer.chats.conversation import Options
from backscroll_worker.transfer.import_files import ImportReport, import_files, look_through
from tests.budget import tries
from tests.transfer import chat_samples as samples

AT = 1767225600
OPTIONS = Options()


def both(folder: Path, values: list[Any], options: Options = OPTIONS) -> ImportReport:
    """What both say of files with these documents."""
    paths = []
    for number, value in enumerate(values):
        paths.append(folder / f"{number}.json")
        paths[-1].write_bytes(orjson.dumps(value))
    said = look_through(paths, options, lambda _: None)
    done = import_files(paths, f"sqlite://{folder / 'store.db'}", options, lambda _: None)
    assert said == done
    return said


def tree(id_: str, parents: list[int], current: int) -> Any:
    """A conversation whose node n answers to the node parents[n], if that is before it."""
    nodes = {
        f"m{n}": {
            "parent": f"m{parent}" if parent < n else None,
            "message": {"author": {"role": "user"}, "create_time": AT + n,
                        "content": {"parts": [f"{n}"]}},
        }
        for n, parent in enumerate(parents)
    }  # fmt: skip
    return {"id": id_, "mapping": nodes, "current_node": f"m{current % max(1, len(parents))}"}


trees = st.builds(
    tree, st.sampled_from("ab"), st.lists(st.integers(0, 6), max_size=7), st.integers(0, 6)
)


@pytest.mark.slow
@settings(max_examples=tries(40, 2_000), deadline=None)
@given(st.lists(st.lists(trees, min_size=1, max_size=3), min_size=1, max_size=3))
def test_of_trees_that_grow_and_are_shown_otherwise(
    tmp_path_factory: pytest.TempPathFactory, files: list[Any]
) -> None:
    both(tmp_path_factory.mktemp("trees"), files)


def telegram(numbers: list[int]) -> Any:
    messages = [
        {"id": n, "type": "message", "date_unixtime": str(AT + n), "text": f"{n}"} for n in numbers
    ]
    return {**samples.TELEGRAM, "messages": messages}


@settings(max_examples=tries(30, 1_000), deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), max_size=6).map(telegram), min_size=1, max_size=3))
def test_of_chats_that_grow_at_any_end(
    tmp_path_factory: pytest.TempPathFactory, files: list[Any]
) -> None:
    both(tmp_path_factory.mktemp("chats"), files)


def test_of_two_programs_that_would_share_a_session(tmp_path: Path) -> None:
    discord = {**samples.DISCORD, "channel": {"id": "-10077"}}
    report = both(tmp_path, [samples.TELEGRAM, discord], Options("x_"))
    assert "of telegram: give --key-prefix" in report.refused[0]


def test_of_messages_that_are_too_large(tmp_path: Path) -> None:
    chat = telegram([1, 2, 3])
    chat["messages"][1]["text"] = "x" * (17 * 1024 * 1024)
    report = both(tmp_path, [chat])
    assert (report.messages, len(report.left_out)) == (2, 1)


def test_of_more_faults_than_anybody_reads(tmp_path: Path) -> None:
    report = both(tmp_path, [[*samples.CLAUDE, *range(5_000)]])
    assert (report.sessions, len(report.refused)) == (1, 1_000)
    assert (report.unlisted, report.total("refused")) == ({"refused": 4_000}, 5_000)
