"""What docs/guarantees.md names as a proof is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
SUITE = ROOT / "worker" / "backscroll_worker" / "testing" / "conformance"


def test_each_test_that_the_guarantees_name_exists() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    files = set(re.findall(r"`(?:tests/)?([\w/]*test_\w+\.py)`", text))
    tests = set(re.findall(r"`(test_\w+)`", text))
    assert len(files) >= 12
    assert len(tests) >= 20
    there = [*(ROOT / "tests").rglob("test_*.py"), *SUITE.glob("*.py")]
    assert {file.rpartition("/")[2] for file in files} <= {path.name for path in there}
    suite = re.findall(r"`conformance/(\w+\.py)`", text)
    assert len(suite) >= 3
    assert set(suite) <= {path.name for path in SUITE.glob("*.py")}
    source = "\n".join(path.read_text() for path in there)
    assert {test for test in tests if f"def {test}(" not in source} == set()
