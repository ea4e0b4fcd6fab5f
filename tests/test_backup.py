"""`backscroll backup`: a consistent copy beside a busy worker, and what the docs say about it."""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from producer import ChatMessage, Producer
from tests.cli.command import document, run
from tests.processes import contents, running_worker
from worker.backends import open_backend
from worker.backends.base import finish
from worker.cli.exit_codes import ExitCode
from worker.settings import Settings


@pytest.fixture(params=["sqlite", "jsonl"])
def stored(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Settings:
    """Settings for a store of either kind with some sessions in it."""
    url = f"{request.param}://{tmp_path / 'stores' / 'store'}"
    with open_backend(url) as store:
        for number in range(20):
            store.append(f"k{number}", ChatMessage.user(f"message {number}"))
        store.append("gone", ChatMessage.user("quagga"))
        finish(store.erase(key="gone"))
    return replace(settings, store=url)


def test_a_copy_made_beside_a_busy_worker_is_a_prefix_of_what_was_said(
    stored: Settings, client: redis.Redis, producer: Producer, log: Path, tmp_path: Path
) -> None:
    stop = threading.Event()

    def talk() -> None:
        number = 0
        while not stop.is_set():
            producer.append("busy", ChatMessage.user(str(number)), ack="stored")
            producer.append(f"new {number}", ChatMessage.user("hi"))
            number += 1

    with running_worker(stored, client, log):
        producer.append("busy", ChatMessage.user("first"), ack="stored")
        talking = threading.Thread(target=talk)
        talking.start()
        try:
            for round_ in range(3):
                before = contents(stored, "busy")
                place = tmp_path / f"copy {round_}"
                report = document(stored, "backup", str(place))
                assert report["is_verified"]
                scheme = stored.store.partition("://")[0]
                copied = contents(replace(stored, store=f"{scheme}://{place}"), "busy")
                after = contents(stored, "busy")
                assert before == copied[: len(before)]
                assert copied == after[: len(copied)]
        finally:
            stop.set()
            talking.join()
    assert not list(tmp_path.glob(".copy*")), "nothing is left behind"


def test_a_copy_is_its_owners_without_what_was_erased_and_takes_a_stores_place(
    stored: Settings, client: redis.Redis, producer: Producer, log: Path, tmp_path: Path
) -> None:
    place = tmp_path / "copy"
    document(stored, "backup", str(place))
    files = list(place.iterdir()) if place.is_dir() else [place]
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert b"quagga" not in file.read_bytes()
    restored = replace(stored, store=stored.store.replace("stores/store", "copy"))
    with running_worker(restored, client, log):
        producer.append("k3", ChatMessage.user("later"), ack="stored")
        assert [each.content for each in producer.load("k3")] == ["message 3", "later"]


def test_nothing_that_is_there_is_overwritten_unless_it_is_asked_for(
    stored: Settings, tmp_path: Path
) -> None:
    place = tmp_path / "copy"
    source = Path(stored.store.partition("://")[2])
    for own in (source, source.parent / "store-wal", source / "inside"):
        refused = run(stored, "backup", "--replace", str(own))
        assert refused.exit_code not in (0, ExitCode.INTERNAL)
        assert len(refused.stderr.splitlines()) == 1
    document(stored, "backup", str(place))
    refused = run(stored, "backup", str(place))
    assert "--replace" in refused.stderr
    with open_backend(stored.store) as store:
        store.append("k0", ChatMessage.user("later"))
    document(stored, "backup", "--replace", str(place))
    copy = replace(stored, store=stored.store.replace("stores/store", "copy"))
    assert contents(copy, "k0") == ["message 0", "later"]
    nowhere = run(stored, "backup", str(tmp_path / "missing" / "copy"))
    assert nowhere.exit_code not in (0, ExitCode.INTERNAL)
    assert "No such file or directory" in nowhere.stderr


def test_what_is_no_backup_is_not_replaced(stored: Settings, tmp_path: Path) -> None:
    """The directory that a backup was to go into, for example, with all that is in it."""
    letters = tmp_path / "letters"
    (letters / "more").mkdir(parents=True)
    (letters / "a.jsonl").write_text("mine")
    pictures, text, pipe = tmp_path / "pictures", tmp_path / "text.db", tmp_path / "pipe"
    pictures.mkdir()
    (pictures / "cat.png").write_bytes(b"cat")
    text.write_text("mine")
    os.mkfifo(pipe)
    for place in (letters, pictures, text, pipe):
        refused = run(stored, "backup", "--replace", str(place))
        assert (refused.exit_code, "is not a backup" in refused.stderr) == (ExitCode.FAILED, True)
    assert (letters / "a.jsonl").read_text() == text.read_text() == "mine"
    assert (pictures / "cat.png").exists()
    assert pipe.is_fifo()


def test_a_link_to_a_backup_stays_a_link(stored: Settings, tmp_path: Path) -> None:
    place, link = tmp_path / "copy", tmp_path / "latest"
    link.symlink_to(place)
    for _ in range(2):
        document(stored, "backup", "--replace", str(link))
        assert link.is_symlink()
        assert place.exists()
