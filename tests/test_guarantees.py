"""What docs/guarantees.md names as a proof is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_each_test_that_the_guarantees_name_exists() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    files = set(re.findall(r"`(?:tests/)?([\w/]*test_\w+\.py)`", text))
    tests = set(re.findall(r"`(test_\w+)`", text))
    assert len(files) >= 12
    assert len(tests) >= 20
    there = list((ROOT / "tests").rglob("test_*.py"))
    assert {file.rpartition("/")[2] for file in files} <= {path.name for path in there}
    source = "\n".join(path.read_text() for path in there)
    assert {test for test in tests if f"def {test}(" not in source} == set()
