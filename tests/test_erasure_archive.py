"""What an erasure removes from the archive and what stays: asked once, again, or described late."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Append, Compact, Describe, Erase
from backscroll.contract.results import ErasureReceipt
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import Slices, finish
from backscroll_worker.contract.retention import Retention, Rule
from backscroll_worker.maintenance.dispatch import maintenance_slices
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    contents,
    keys,
    open_tested,
)

_NUMBERS = iter(range(1, 10_000))


class Shop:
    """A store with an archive, whose clock stands still, and maintenance as by a worker."""

    def __init__(self, backend: StoreUnderTest, clock: Clock, settings: Settings) -> None:
        assert settings.archive is not None
        self.backend = backend
        self.clock = clock
        self.archive = Archive(settings.archive)
        self._settings = settings

    def new_id(self) -> str:
        return f"{self.clock() // 1000:012x}{0x7000_8000_0000_0000_0000 + next(_NUMBERS):020x}"

    def say(self, key: str, *contents: str) -> None:
        for text in contents:
            message = ChatMessage.user(text)
            apply_all(self.backend, [Append(self.new_id(), self.clock(), key, (message,))])
            self.clock.advance(seconds=1)

    def talk(self, key: str, *said: tuple[str, str]) -> None:
        """Say something, by authors."""
        messages = tuple(ChatMessage.user(text, author=author) for author, text in said)
        apply_all(self.backend, [Append(self.new_id(), self.clock(), key, messages)])
        self.clock.advance(seconds=1)

    def tell_sender(self, key: str, sender: str, at: int | None = None) -> None:
        at = self.clock() if at is None else at
        apply_all(self.backend, [Describe(self.new_id(), at, key, {"sender": sender})])

    def learn_late(self, key: str, sender: str, client: redis.Redis) -> None:
        """Erase the sender, and then hear, in what was asked for before, whose the session is."""
        asked_at = self.clock()
        self.clock.advance(seconds=1)
        self.erase(Erase(self.new_id(), self.clock(), sender=sender), client)
        self.tell_sender(key, sender, asked_at)

    def cap(self) -> None:
        """Archive all but the last message of each session."""
        rule = Rule("cap", None, 1)
        finish(self.backend.cleanup(Retention(rule), archive=self.archive))
        self.clock.advance(seconds=1)

    def archive_all(self) -> None:
        self.clock.advance(hours=1)
        finish(self.backend.cleanup(0.5, archive=self.archive))
        self.clock.advance(seconds=1)

    def erase(self, operation: Erase, client: redis.Redis) -> ErasureReceipt:
        slices = maintenance_slices(self.backend.store, self._settings, operation, client)
        receipt: ErasureReceipt = finish(slices)
        self.clock.advance(seconds=1)
        return receipt

    def compact(self, client: redis.Redis) -> None:
        finish(self.compaction(client))

    def compaction(self, client: redis.Redis) -> Slices[Any]:
        operation = Compact(self.new_id(), self.clock())
        return maintenance_slices(self.backend.store, self._settings, operation, client)

    @property
    def archived_keys(self) -> set[str]:
        lines = (line for file in self.archive.files() for line in file.lines())
        return {session.info.key for session, _, _ in lines}

    @property
    def archived(self) -> list[str]:
        lines = (line for file in self.archive.files() for line in file.lines())
        return [message.content for _, _, message in lines if message is not None]


@pytest.fixture(params=["sqlite", "jsonl"])
def shop(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[Shop]:
    clock = Clock()
    settings = replace(settings, archive=tmp_path / "archive")
    with open_tested(f"{request.param}://{tmp_path / 'store'}", clock=clock) as backend:
        yield Shop(backend, clock, settings)


@pytest.mark.parametrize("subject", [{"key": "zebra"}, {"sender": "eve"}])
def test_an_erasure_run_again_leaves_what_was_archived_afterwards(
    shop: Shop, client: redis.Redis, subject: dict[str, str]
) -> None:
    shop.tell_sender("zebra", "eve")
    shop.say("zebra", "old 1", "old 2", "old 3")
    shop.cap()
    operation = Erase(shop.new_id(), shop.clock(), **subject)
    assert shop.erase(operation, client).archived == 1
    assert shop.archived == []
    shop.say("zebra", "new 1", "new 2")
    shop.tell_sender("zebra", "eve")
    shop.cap()
    assert shop.archived == ["new 1"]
    assert shop.erase(operation, client).archived == 0
    shop.compact(client)
    shop.archive_all()
    assert shop.archived == ["new 1", "new 2"]
    assert shop.erase(replace(operation, op_id=shop.new_id()), client).archived == 2
    assert shop.archived == []


def test_an_authors_erasure_leaves_in_the_archive_what_others_said(
    shop: Shop, client: redis.Redis
) -> None:
    shop.talk("group", ("eve", "quagga"), ("bob", "hay"), ("eve", "zebra"))
    shop.talk("pair", ("bob", "oats"), ("eve", "quagga"))
    shop.talk("alone", ("eve", "quagga"))
    shop.talk("other", ("bob", "straw"))
    shop.backend.describe("empty", name="nothing said")
    shop.archive_all()
    shop.talk("group", ("eve", "quagga"), ("bob", "more hay"))
    operation = Erase(shop.new_id(), shop.clock(), author="eve")
    receipt = shop.erase(operation, client)
    assert (receipt.sessions, receipt.messages, receipt.archived) == (1, 1, 3)
    assert sorted(shop.archived) == ["hay", "oats", "straw"]
    assert shop.archived_keys == {"group", "pair", "other", "empty"}
    assert shop.archive.verify() == []
    shop.talk("group", ("eve", "new"))
    shop.archive_all()
    assert shop.erase(operation, client).archived == 0
    assert "new" in shop.archived
    assert shop.erase(replace(operation, op_id=shop.new_id(), at=shop.clock()), client).archived
    assert sorted(shop.archived) == ["hay", "more hay", "oats", "straw"]


def test_an_archived_fork_forgets_the_key_of_its_erased_source(
    shop: Shop, client: redis.Redis
) -> None:
    shop.say("zebra", "hay")
    shop.backend.fork("zebra", "fork")
    shop.archive_all()
    receipt = shop.erase(Erase(shop.new_id(), shop.clock(), "zebra"), client)
    assert (receipt.archived, shop.archived_keys) == (1, {"fork"})
    infos = [session.info for file in shop.archive.files() for session, *_ in file.lines()]
    assert {(info.forked_from, info.forked_upto) for info in infos} == {(None, None)}
    assert shop.archived == ["hay"]
    assert shop.archive.verify() == []


def test_erase_takes_parts_archived_before_the_sender_was_known(
    shop: Shop, client: redis.Redis
) -> None:
    shop.say("zebra", "old 1", "old 2")
    shop.say("horse", "hay", "oats")
    shop.cap()
    shop.tell_sender("zebra", "eve")
    assert shop.erase(Erase(shop.new_id(), shop.clock(), sender="eve"), client).archived == 1
    assert shop.archived == ["hay"]


def test_what_was_archived_between_the_asking_and_the_erasure_goes_too(
    shop: Shop, client: redis.Redis
) -> None:
    operation = Erase(shop.new_id(), shop.clock(), "zebra")
    shop.clock.advance(hours=1)  # the worker was away, and takes what waited in its order
    shop.say("zebra", "old 1", "old 2")
    shop.cap()
    assert shop.erase(operation, client).archived == 1
    assert shop.archived == []


@pytest.mark.parametrize("subject", [{"key": "zebra"}, {"sender": "eve"}])
def test_what_was_archived_by_a_clock_that_was_ahead_goes_too(
    shop: Shop, client: redis.Redis, subject: dict[str, str]
) -> None:
    shop.tell_sender("zebra", "eve")
    shop.say("zebra", "old 1", "old 2")
    shop.clock.advance(hours=3)
    shop.archive_all()
    shop.clock.advance(hours=-3.5)
    operation = Erase(shop.new_id(), shop.clock(), **subject)
    assert shop.erase(operation, client).archived == 1
    assert shop.archived == []


def test_erase_removes_unattributed_archive_parts_despite_clock_skew(
    shop: Shop, client: redis.Redis
) -> None:
    shop.say("zebra", "old 1", "old 2")
    shop.clock.advance(hours=3)
    shop.cap()
    shop.clock.advance(hours=-3)
    shop.tell_sender("zebra", "eve")
    assert shop.archived == ["old 1"]
    assert shop.erase(Erase(shop.new_id(), shop.clock(), sender="eve"), client).archived == 1
    assert shop.archived == []


def test_a_compaction_erases_what_a_late_description_attributes(
    shop: Shop, client: redis.Redis
) -> None:
    shop.say("zebra", "old 1", "old 2", "old 3")
    shop.say("horse", "hay", "oats")
    shop.cap()
    spooled_at = shop.clock()
    shop.clock.advance(seconds=1)
    shop.erase(Erase(shop.new_id(), shop.clock(), sender="eve"), client)
    assert sorted(shop.archived) == ["hay", "old 1", "old 2"]
    shop.say("zebra", "new 1", "new 2")
    shop.tell_sender("zebra", "eve", spooled_at)
    assert contents(shop.backend, "zebra") == ["new 1", "new 2"]
    shop.cap()
    shop.compact(client)
    assert shop.archived == ["hay", "new 1"]
    assert keys(shop.backend) == {"zebra", "horse"}
    assert shop.archive.verify() == []


def test_a_session_that_becomes_the_senders_later_stays_in_the_archive(
    shop: Shop, client: redis.Redis
) -> None:
    shop.say("horse", "hay", "oats")
    shop.erase(Erase(shop.new_id(), shop.clock(), sender="eve"), client)
    shop.tell_sender("horse", "eve")
    shop.archive_all()
    shop.erase(Erase(shop.new_id(), shop.clock(), sender="bob"), client)
    shop.compact(client)
    assert shop.archived == ["hay", "oats"]


def test_a_compaction_reads_the_archive_only_after_something_was_erased(
    shop: Shop, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    shop.say("horse", "hay", "oats")
    shop.say("zebra", "grass")
    shop.cap()
    (file,) = shop.archive.files()
    content = file.manifest.read_bytes()
    file.manifest.write_bytes(b"damaged")
    shop.compact(client)
    assert "damaged" not in caplog.text
    file.manifest.write_bytes(content)
    shop.erase(Erase(shop.new_id(), shop.clock(), key="zebra"), client)
    (file,) = shop.archive.files()
    file.manifest.write_bytes(b"damaged")
    shop.compact(client)
    assert f"{file.manifest} is damaged" in caplog.text


@pytest.mark.parametrize("subject", [{"key": "zebra"}, {"sender": "eve"}])
@pytest.mark.parametrize("is_ahead_while_erasing", [True, False])
def test_what_follows_an_erasure_stays_archived_though_a_clock_was_ahead(
    shop: Shop, client: redis.Redis, subject: dict[str, str], is_ahead_while_erasing: bool
) -> None:
    shop.tell_sender("zebra", "eve")
    shop.say("zebra", "old 1", "old 2")
    shop.cap()
    operation = Erase(shop.new_id(), shop.clock(), **subject)
    shop.clock.advance(hours=5)
    if is_ahead_while_erasing:
        shop.erase(operation, client)
    else:
        shop.say("other", "x")
    shop.clock.advance(hours=-5)
    if not is_ahead_while_erasing:
        shop.erase(operation, client)
    assert shop.archived == []
    shop.say("zebra", "new 1", "new 2")
    shop.tell_sender("zebra", "eve")
    shop.cap()
    shop.compact(client)
    shop.erase(Erase(shop.new_id(), shop.clock(), key="nobody"), client)
    assert shop.archived == ["new 1"]


def test_an_erasure_run_again_spares_later_messages_despite_clock_skew(
    shop: Shop, client: redis.Redis
) -> None:
    shop.clock.advance(hours=5)
    shop.say("other", "x")
    shop.clock.advance(hours=-5)
    shop.say("zebra", "old 1", "old 2")
    shop.cap()
    operation = Erase(shop.new_id(), shop.clock(), "zebra")
    assert shop.erase(operation, client).archived == 1
    shop.say("zebra", "new 1", "new 2")
    shop.cap()
    assert shop.erase(operation, client).archived == 0
    assert shop.archived == ["new 1"]


def test_an_erasure_takes_nothing_for_another_one_of_the_same_moment(
    shop: Shop, client: redis.Redis
) -> None:
    shop.tell_sender("zebra", "eve")
    shop.say("zebra", "grass")
    shop.say("horse", "old")
    at = shop.clock()
    shop.clock.advance(hours=1_000)  # it is ahead while both are noted
    eve = Erase(shop.new_id(), at, sender="eve")
    apply_all(shop.backend, [eve, Erase(shop.new_id(), at, key="horse")])
    shop.clock.advance(hours=-999)
    shop.say("horse", "new 1", "new 2")
    shop.cap()
    shop.erase(eve, client)
    assert shop.archived == ["new 1"]


def test_erase_judges_by_date_what_a_wrong_clock_archived(shop: Shop, client: redis.Redis) -> None:
    asked_at = shop.clock()
    shop.clock.advance(hours=3)
    apply_all(shop.backend, [Append(shop.new_id(), asked_at, "zebra", (ChatMessage.user("old"),))])
    shop.archive_all()
    shop.clock.advance(hours=-4)
    assert shop.erase(Erase(shop.new_id(), shop.clock(), "zebra"), client).archived == 1
    assert shop.archived == []


def test_a_late_description_erases_only_messages_before_the_erasure(
    shop: Shop, client: redis.Redis
) -> None:
    shop.say("zebra", "old 1", "old 2")
    operation = Erase(shop.new_id(), shop.clock(), sender="eve")
    shop.clock.advance(hours=5)  # wrong for the moment
    shop.erase(operation, client)
    shop.clock.advance(hours=-5)
    shop.say("zebra", "new 1", "new 2")
    shop.cap()
    assert shop.archived == ["old 1", "old 2", "new 1"]
    shop.tell_sender("zebra", "eve", operation.at)
    shop.compact(client)
    assert shop.archived == ["new 1"]
    assert shop.archive.verify() == []


def test_a_killed_compaction_forgets_no_erasure_the_archive_waits_for(
    shop: Shop, client: redis.Redis
) -> None:
    shop.say("zebra", "quagga")
    shop.archive_all()
    shop.learn_late("zebra", "eve", client)
    shop.clock.advance(hours=10_000)
    killed = shop.compaction(client)
    while shop.backend.tombstones().items():
        next(killed)
    killed.close()
    shop.compact(client)
    assert shop.archived == []


def test_a_compaction_reports_a_damaged_archive_file_and_goes_on(
    shop: Shop, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    shop.say("zebra", "quagga")
    shop.archive_all()
    shop.learn_late("zebra", "eve", client)
    (file,) = shop.archive.files()
    manifest = file.manifest.read_bytes()
    file.manifest.write_bytes(b"garbage")
    assert finish(shop.compaction(client)).bytes_before > 0
    assert f"{file.manifest} is damaged" in caplog.text
    file.manifest.write_bytes(manifest)
    assert shop.archived == ["quagga"]
    shop.compact(client)
    assert shop.archived == []
