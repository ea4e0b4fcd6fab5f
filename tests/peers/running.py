"""Runs tests of a framework in a process of their own: its own ones, with Backscroll as the store,
or ours of the integration.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.peers.source import ROOT

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

OUR_TESTS: Final[Mapping[str, str]] = {
    "agent-framework-core": "tests/integrations/test_agent_framework.py",
    "google-adk": "tests/integrations/test_google_adk.py",
    "langchain-core": "tests/integrations/test_langchain.py",
    "llama-index-core": "tests/integrations/test_llama_index.py",
    "pydantic-ai-slim": "tests/integrations/test_pydantic_ai.py",
}
"""Ours, where the framework's source distribution has no tests, or none of a store."""

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
    environment = {
        **_environment(packages, _HERE / "plugins"),
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
    _run(command, source, environment, outcomes, seconds)
    found: dict[str, Outcome] = json.loads(outcomes.read_text())
    return found


def run_ours(
    name: str, work: Path, *, packages: Path | None = None, seconds: float = 900
) -> dict[str, Outcome]:
    """The outcome of each of our tests of the integration with `name`, by the test's name."""
    outcomes = work / "outcomes.xml"
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
        f"--junitxml={outcomes}", OUR_TESTS[name],
    ]  # fmt: skip
    _run(command, ROOT, _environment(packages), outcomes, seconds)
    found = dict[str, Outcome]()
    for test in ET.parse(outcomes).iter("testcase"):  # noqa: S314 - pytest has just written it
        problem = next(iter(test), None)
        if problem is None:
            found[test.attrib["name"]] = {"outcome": "passed"}
        elif problem.tag in ("failure", "error"):
            reason = (problem.text or "")[-2000:]
            found[test.attrib["name"]] = {"outcome": "failed", "reason": reason}
    return found


def _environment(*path: Path | None) -> dict[str, str]:
    """This process's, with these directories to import from before all others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(str(each) for each in path if each is not None)}


def _run(
    command: Sequence[str],
    where: Path,
    environment: Mapping[str, str],
    outcomes: Path,
    seconds: float,
) -> None:
    """Run pytest there; `AssertionError` with its last words if it wrote no `outcomes`."""
    output = outcomes.with_name("pytest.log")
    with output.open("wb") as log:
        subprocess.run(
            command,
            cwd=where,
            env=environment,
            stdout=log,
            stderr=log,
            timeout=seconds,
            check=False,
        )
    if not outcomes.exists():
        raise AssertionError(output.read_text()[-4000:])
