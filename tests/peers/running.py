"""Runs a framework's own tests in a process of their own, with Backscroll as the store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent

STORAGE_TESTS: Final[Mapping[str, Sequence[str]]] = {
    "openai-agents": (
        "tests/memory/test_session.py",
        "tests/memory/test_session_limit.py",
        "tests/memory/test_openai_responses_compaction_session.py",
        "tests/memory/test_compaction_model_visibility.py",
        "tests/memory/test_compaction_suffix.py",
        "tests/extensions/memory/test_async_sqlite_session.py",
        "tests/extensions/memory/test_encrypt_session.py",
        "tests/extensions/memory/test_redis_session.py",
    ),
    "strands-agents": (
        "tests/strands/session/test_repository_session_manager.py",
        "tests/strands/session/test_file_session_manager.py",
    ),
}
"""The files whose tests keep something in a store."""

Outcome = Mapping[str, str]


def run_tests(
    name: str,
    source: Path,
    history: str,
    work: Path,
    *,
    files: Sequence[str] | None = None,
    packages: Path | None = None,
    seconds: float = 900,
) -> dict[str, Outcome]:
    """The outcome of each test of framework `name` in its unpacked `source`, by the test's id.

    `history` is the URL at which the tests keep what they keep, `work` a directory for files of
    this run, `packages` one with packages to prefer to those that are installed.
    """
    outcomes = work / "outcomes.json"
    outcomes.unlink(missing_ok=True)
    path = [str(each) for each in (packages, _HERE / "plugins") if each is not None]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "PYTHONPATH": os.pathsep.join(path),
        "PEER_NAME": name,
        "PEER_HISTORY": history,
        "PEER_RUN": uuid.uuid4().hex[:8],
        "PEER_NOT_APPLICABLE": str(_HERE / "not_applicable.toml"),
        "PEER_OUTCOMES": str(outcomes),
    }
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "backscroll_as_peer", "-p", "no:cacheprovider",
        "-p", "no:xdist", "--timeout", "60", *(files or STORAGE_TESTS[name]),
    ]  # fmt: skip
    with (work / "pytest.log").open("wb") as log:
        subprocess.run(
            command,
            cwd=source,
            env=environment,
            stdout=log,
            stderr=log,
            timeout=seconds,
            check=False,
        )
    if not outcomes.exists():
        raise AssertionError((work / "pytest.log").read_text()[-4000:])
    found: dict[str, Outcome] = json.loads(outcomes.read_text())
    return found
