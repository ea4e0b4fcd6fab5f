"""`backscroll backup`: a consistent copy beside a busy worker, and what the docs say about it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import redis

from backscroll import ChatMessage, Producer
from backscroll_worker.contract.pacing import finish
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import document, options, run
from tests.prepared import Prepared
from tests.processes import contents, running_worker, wait_for


@pytest.fixture(params=["sqlite", "jsonl"])
def stored(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Settings:
    """Settings for a store of either kind with some sessions in it."""
    url = f"{request.param}://{tmp_path / 'stores' / 'store'}"
    with open_tested(url) as store:
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


def test_a_copy_is_private_has_nothing_erased_and_works_as_a_store(
    stored: Settings, client: redis.Redis, producer: Producer, log: Path, tmp_path: Path
) -> None:
    linked = tmp_path / "stores" / "store" / "k3.jsonl"
    if linked.exists():  # whose file somebody moved to another disk
        linked.symlink_to(linked.rename(tmp_path / "k3"))
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
    with open_tested(stored.store) as store:
        store.append("k0", ChatMessage.user("later"))
    document(stored, "backup", "--replace", str(place))
    copy = replace(stored, store=stored.store.replace("stores/store", "copy"))
    assert contents(copy, "k0") == ["message 0", "later"]
    nowhere = run(stored, "backup", str(tmp_path / "missing" / "copy"))
    assert nowhere.exit_code not in (0, ExitCode.INTERNAL)
    assert "No such file or directory" in nowhere.stderr


@pytest.mark.parametrize("held", ["a file", "a folder", "files like ours", "a store with more"])
def test_what_is_not_a_backup_is_not_replaced(held: str, stored: Settings, tmp_path: Path) -> None:
    place, is_database = tmp_path / "precious", stored.store.startswith("sqlite")
    file = place
    if held == "a store with more":
        document(stored, "backup", str(place))
        file = place if is_database else place / "notes" / "file"
    elif not is_database:
        file = place / {"a folder": "sub/file"}.get(held, "train.jsonl")
    content = b'{"role": "user", "content": "important"}\n'
    if not (is_database and held == "a store with more"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        refused = run(stored, "backup", "--replace", str(place))
        assert refused.exit_code not in (0, ExitCode.INTERNAL)
        assert "is not a backup of a store" in refused.stderr
        assert file.read_bytes() == content


def test_a_store_that_a_worker_uses_is_not_replaced(
    stored: Settings, client: redis.Redis, log: Path, tmp_path: Path
) -> None:
    place = tmp_path / "copy"
    document(stored, "backup", str(place))
    other = replace(stored, store=stored.store.replace("stores/store", "copy"))
    with running_worker(other, client, log):
        wait_for(lambda: "storing queue" in log.read_text(), "the worker to open its store")
        assert "in use as a store" in run(stored, "backup", "--replace", str(place)).stderr
    document(stored, "backup", "--replace", "--skip-verify", str(place))


def test_a_link_stays_and_what_it_leads_to_is_replaced(stored: Settings, tmp_path: Path) -> None:
    link, place = tmp_path / "link", tmp_path / "elsewhere" / "copy"
    place.parent.mkdir()
    link.symlink_to(place)
    document(stored, "backup", str(link))
    document(stored, "backup", "--replace", str(link))
    assert link.is_symlink()
    assert place.exists()
    assert list(place.parent.iterdir()) == [place]


SLOW: Final = """
import sys
from backscroll_worker.cli import main
from backscroll_worker.transfer import backup
backup._verify = lambda url: print("copied", flush=True) or sys.stdin.read()
main()
"""


@contextmanager
def slow_backup(settings: Settings, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One that has made its copy, and takes long to verify it."""
    command, pipe = ["-c", SLOW, *options(settings), "backup", str(place)], subprocess.PIPE
    with Prepared(command, stdin=pipe, stdout=pipe) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"copied\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_backup_that_is_ended_leaves_nothing_for_long(
    number: signal.Signals, stored: Settings, log: Path, tmp_path: Path
) -> None:
    place = tmp_path / "backups" / "copy"
    place.parent.mkdir()
    with slow_backup(stored, place) as process:
        document(stored, "backup", str(place))  # beside the other
        place.rename(tmp_path / "first")
        assert list(place.parent.iterdir()), "the other one's copy is left alone"
        process.send_signal(number)
        process.wait(60)
    assert bool(list(place.parent.iterdir())) == (number == signal.SIGKILL)
    document(stored, "backup", str(place))
    assert list(place.parent.iterdir()) == [place]


def test_a_directory_that_was_about_to_be_replaced_is_put_back(
    stored: Settings, tmp_path: Path
) -> None:
    place = tmp_path / "copy"
    document(stored, "backup", str(place))
    left = tmp_path / ".copy.backup-12345678"
    left.mkdir()
    place.rename(left / "old")
    assert "--replace" in run(stored, "backup", str(place)).stderr
    assert place.exists()
    document(stored, "backup", "--replace", str(place))
    assert not left.exists()


def test_what_is_no_file_is_not_replaced(stored: Settings, tmp_path: Path) -> None:
    place = tmp_path / "pipe"
    os.mkfifo(place)
    refused = run(stored, "backup", "--replace", str(place))
    assert (refused.exit_code, place.is_fifo()) == (ExitCode.FAILED, True)
