"""The memory of an import follows the largest conversation of a file, not the file's size.

Each import runs in a process of its own, whose largest resident set is measured.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from backscroll_worker.transfer.chats import documents, slack
from backscroll_worker.transfer.chats.conversation import Options
from backscroll_worker.transfer.import_files import look_through
from tests.transfer import chat_samples as samples

AT = 1767225600
TEXT = 'He said "how much?"\n' * 150
SMALL, LARGE = 1, 10
"""Files of so many times 40 conversations with 50 messages of 3 KB."""
MOST_GROWTH = 1.25

PROGRAM = """
import resource, sys
from pathlib import Path
from backscroll_worker.transfer.chats.conversation import Options
from backscroll_worker.transfer.import_files import import_files, look_through
path, store = Path(sys.argv[1]), sys.argv[2]
options, observe = Options(), lambda _: None
if store:
    report = import_files([path], store, options, observe)
else:
    report = look_through([path], options, observe)
assert not report.refused and not report.left_out, report
print(report.messages, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def chatgpt(number: int) -> Any:
    nodes = {
        f"{number}-{n}": {
            "parent": f"{number}-{n - 1}",
            "message": {"author": {"role": "user"}, "create_time": AT + n,
                        "content": {"parts": [f"{n} {TEXT}"]}},
        }
        for n in range(50)
    }  # fmt: skip
    return {"conversation_id": f"c{number}", "mapping": nodes}


def telegram(number: int) -> Any:
    messages = [
        {"id": n, "type": "message", "date_unixtime": str(AT + n), "text": f"{n} {TEXT}"}
        for n in range(50)
    ]
    return {"id": number + 1, "type": "personal_chat", "messages": messages}


def parts(begin: bytes, values: Iterator[Any], end: bytes) -> Iterator[bytes]:
    before = begin
    for value in values:
        yield before + orjson.dumps(value)
        before = b","
    yield end


def written(folder: Path, form: str, size: int) -> Path:
    path = folder / f"{form}-{size}"
    count = range(40 * size)
    if form == "telegram":
        begin = b'{"personal_information":{},"about":"' + b"x" * (size * 2**20)
        content = parts(begin + b'","chats":{"list":[', map(telegram, count), b"]}}")
    else:
        content = parts(b"[", map(chatgpt, count), b"]")
    if form == "zip":
        with zipfile.ZipFile(path, "w") as packed, packed.open("conversations.json", "w") as file:
            for part in content:
                file.write(part)
    else:
        with path.open("wb") as file:
            for part in content:
                file.write(part)
    return path


def peak(path: Path, store: str) -> tuple[int, int]:
    """How many messages were imported, and the largest resident set in KiB."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), store], check=True, capture_output=True
    )
    messages, most = map(int, ended.stdout.split())
    return messages, most


@pytest.mark.slow
@pytest.mark.parametrize("form", ["chatgpt", "telegram", "zip"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, form: str) -> None:
    paths = [written(tmp_path, form, size) for size in (SMALL, LARGE)]
    small, large = (peak(path, "") for path in paths)
    assert large[0] == small[0] * LARGE / SMALL
    assert large[1] < small[1] * MOST_GROWTH


@pytest.mark.slow
def test_memory_of_a_real_import_does_not_grow_with_the_file(tmp_path: Path) -> None:
    paths = [written(tmp_path, "chatgpt", size) for size in (2 * SMALL, LARGE)]
    small, large = (peak(path, f"sqlite://{path}.db") for path in paths)
    assert large[0] == small[0] * LARGE / 2 / SMALL
    assert large[1] < small[1] * MOST_GROWTH


def test_a_conversation_beyond_the_limit_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "MAX_CONVERSATION_BYTES", 100_000)
    large = {**samples.CLAUDE[0], "uuid": "large", "summary": "x" * 100_000}
    path = samples.document([large, *samples.CLAUDE])(tmp_path)
    report = look_through([path], Options(), lambda _: None)
    assert report.sessions == 1
    assert "conversation 1: has 100," in report.refused[0]
    assert "the limit is 100,000" in report.refused[0]
    path = samples.document({**samples.TELEGRAM, "name": "x" * 100_001})(tmp_path)
    (line,) = look_through([path], Options(), lambda _: None).refused
    assert "name has 100,003 bytes" in line


def test_a_day_of_slack_beyond_the_limit_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = samples.slack_folder(tmp_path)
    monkeypatch.setattr(slack, "_MAX_FILE_BYTES", 1_000)
    (place / "fares" / "2026-01-03.json").write_bytes(b"[" + b" " * 1_000 + b"]")
    report = look_through([place], Options(), lambda _: None)
    assert report.sessions == 2
    assert report.not_kept["days whose file cannot be read"] == 1
