"""A queue goes into the store that it went into before, unless somebody says otherwise."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
import redis

from backscroll import ChatMessage, Producer
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.ops.up import environment
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.guarded import FILE, guarded_server
from tests.prepared import run_prepared
from tests.processes import burst, contents, running_worker, spawn, wait_for

KEY = "backscroll:backscroll:store"


BOTH = pytest.mark.parametrize("scheme", ["sqlite", "jsonl"])


@pytest.fixture
def scheme() -> str:
    return "sqlite"


@pytest.fixture
def settings(scheme: str, settings: Settings) -> Settings:
    return replace(settings, store=f"{scheme}://{settings.data_dir}/one")


def sibling(settings: Settings, name: str) -> Settings:
    return replace(settings, store=settings.store.replace("/one", f"/{name}"))


def another(settings: Settings, name: str) -> Settings:
    """Another store, which is there."""
    other = sibling(settings, name)
    with open_tested(other.store) as store:
        store.identity()
    return other


def place(settings: Settings) -> Path:
    return Path(settings.store.split("://")[1])


def copy(one: Settings, other: Settings) -> None:
    if place(one).is_dir():
        shutil.copytree(place(one), place(other))
    else:
        shutil.copy(place(one), place(other))


def identity(settings: Settings) -> str | None:
    with open_tested(settings.store, read_only=True) as store:
        return store.store.identity()


@BOTH
def test_a_store_has_an_id_of_its_own_that_stays_and_that_a_copy_has_too(
    settings: Settings,
) -> None:
    ids = []
    for each in (settings, settings, sibling(settings, "two")):
        with open_tested(each.store) as store:
            store.identity()
        ids.append(identity(each))
    copy(settings, sibling(settings, "copy"))
    open_tested(sibling(settings, "copy").store).close()
    assert ids[0]
    assert ids[0] == ids[1] != ids[2]
    assert identity(sibling(settings, "copy")) == ids[0]


@BOTH
def test_another_store_on_the_queue_is_refused_and_takes_no_job(
    settings: Settings, producer: Producer, log: Path
) -> None:
    producer.append("k", ChatMessage.user("a"))
    assert burst(settings, log) == 0
    other = another(settings, "two")
    producer.append("k", ChatMessage.user("b"))
    assert burst(other, log) == ExitCode.STORE
    told = log.read_text()
    assert settings.store in told
    assert "another store" in told
    assert "Traceback" not in told
    assert contents(other, "k") == []
    assert burst(settings, log) == 0
    assert contents(settings, "k") == ["a", "b"]


@BOTH
def test_a_store_that_is_missing_is_not_begun_anew_in_its_place(
    settings: Settings, producer: Producer, log: Path
) -> None:
    producer.append("k", ChatMessage.user("a"))
    assert burst(settings, log) == 0
    away = place(settings).with_name("away")
    place(settings).rename(away)
    producer.append("k", ChatMessage.user("b"))
    assert burst(settings, log) == ExitCode.STORE
    assert "Is its disk mounted?" in log.read_text()
    assert not place(settings).exists()
    away.rename(place(settings))
    assert burst(settings, log) == 0
    assert contents(settings, "k") == ["a", "b"]


def test_a_missing_store_has_a_successor_when_somebody_says_so(
    settings: Settings, producer: Producer, log: Path
) -> None:
    assert burst(settings, log) == 0
    place(settings).unlink()
    producer.append("k", ChatMessage.user("a"))
    assert burst(settings, log) == ExitCode.STORE
    assert burst(settings, log, "--accept-store") == 0
    assert contents(settings, "k") == ["a"]


@pytest.mark.parametrize("how", ["option", "variable"])
def test_another_store_may_take_its_place_when_somebody_says_so(
    settings: Settings, producer: Producer, log: Path, how: str
) -> None:
    assert burst(settings, log) == 0
    other = another(settings, "two")
    producer.append("k", ChatMessage.user("a"))
    assert burst(other, log) == ExitCode.STORE
    if how == "option":
        assert burst(other, log, "--accept-store") == 0
    else:
        accepted = {"BACKSCROLL_ACCEPT_STORE": identity(other) or ""}
        assert spawn(other, "worker", "--burst", log=log, **accepted).wait(timeout=60) == 0
    assert contents(other, "k") == ["a"]
    assert burst(other, log) == 0
    assert burst(settings, log) == ExitCode.STORE


def test_an_id_that_was_accepted_once_accepts_no_third_store(settings: Settings, log: Path) -> None:
    assert burst(settings, log) == 0
    other, third = another(settings, "two"), another(settings, "three")
    accepted = {"BACKSCROLL_ACCEPT_STORE": identity(other) or ""}
    assert spawn(other, "worker", "--burst", log=log, **accepted).wait(timeout=60) == 0
    assert spawn(third, "worker", "--burst", log=log, **accepted).wait(timeout=60) == 4


def test_a_copy_or_a_moved_store_is_the_same_store(settings: Settings, log: Path) -> None:
    assert burst(settings, log) == 0
    copy(settings, sibling(settings, "copy"))
    assert burst(sibling(settings, "copy"), log) == 0
    assert burst(settings, log) == 0


def test_a_server_that_lost_its_data_learns_the_store_anew(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    assert burst(settings, log) == 0
    client.flushall()
    other = sibling(settings, "two")
    assert burst(other, log) == 0
    assert burst(settings, log) == ExitCode.STORE


@BOTH
def test_a_store_and_a_queue_of_before_are_taken_as_they_are(
    settings: Settings, client: redis.Redis, producer: Producer, log: Path
) -> None:
    producer.append("k", ChatMessage.user("a"))
    assert burst(settings, log) == 0
    client.delete(KEY)
    if place(settings).is_dir():
        (place(settings) / ".store.json").unlink()
    else:
        with apsw.Connection(str(place(settings))) as connection:
            connection.execute("DROP TABLE identity")
    assert identity(settings) is None
    assert burst(settings, log) == 0
    assert identity(settings)
    assert contents(settings, "k") == ["a"]


@pytest.mark.parametrize("scheme", ["jsonl"])
def test_a_jsonl_id_that_is_damaged_is_asked_about(settings: Settings, log: Path) -> None:
    assert burst(settings, log) == 0
    (place(settings) / ".store.json").write_text("{")
    assert burst(settings, log) == ExitCode.STORE
    assert burst(settings, log, "--accept-store") == 0


def test_rqs_own_worker_with_ours_refuses_another_store(
    settings: Settings, producer: Producer, log: Path
) -> None:
    assert burst(settings, log) == 0
    other = another(settings, "two")
    producer.append("k", ChatMessage.user("a"))
    url = str(settings.redis_url)
    command = ("-m", "rq.cli", "worker", "--burst", "backscroll", "--url", url)
    serializer = ("--serializer", "backscroll.transport.rq_protocol.OrjsonSerializer")
    for options in (["-w", "backscroll_worker.loop.worker.GroupCommitWorker"], []):
        done = run_prepared(*command, *options, *serializer, env=environment(other, url))
        assert "another store" in done.stdout + done.stderr
    assert contents(other, "k") == []


def test_a_worker_under_an_older_acl_works_and_says_what_is_not_checked(
    tmp_path: Path, log: Path
) -> None:
    before = FILE.replace(" ~backscroll:backscroll:store", "")
    assert before != FILE
    with guarded_server(tmp_path, before) as guarded:
        settings = guarded.settings("worker")
        with guarded.client("admin") as admin, running_worker(settings, admin, log):
            wait_for(lambda: "is not checked" in log.read_text(), "the warning")
            with Producer(guarded.url("producer"), timeout_seconds=60) as producer:
                producer.append("k", ChatMessage.user("a"), ack="stored")
