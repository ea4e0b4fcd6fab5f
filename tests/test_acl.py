"""deploy/redis/users.acl: the system works under it, and each role has only what it needs."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from redis.exceptions import NoPermissionError
from rq.suspension import resume, suspend

from backscroll import AsyncProducer, ChatMessage, Producer
from backscroll.contract.errors import AuthenticationFailedError, ServerRefusedError
from backscroll.contract.ids import derived_op_id
from backscroll_worker.ops.exit_codes import ExitCode
from tests.cli.command import done, run
from tests.dashboards import FROM_THE_PAGE, ask, dashboard
from tests.guarded import FILE, ROLES, Guarded, guarded_server, with_passwords
from tests.processes import running_worker, spawn, stop, wait_for

HI: Final = ChatMessage.user("hi")
QUEUE: Final = "rq:queue:backscroll"
REGISTRIES: Final = ("queued", "failed", "finished", "started", "deferred", "scheduled", "canceled")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded_server(tmp_path_factory.mktemp("acl"), FILE) as server:
        yield server


@pytest.fixture
def refusing(guarded: Guarded) -> Iterator[Guarded]:
    """The server, for a test that provokes refusals."""
    assert guarded.refused() == []
    yield guarded
    guarded.refused()


@pytest.fixture(scope="module")
def worker(guarded: Guarded) -> Iterator[subprocess.Popen[bytes]]:
    log = guarded.directory / "worker.log"
    with (
        guarded.client("admin") as admin,
        running_worker(guarded.settings("worker"), admin, log) as process,
    ):
        yield process
        assert stop(process) == 0
    assert guarded.refused() == []


def put_bad_jobs(guarded: Guarded, *job_ids: str, data: str = "[]") -> None:
    """Jobs that fail, in the failed registry."""
    with guarded.client("admin") as admin:
        with admin.pipeline() as pipeline:
            for job_id in job_ids:
                fields: dict[Any, Any] = {
                    "data": data,
                    "origin": "backscroll",
                    "created_at": "2026-11-21T08:00:00.000000Z",
                }
                pipeline.hset(f"rq:job:{job_id}", mapping=fields)
                pipeline.rpush(QUEUE, job_id)
            pipeline.execute()
        wait_for(
            lambda: all(admin.zscore("rq:failed:backscroll", job_id) for job_id in job_ids),
            "the jobs to fail",
        )


def test_as_it_comes_the_file_lets_nobody_in(refusing: Guarded) -> None:
    first, *others = FILE.splitlines()
    users = re.findall(r"^user (\w+) (\w+) (\S+)", "\n".join(others), re.MULTILINE)
    assert [user for user, *_ in users] == ["admin", *ROLES]
    assert all(rest == ["on", f"#{user}-password-sha256"] for user, *rest in users)
    assert first == "user default off ~* &* +@all"  # the server loads its file as `default`
    for word in ("nopass", ">", "allkeys"):
        assert word not in FILE
    with pytest.raises(redis.ResponseError, match=r"users\.acl:2: .*password hash must be"):
        refusing.load(FILE)
    with pytest.raises(redis.AuthenticationError), redis.Redis.from_url(refusing.url("")) as client:
        client.ping()


@pytest.mark.usefixtures("worker")
def test_a_producer_can_do_all_its_calls(guarded: Guarded) -> None:
    with Producer(guarded.url("producer"), timeout_seconds=60) as producer:
        producer.append("k", HI)
        producer.append("k", HI, ack="fsynced")
        for _ in range(2):
            producer.append("k", HI, dedup_key="1", ack="stored")
        producer.describe("k", agent="a")
        producer.rollback("k")
        assert len(producer.load("k")) == 2
        with guarded.client("admin") as admin:
            tails, pending = (f"backscroll:backscroll:{name}" for name in ("tails", "pending"))
            wait_for(lambda: producer.load("k") and admin.hexists(tails, "hk"), "a tail")
            producer.append("k", HI)
            producer.rollback("k", ack="stored")
            assert len(producer.load("k")) == 2
            assert not admin.hexists(pending, "k")
        assert producer.search("hi")
        assert producer.session("k") is not None
        assert producer.sessions().sessions
        assert producer.cleanup(1).sessions == 0
        assert producer.compact().op_ids_purged == 0
        put_bad_jobs(guarded, "about-k", data='["?", null, [], {"key": "k"}]')
        receipt = producer.erase(key="k")
        assert (receipt.messages, receipt.failed_jobs) == (2, 1)

    async def use() -> None:
        async with AsyncProducer(guarded.url("producer"), timeout_seconds=60) as producer:
            await asyncio.gather(*(producer.append("async", HI) for _ in range(20)))
            await producer.append("async", HI, ack="fsynced")
            assert (await producer.append("async", HI, ack="stored")).affected == 1
            assert len(await producer.load("async")) == 22

    with guarded.client("admin") as admin:
        admin.script_flush()  # as after the server's restart
    asyncio.run(use())
    # Redis refuses a file that names it; deploy/redis/README.md adds it to Valkey's.
    assert set(guarded.refused()) <= {"worker commandlog|reset"}


@pytest.mark.usefixtures("worker")
def test_a_producer_can_deliver_a_message_again_whose_job_failed(guarded: Guarded) -> None:
    with Producer(guarded.url("producer"), timeout_seconds=60) as producer:
        failed_id = derived_op_id("failed", "1")
        put_bad_jobs(guarded, failed_id)
        receipt = producer.append("failed", HI, dedup_key="1", ack="stored")
        assert (receipt.op_id, receipt.duplicate) == (failed_id, False)
    with guarded.client("admin") as admin:
        assert admin.zcard("rq:failed:backscroll") == 0
    assert guarded.refused() == []


@pytest.mark.usefixtures("worker")
def test_an_older_file_lets_a_producer_do_what_it_could_before(refusing: Guarded) -> None:
    newer = (" +expire", " +persist")
    text = re.sub(r" \(\+(lpos|zrem) [^)]*\)", "", FILE.split("user worker")[0])
    for right in newer:
        text = text.replace(right, "")
    refusing.load(with_passwords(text + "user worker" + FILE.split("user worker")[1]))
    try:
        with Producer(refusing.url("producer"), timeout_seconds=60) as producer:
            put_bad_jobs(refusing, failed_id := derived_op_id("older", "1"))
            assert producer.append("older", HI, dedup_key="1").op_id == failed_id
            for _ in range(2):
                producer.append("older", HI, dedup_key="2")
            assert len(producer.load("older")) == 1
    finally:
        refusing.load(with_passwords(FILE))
        with refusing.client("admin") as admin:
            admin.zrem("rq:failed:backscroll", failed_id)


@pytest.mark.usefixtures("worker")
def test_a_scheduler_can_enqueue_maintenance(guarded: Guarded, log: Path) -> None:
    every_second = "* * * * * *"
    scheduler = spawn(
        guarded.settings("scheduler"),
        "scheduler",
        log=log,
        BACKSCROLL_TTL_HOURS="1",
        BACKSCROLL_CLEANUP_CRON=every_second,
        BACKSCROLL_COMPACT_CRON=every_second,
    )
    try:
        with guarded.client("admin") as admin:
            wait_for(lambda: "enqueued cleanup" in log.read_text(), "a cleanup")
            wait_for(lambda: "enqueued compact" in log.read_text(), "a compaction")
            checked = done(guarded.settings("worker"), "check", "--skip-verify")
            assert "✗" not in checked
            assert stop(scheduler) == 0
            assert admin.zcard("rq:cron_schedulers") == 0
    finally:
        scheduler.kill()
        scheduler.wait()
    assert guarded.refused() == []


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("user", ["worker", "dashboard", "operator"])
def test_those_who_may_look_see_check_and_stats(guarded: Guarded, user: str) -> None:
    done(guarded.settings(user), "check", "--skip-verify")
    done(guarded.settings(user), "stats")
    if user != "worker":
        done(guarded.settings(user), "failed", "list")
    assert guarded.refused() == []


@pytest.mark.usefixtures("worker")
def test_the_dashboard_shows_everything_and_changes_nothing(refusing: Guarded) -> None:
    put_bad_jobs(refusing, "bad-1")
    paths = [
        *(f"/0/view/{page}" for page in ("workers", "jobs", "job/bad-1")),
        *(f"/0/data/{page}.json" for page in ("queues", "workers", "job/bad-1")),
        *(f"/0/data/jobs/backscroll/{registry}/8/dsc/1.json" for registry in REGISTRIES),
    ]
    with dashboard(refusing.url("dashboard")) as address:
        for path in ["/", *paths]:
            assert ask(address, path)[0] == 200, path
        assert refusing.refused() == []

        changes = {
            "/job/bad-1/requeue": "zrem",
            "/job/bad-1/delete": "lpos",
            "/requeue/backscroll": "zrem",
            "/queue/backscroll/failed/empty": "lpos",
        }
        for path, command in changes.items():
            status, said = ask(address, path, "POST", FROM_THE_PAGE)
            assert status == 403
            assert f"User dashboard has no permissions to run the '{command}' command" in said
            assert "users.acl" in said
            assert "hushhush" not in said
        # RQ would tidy up what it finds gone; the page is shown all the same.
        with refusing.client("admin") as admin:
            admin.sadd("rq:workers", "rq:worker:gone")
            admin.zadd("rq:failed:backscroll", {"gone": 1e12})
            assert ask(address, "/0/data/workers.json")[0] == 200
            assert ask(address, "/0/data/jobs/backscroll/failed/8/asc/1.json")[0] == 200
            assert admin.srem("rq:workers", "rq:worker:gone") == 1
            assert admin.zrem("rq:failed:backscroll", "gone", "bad-1") == 2


@pytest.mark.usefixtures("worker")
def test_an_operator_can_requeue_discard_and_suspend(guarded: Guarded) -> None:
    put_bad_jobs(guarded, *(f"op-{number}" for number in range(5)))
    settings = guarded.settings("operator")
    with dashboard(guarded.url("operator")) as address, guarded.client("operator") as client:
        suspend(client)
        for change in ("job/op-0/requeue", "job/op-1/delete", "requeue/backscroll"):
            assert ask(address, f"/{change}", "POST", FROM_THE_PAGE)[0] == 200, change
        assert client.lrange(QUEUE, 0, -1) == [b"op-0", b"op-2", b"op-3", b"op-4"]
        resume(client)
        wait_for(lambda: client.zcard("rq:failed:backscroll") == 4, "the jobs to fail again")
        done(settings, "failed", "discard", "--yes", "op-2")
        done(settings, "failed", "requeue", "op-3")
        wait_for(lambda: client.zcard("rq:failed:backscroll") == 3, "the job to fail again")
        assert ask(address, "/queue/backscroll/failed/empty", "POST", FROM_THE_PAGE)[0] == 200
        assert client.zcard("rq:failed:backscroll") == 0
    done(settings, "append", "k", "user", "hello", "--wait")
    assert "hello" in done(settings, "load", "k")
    assert guarded.refused() == []


DEQUEUE: Final = (
    f"LPOP {QUEUE}", f"RPOP {QUEUE}", f"BLPOP {QUEUE} 1", f"LMPOP 1 {QUEUE} LEFT",
    f"LMOVE {QUEUE} mine LEFT LEFT", f"BLMOVE {QUEUE} {QUEUE} 1 LEFT LEFT", f"LTRIM {QUEUE} 1 0",
    f"LREM {QUEUE} 1 x", f"LSET {QUEUE} 0 x", f"DEL {QUEUE}", f"UNLINK {QUEUE}",
    f"RENAME {QUEUE} mine", f"EXPIRE {QUEUE} 1",
)  # fmt: skip
NOBODY: Final = (
    "FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "CONFIG GET *", "CONFIG SET appendonly no",
    "SHUTDOWN NOSAVE", "SAVE", "BGREWRITEAOF", "REPLICAOF 192.0.2.1 6379", "LATENCY RESET",
    "MONITOR", "ACL LIST", "ACL SETUSER me on nopass +@all ~*", "CLIENT KILL TYPE normal",
    "CLIENT PAUSE 1000", "SCRIPT FLUSH", "FUNCTION LIST", "MODULE LIST", "KEYS *", "SCAN 0",
    "DUMP rq:job:x", "GET foreign", "SET foreign 1", "DEL foreign", "RPUSH rq:queue:other x",
    "LLEN rq:queue:other", "SADD foreign x", "HGETALL rq:key:other", "PUBLISH news x",
    "SUBSCRIBE news", "PSUBSCRIBE *", "PUBLISH rq:pubsub:backscroll-1 x",
)  # fmt: skip
LOOK_AT_JOBS: Final = (
    f"LRANGE {QUEUE} 0 -1", f"LINDEX {QUEUE} 0", "HGETALL rq:job:x",
    "ZRANGE rq:failed:backscroll 0 -1", f"LRANGE {QUEUE}:intermediate 0 -1",
)  # fmt: skip
ENQUEUE: Final = (f"RPUSH {QUEUE} x", f"LPUSH {QUEUE} x", "HSET rq:job:x data y")
WORK: Final = (
    f"RPUSH {QUEUE}:intermediate x", "SET backscroll:backscroll:fence x", "XADD rq:results:x * a b",
    "ZADD rq:failed:backscroll 1 x", "HSET rq:worker:backscroll-1 state busy", "DEL rq:job:x",
    "ZREM rq:failed:backscroll x", "SADD rq:workers x", "SET rq:suspended 1",
)  # fmt: skip
REFUSED: Final = {
    "producer": (*DEQUEUE, *LOOK_AT_JOBS, *(c for c in WORK if not c.startswith("ZREM")), "INFO",
                 "HMGET rq:worker:x state", "ZCARD rq:failed:backscroll", "ZREM rq:failed:other x"),
    "worker": ("SET rq:suspended 1", "HSET rq:worker:other state busy",
               "ZADD rq:wip:backscroll 1 x",
               "HSET backscroll:backscroll:cron:cleanup tick 0", "XREAD STREAMS rq:results:x 0",
               f"LPOP {QUEUE}", "ZADD rq:cron_schedulers 1 x", "HGETALL rq:job:x"),
    "scheduler": (*DEQUEUE, *LOOK_AT_JOBS, *WORK, "HSET rq:job:x data y", f"LPUSH {QUEUE} x",
                  "INFO", "SCRIPT LOAD x", "HGET rq:job:x data", "XREAD STREAMS rq:results:x 0"),
    "dashboard": (*DEQUEUE, *ENQUEUE, *WORK, "EVAL x 0", "EVALSHA x 0", "SCRIPT LOAD x", "MULTI",
                  "SADD rq:queues x", "XADD rq:results:x * a b", "PERSIST rq:job:x"),
    "operator": (f"LPOP {QUEUE}", f"LTRIM {QUEUE} 1 0", f"DEL {QUEUE}", "SCRIPT LOAD x",
                 "SET backscroll:backscroll:fence x", "XADD rq:results:x * a b",
                 "HSET rq:worker:backscroll-1 state busy"),
}  # fmt: skip


@pytest.mark.parametrize("user", ROLES)
def test_each_role_has_only_the_permissions_it_needs(refusing: Guarded, user: str) -> None:
    allowed = []
    with refusing.client(user) as client:
        for command in (*NOBODY, *REFUSED[user]):
            try:
                client.execute_command(*command.split())
            except NoPermissionError:
                continue
            except redis.ResponseError as error:
                allowed.append(f"{command}: {error}")
            else:
                allowed.append(command)
    assert allowed == []


@pytest.mark.parametrize("user", ["producer", "worker", "operator"])
def test_a_script_can_do_no_more_than_who_runs_it(refusing: Guarded, user: str) -> None:
    with refusing.client(user) as client:
        for body in (
            "'LPOP', KEYS[1]",
            "'FLUSHALL'",
            "'RPUSH', 'rq:queue:other', 'x'",
            "'KEYS', '*'",
        ):
            with pytest.raises(redis.ResponseError, match="ACL failure in script"):
                client.eval(f"return redis.call({body})", 1, QUEUE)
        with pytest.raises(NoPermissionError):
            client.eval("return 1", 1, "foreign")


def test_who_lacks_a_right_is_told_which(refusing: Guarded) -> None:
    expected = r"refused: User dashboard has no permissions to run the 'evalsha' command\. .*ACL"
    with (
        Producer(refusing.url("dashboard")) as producer,
        pytest.raises(ServerRefusedError, match=expected) as caught,
    ):
        producer.append("k", HI)
    assert "hushhush" not in str(caught.value)

    async def use() -> None:
        async with AsyncProducer(refusing.url("dashboard")) as producer:
            await producer.append("k", HI)

    with pytest.raises(ServerRefusedError, match=expected):
        asyncio.run(use())
    with (
        Producer(refusing.url("producer"), "other") as producer,
        pytest.raises(ServerRefusedError, match=r"No permissions to access a key.*ACL LOG"),
    ):
        producer.append("k", HI)


def test_who_has_the_wrong_password_is_told_without_it(refusing: Guarded) -> None:
    wrong = refusing.url("producer").replace("hushhush", "mistyped")
    with (
        Producer(wrong) as producer,
        pytest.raises(AuthenticationFailedError, match="refused the login") as caught,
    ):
        producer.append("k", HI)
    assert "mistyped" not in str(caught.value)


def test_commands_say_what_the_server_refuses_them(refusing: Guarded, log: Path) -> None:
    checked = run(refusing.settings("producer"), "check")
    assert checked.exit_code == ExitCode.FAILED
    shown = " ".join(checked.stdout.split())
    assert "User producer has no permissions to run the 'info' command" in shown
    assert "run the check as a user with these rights" in shown
    stats = run(refusing.settings("scheduler"), "stats")
    assert stats.exit_code == ExitCode.SERVER
    assert "User scheduler has no permissions" in stats.stderr
    elsewhere = replace(refusing.settings("producer"), store=f"sqlite://{log.parent}/b.db")
    worker = spawn(elsewhere, "worker", log=log)
    assert worker.wait(timeout=60) == ExitCode.SERVER
    scheduler = spawn(refusing.settings("dashboard"), "scheduler", log=log)
    wait_for(lambda: "User dashboard has no permissions" in log.read_text(), "its complaint")
    assert stop(scheduler) == 0
    said = log.read_text()
    assert "refused: No permissions to access a key. This user lacks a permission" in said
    assert "hushhush" not in said
    assert "Traceback" not in said


def test_a_worker_rides_out_a_login_that_is_taken_away(tmp_path: Path, log: Path) -> None:
    with (
        guarded_server(tmp_path, FILE) as guarded,
        guarded.client("admin") as admin,
        running_worker(guarded.settings("worker"), admin, log) as process,
        Producer(guarded.url("producer"), timeout_seconds=60) as producer,
    ):
        producer.append("k", HI, ack="stored")
        admin.acl_deluser("worker")
        wait_for(lambda: "the server fails" in log.read_text(), "the worker to notice")
        producer.append("k", HI)
        admin.acl_load()
        assert producer.append("k", HI, ack="stored").affected == 1
        assert len(producer.load("k")) == 3
        assert stop(process) == 0
    assert "hushhush" not in log.read_text()
