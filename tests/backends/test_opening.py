"""A store is found by its URL: ours, imported one by one, and those that others wrote."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from backscroll import ChatMessage
from backscroll_worker import stores
from backscroll_worker.contract.history import History, HistoryReader
from backscroll_worker.contract.store import Store
from backscroll_worker.stores import open_store, store_at

GUIDE = Path(__file__).parent.parent.parent / "docs" / "writing-a-store.md"
OPEN = """
import sys
from backscroll_worker.stores import open_store
open_store(sys.argv[1]).close()
print(*[name for name in sys.modules if name.startswith("backscroll_worker.stores.")])
print("pytest" in sys.modules)
"""


@pytest.mark.parametrize(("ours", "other"), [("sqlite", "jsonl"), ("jsonl", "sqlite")])
def test_a_store_imports_nothing_of_another_kind(tmp_path: Path, ours: str, other: str) -> None:
    output = subprocess.check_output(
        [sys.executable, "-c", OPEN, f"{ours}://{tmp_path / 'store'}"], text=True
    )
    modules, has_pytest = output.splitlines()
    assert f"backscroll_worker.stores.{ours}.backend" in modules.split()
    assert f"backscroll_worker.stores.{other}" not in modules.split()
    assert has_pytest == "False"


def test_the_contract_is_ten_methods_on_one_screen() -> None:
    assert len(Store.__abstractmethods__) == 10
    path = Path(sys.modules[Store.__module__].__file__ or "")
    assert len(path.read_text().splitlines()) <= 150


def test_a_store_that_is_not_open_has_no_effect_and_may_be_closed(tmp_path: Path, url: str) -> None:
    with store_at(url) as store:
        assert not store.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_history_reads_what_another_wrote(url: str) -> None:
    with History(open_store(url)) as history:
        history.append("k", ChatMessage.user("hi"))
        with HistoryReader(open_store(url, read_only=True)) as reader:
            assert [message.content for message in reader.stream("k")] == ["hi"]
            assert reader.exists("k")
            assert not hasattr(reader, "append")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


def test_another_distributions_store_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logged_store.py").write_text(blocks("python")[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    name, value = re.findall(r'(\w+) = "(.*)"', blocks("toml")[0])[0]
    entry = EntryPoint(name, value, stores.ENTRY_POINTS)
    monkeypatch.setattr(
        stores, "entry_points", lambda *, group, name: [entry] if entry.name == name else []
    )
    with open_store(f"logged://{tmp_path / 'store'}") as store:
        assert type(store).__name__ == "LoggedStore"
        assert store.verify() == []


def test_the_guides_store_passes_conformance_tests(tmp_path: Path) -> None:
    """A few of them here; each works with the store by nothing but its contract."""
    store, tests = blocks("python")
    (tmp_path / "logged_store.py").write_text(store)
    (tmp_path / "test_logged.py").write_text(tests)
    (tmp_path / "conftest.py").write_text(
        "from backscroll_worker import stores\n"
        'stores.SCHEMES["logged"] = "logged_store:LoggedStore"\n'
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    needs(capability)\n")
    chosen = "late or turn or totals or copied or dedup"
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, tmp_path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert re.search(r"\d\d+ passed", result.stdout), result.stdout
