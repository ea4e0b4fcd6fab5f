"""Both stores, one by one and in groups: four stores that have to be alike after every group.

What the laboratory's writers draw, with erasures among it, at times of before and out of spools.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from backscroll.contract.codec import decode, encode, mark_spooled
from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.operations import Erase, Write
from backscroll_worker.contract.pacing import Unfinished, finish
from backscroll_worker.testing.stores import HOUR, Clock, StoreUnderTest, open_tested
from tests.budget import tries
from tests.crash.writer import Writer, WriterPlan

_GROUPS: Final = 10
_EARLIER: Final = (0, 0, 0, 0, 1_000, 1_000_000, HOUR)


def _groups(seed: int, path: Path) -> Iterator[list[Write]]:
    """What one writer asks for, in groups; an author's erasure ends its group.

    Until it is finished, messages count that it is about to take.
    """
    rng = random.Random(seed)
    writer = Writer(WriterPlan("w", seed, "redis://127.0.0.1:1", path, is_mixed=True))
    times = dict[str, int]()
    for _ in range(_GROUPS):
        group: list[Write] = []
        for _ in range(rng.choice((1, 3, 8, 20))):
            operation = writer._next_operation()
            if isinstance(operation, Write):
                writer._model.apply([operation], now=1)
                writer._sent.append(operation)
                group.append(_late(operation, rng, times))
            if isinstance(operation, Erase) and operation.author is not None:
                break
        yield group


def _late(operation: Write, rng: random.Random, times: dict[str, int]) -> Write:
    """The operation, of an adapter whose clock is slow, or out of a spool; always of one time."""
    at = times.setdefault(operation.op_id, operation.at - rng.choice(_EARLIER))
    changed = operation.changed(at=at)
    payload = encode(changed)
    found = decode(changed.op_id, mark_spooled(payload) if rng.random() < 0.1 else payload)
    assert isinstance(found, Write)
    return found


def _answers(store: StoreUnderTest, parts: Sequence[list[Write]]) -> list[Any]:
    """What came of each operation, with the reason where it was refused."""
    answers: list[Any] = []
    for part in parts:
        for answer in store.store.apply(part):
            done = finish(answer.slices) if isinstance(answer, Unfinished) else answer
            answers.append(str(done) if isinstance(done, OperationRefusedError) else done)
    return answers


def _content(store: StoreUnderTest) -> dict[str, Any]:
    infos = {info.key: info for info in store.sessions(limit=1_000)}
    return {
        key: (info, list(store.load(key)), store.states(key)) for key, info in infos.items()
    } | {"": (store.totals().waiting_changes, store.usage())}


@pytest.mark.parametrize("seed", range(tries(4, 600)))
def test_one_by_one_and_in_groups_both_stores_come_to_the_same(seed: int, tmp_path: Path) -> None:
    clock, known, is_erased = Clock(), set[str](), False
    with ExitStack() as opened:
        stores = [
            opened.enter_context(open_tested(f"{scheme}://{tmp_path}/{scheme}{way}", clock=clock))
            for way in ("grouped", "single")
            for scheme in ("sqlite", "jsonl")
        ]
        for group in _groups(seed, tmp_path / "journal"):
            clock.now = max([clock.now, *(each.at for each in group)]) + 1
            ways = [group], [group], [[each] for each in group], [[each] for each in group]
            answers = [_answers(store, way) for store, way in zip(stores, ways, strict=True)]
            for index, operation in enumerate(group):
                # What erasures have counted by then, and of which op ids they left, is no promise.
                is_open = isinstance(operation, Erase) or (is_erased and operation.op_id in known)
                if not is_open:
                    assert len({repr(each[index]) for each in answers}) == 1, operation
                known.add(operation.op_id)
                is_erased |= isinstance(operation, Erase)
            for erase in [each for each in group if isinstance(each, Erase)]:
                receipts = [finish(store.store.erase(erase)) for store in stores]
                assert len({(each.messages, each.messages_sha256) for each in receipts}) == 1
            first, *others = map(_content, stores)
            for other in others:
                assert other == first
        for store in stores:
            assert store.verify(deep=True) == []
