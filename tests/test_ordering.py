"""What the suite knows of its tests is of tests that there are."""

from __future__ import annotations

from pathlib import Path

from tests.ordering import LONG


def test_what_is_named_as_long_is_there() -> None:
    root = Path(__file__).parent.parent
    files = [path for name in ("tests", "worker") for path in (root / name).rglob("*.py")]
    text = "".join(path.read_text() for path in files)
    assert {name for name in LONG if f"def {name}(" not in text} == set()
