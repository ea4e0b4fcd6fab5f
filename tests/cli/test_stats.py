"""`backscroll stats`, and how lists look on a terminal."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import redis

from backscroll import ChatMessage, Producer
from backscroll_worker.cli.output import duration, local_time
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.ops.stats import size
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import document, done, in_terminal, options, run, without_styles, work_off
from tests.processes import running_worker, spawn, wait_for


def test_stats_count_what_waits_and_what_is_stored(
    settings: Settings, server_url: str, tmp_path: Path
) -> None:
    with Producer(settings.redis_url) as producer:
        producer.append("k", ChatMessage.user("a"), ChatMessage.user("b"))
        producer.append("pinned", ChatMessage.user("c"))
        producer.describe("pinned", pinned=True)
        producer.rollback("pinned", platform_id="not yet")
    work_off(settings, tmp_path)
    client = redis.Redis.from_url(server_url)
    client.zadd("rq:failed:backscroll", {"x": 9e9})
    done(settings, "append", "k", "user", "waits")
    with running_worker(settings, client, tmp_path / "worker.log") as worker:
        wait_for(lambda: not client.llen("rq:queue:backscroll"), "the worker to take it")
        done(settings, "append", "k", "user", "d", "--wait")
        wait_for(lambda: _info(client)["blocked_clients"], "the worker to wait for jobs")
        worker.send_signal(signal.SIGSTOP)
        done(settings, "append", "k", "user", "waits too")
        numbers = document(settings, "stats")
    # The server hands the job to the frozen worker, which was waiting for one.
    assert (numbers["depth"], numbers["in_flight"], numbers["failed"]) == (0, 1, 1)
    assert 0 <= numbers["oldest_job_seconds"] < 60
    (seen,) = numbers["workers"]
    assert (seen["jobs_done"], seen["jobs_failed"], seen["store_error"]) == (2, 0, None)
    assert seen["store"] == settings.store
    assert (numbers["store"]["sessions"], numbers["store"]["messages"]) == (2, 5)
    assert numbers["store"]["size_bytes"] > 0
    assert numbers["store"]["waiting_changes"] == 1


def test_the_schedulers_last_ticks_are_shown(
    settings: Settings, server_url: str, tmp_path: Path
) -> None:
    client = redis.Redis.from_url(server_url)
    scheduler = spawn(settings, "scheduler", log=tmp_path / "log", BACKSCROLL_TTL_HOURS="1")
    try:
        state = "backscroll:backscroll:cron:cleanup"
        wait_for(lambda: client.exists(state), "the first tick")
        assert document(settings, "stats")["last_ticks"] == {}
        scheduler.kill()
        client.hset(state, mapping={"tick": 0, "ticks": "0"})  # as if none had run for long
        scheduler = spawn(settings, "scheduler", log=tmp_path / "log", BACKSCROLL_TTL_HOURS="1")
        wait_for(lambda: client.hexists(state, "job"), "the tick to be made up for")
        numbers = document(settings, "stats")
        assert numbers["schedulers"][0]["heartbeat_age_seconds"] < 60
        assert set(numbers["last_ticks"]) == {"cleanup"}
        tick = datetime.fromisoformat(numbers["last_ticks"]["cleanup"])
        assert (tick.minute, tick.second) == (0, 0)
        assert "last cleanup" in done(settings, "stats")
    finally:
        scheduler.kill()
        scheduler.wait()


def test_stats_of_an_empty_system_are_empty(settings: Settings) -> None:
    numbers = document(settings, "stats")
    assert (numbers["depth"], numbers["workers"], numbers["store"]) == (0, [], None)
    shown = done(settings, "stats")
    assert "no worker" in shown
    assert "not on this machine" in shown


def commands_seen(client: redis.Redis, name: str) -> int:
    """How often the server was asked so since its statistics were reset."""
    seen: Any = client.info("commandstats")
    return int(seen.get(f"cmdstat_{name}", {"calls": 0})["calls"])


def test_watching_goes_on_until_ctrl_c_and_ends_well(
    settings: Settings, server_url: str, tmp_path: Path
) -> None:
    client = redis.Redis.from_url(server_url)
    client.config_resetstat()
    log = tmp_path / "watch.log"
    program = [sys.executable, "-m", "backscroll_worker.cli"]
    command = [*program, *options(settings), "stats", "--watch", "0.1"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    wait_for(lambda: commands_seen(client, "zrangebyscore") > 2, "the watch to look again")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == ExitCode.OK
    assert "Traceback" not in log.read_text()


def test_a_watch_is_no_document(settings: Settings) -> None:
    assert run(settings, "stats", "--watch", "1", "--json").exit_code == ExitCode.USAGE


def test_lists_fit_a_terminal_of_80_columns(settings: Settings) -> None:
    with open_tested(settings.store) as store:
        for key in ("short", "k" * 300, "会話" * 100):
            store.append(key, ChatMessage.user("hello"))
            store.describe(key, name="a long name " * 20, pinned=True, state="running")
    shown = without_styles(in_terminal(settings, "sessions")[1])
    lines = [line.replace("会", "xx").replace("話", "xx") for line in shown.splitlines()]
    assert all(len(line) <= 80 for line in lines), shown
    assert "short" in shown
    assert shown.count("running pinned") == 3
    assert shown.count(f"{datetime.now().astimezone():%Y-%m-%d}") == 3


def test_ids_are_shown_whole_on_a_terminal(settings: Settings) -> None:
    with open_tested(settings.store) as store:
        (message_id,) = store.append("k", ChatMessage.user("hello"))
    assert message_id in in_terminal(settings, "load", "k", columns=60)[1]


def test_hits_are_highlighted_on_a_terminal(settings: Settings) -> None:
    with open_tested(settings.store) as store:
        store.append("k", ChatMessage.user("say\x1b[2J hello there"))
    shown = in_terminal(settings, "search", "hello")[1]
    assert "hello" in without_styles(shown)
    assert shown != without_styles(shown)
    assert "\x1b[2J" not in shown
    assert "\x1b[" not in done(settings, "search", "hello")


def test_a_document_is_the_same_on_a_terminal(settings: Settings) -> None:
    with open_tested(settings.store) as store:
        store.append("k" * 200, ChatMessage.user("hello"))
    shown = in_terminal(settings, "sessions", "--json")[1]
    assert orjson.loads(shown[shown.index("{") :]) == document(settings, "sessions")


def test_units_suit_what_they_measure() -> None:
    assert [duration(x) for x in (None, 0, 119, 120, 7200, 172_800)] == [
        "", "0 s", "119 s", "2 min", "2 h", "2 d",
    ]  # fmt: skip
    assert [size(x) for x in (12, 2048, 3 << 20, 5 << 30)] == [
        "12 bytes", "2.0 KiB", "3.0 MiB", "5.0 GiB",
    ]  # fmt: skip


def test_even_the_last_moment_of_all_can_be_shown() -> None:
    assert local_time(datetime.max.replace(tzinfo=UTC)).startswith("9999-12-31")
    assert local_time(None) == ""


def test_stats_show_a_producers_spool_even_without_the_server(
    settings: Settings, tmp_path: Path
) -> None:
    spool, away = tmp_path / "spool.db", f"unix://{tmp_path}/no.sock"
    with Producer(away, spool=spool) as producer:
        for text in ("a", "b"):
            producer.append("k", ChatMessage.user(text))
        (kept,) = document(settings, "stats", "--spool", str(spool))["spools"]
        assert (kept["path"], kept["operations"]) == (str(spool), 2)
        lost = run(settings.with_options(redis_url=away), "stats", "--spool", str(spool))
    assert lost.exit_code != 0
    assert "2 operations" in lost.stdout
    assert "no answer from" in lost.stderr


def _info(client: redis.Redis) -> dict[str, Any]:
    clients: Any = client.info("clients")
    return dict(clients)
