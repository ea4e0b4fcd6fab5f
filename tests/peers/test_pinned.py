"""The tests of the agent frameworks, in the versions that we are tested with, pass over Backscroll.

A part of them, over a store in the process; `make peers` runs all, also over the queue.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.peers.running import run_tests
from tests.peers.source import PINNED, ROOT, Distribution, UnavailableError, source

pytestmark = pytest.mark.slow

SOME = {
    "openai-agents": (
        "tests/memory/test_session.py",
        "tests/memory/test_session_limit.py",
        "tests/memory/test_compaction_suffix.py",
        "tests/extensions/memory/test_encrypt_session.py",
    ),
    "strands-agents": (
        "tests/strands/session/test_file_session_manager.py",
        "tests/strands/session/test_repository_session_manager.py",
    ),
}
AT_LEAST = {"openai-agents": 130, "strands-agents": 70}


@pytest.mark.parametrize("framework", PINNED, ids=lambda each: each.name)
def test_a_frameworks_own_tests_pass_over_backscroll(
    framework: Distribution, tmp_path: Path
) -> None:
    try:
        files = source(framework)
    except UnavailableError as error:
        pytest.skip(f"the tests of {framework.name} {framework.version} cannot be had: {error}")
    url = f"sqlite://{tmp_path}/chat.db"
    outcomes = run_tests(framework.name, files, url, tmp_path, files=SOME[framework.name])
    failed = {
        name: each["reason"] for name, each in outcomes.items() if each["outcome"] == "failed"
    }
    assert not failed
    passed = [name for name, each in outcomes.items() if each["outcome"] == "passed"]
    assert len(passed) >= AT_LEAST[framework.name]


def test_each_framework_is_tested_in_one_version() -> None:
    """The one that is pinned: what is new on an index changes no result of CI."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    pinned = dict(each.split("==") for each in extras["peers"] if "==" in each)
    modules = (ROOT / "producer/backscroll/integrations").glob("*.py")
    with_module = {path.stem.replace("_", "-") for path in modules} & extras.keys()
    assert len(with_module) >= 8
    for extra in with_module:
        (name,) = (re.split("[<=>]", each)[0] for each in extras[extra])
        assert pinned[name] == version(name)
    assert {each.name: each.version for each in PINNED}.items() <= pinned.items()
