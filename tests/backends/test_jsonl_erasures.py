"""A JSONL store's record of erasures, when it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from backscroll.contract.ids import new_op_id
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Append
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import apply_all, contents, keys, open_tested, say

DAMAGED = (
    b"",
    b"{}",
    b"null",
    b'{"version":1,"tombstones":[["zz',
    b'{"version":1,"tombstones":[["zz",1,1]],"applied":[],"pending":[],"receipts":[]}',
    b'{"version":1,"tombstones":[["ab","x",1]],"applied":[],"pending":[],"receipts":[]}',
    b'{"version":1,"tombstones":[["ab",1]],"applied":[],"pending":[],"receipts":[]}',
    b'{"version":1,"tombstones":[],"applied":[["a"]],"pending":[],"receipts":[]}',
    b'{"version":1,"tombstones":[],"applied":[],"pending":[{"op_id":"a"}],"receipts":[]}',
    b'{"version":1,"tombstones":[],"applied":[],"pending":[],"receipts":[[1,{}]]}',
    b'{"version":1,"tombstones":[],"applied":[],"pending":[],"receipts":[[1,["op_id"]]]}',
    b"\xff\xfe\x00",
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"jsonl://{tmp_path / 'store'}"


@pytest.fixture
def file(tmp_path: Path, open_store: Open) -> Path:
    """The record of a store in which something was erased."""
    with open_store() as store:
        say(store, "zebra", "quagga")
        finish(store.erase(key="zebra"))
        assert store.verify() == []
    return tmp_path / "store" / ".erased.json"


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_record_is_reported_and_kept_when_it_is_replaced(
    open_store: Open, file: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_bytes(content)
    store = open_store()
    assert f"{file} cannot be read" in caplog.text
    say(store, "horse", "hay")
    finish(store.compact(1))
    assert [finding.where for finding in store.verify()] == [file.name]
    with open_tested(store.url, read_only=True) as reader:
        assert [finding.where for finding in reader.verify()] == [file.name]
    assert file.read_bytes() == content
    finish(store.erase(key="horse"))
    assert store.verify() == []
    assert file.with_name(".erased.json.damaged").read_bytes() == content
    late = Append(new_op_id(), 1, "horse", (ChatMessage.user("late"),))
    apply_all(store, [late])
    assert keys(store) == set()
    store.close()
    assert open_store().verify() == []


def test_a_repair_sets_a_damaged_record_aside(open_store: Open, file: Path) -> None:
    content = file.read_bytes()[:-5]
    file.write_bytes(content)
    with open_store() as store:
        done = store.repair(store.verify())
        assert done == ["moved .erased.json to .erased.json.damaged"]
        assert store.verify() == []
        assert store.repair([]) == []
    with open_store() as store:
        say(store, "zebra", "new")
        assert contents(store, "zebra") == ["new"]
        assert store.verify() == []
    assert file.with_name(".erased.json.damaged").read_bytes() == content


def test_a_record_cut_off_anywhere_is_reported(open_store: Open, file: Path) -> None:
    whole = file.read_bytes()
    for size in range(len(whole) - 1):  # without its last newline it is as good
        file.write_bytes(whole[:size])
        with open_store() as store:
            assert len(store.verify()) == 1
    file.write_bytes(whole)
    with open_store() as store:
        assert store.verify() == []
