"""The dashboard as an operator sees it, and what it must not do for anybody else."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from rq import SimpleWorker
from rq.job import Job
from rq.suspension import resume, suspend
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from backscroll import ChatMessage, InvalidSettingError, Producer
from backscroll.transport.rq_protocol import OrjsonSerializer
from backscroll_worker.ops.dashboard import run_dashboard
from backscroll_worker.ops.server import running_server
from backscroll_worker.settings import Settings
from tests.browser import click, element, wait_for_text
from tests.dashboards import (
    FROM_THE_PAGE,
    HOSTILE,
    ask,
    assert_harmless,
    dashboard,
    failed_ids,
    put_job,
    queued_ids,
)
from tests.processes import running_worker, wait_for, workers

pytestmark = pytest.mark.slow


@pytest.fixture
def client(server_url: str) -> redis.Redis:
    return redis.Redis.from_url(server_url)


def test_the_page_shows_queue_worker_and_failed_job_and_requeues_it(
    settings: Settings, server_url: str, client: redis.Redis, tmp_path: Path, chrome: Chrome
) -> None:
    with (
        running_worker(settings, client, tmp_path / "log"),
        dashboard(server_url, "opensesame") as address,
    ):
        put_job(client, "bad-job", json.dumps([HOSTILE, None, [], {}]).encode())
        wait_for(lambda: failed_ids(client) == ["bad-job"], "the job to fail")
        suspend(client)
        wait_for(lambda: worker_state(client) == "suspended", "the worker to pause")
        with Producer(server_url) as producer:
            for number in range(3):
                producer.append("web/1", ChatMessage.user(f"message {number}"))

        chrome.get(f"http://backscroll:opensesame@{address}/")
        row = wait_for_text(chrome, "tr[data-role=queue]", "backscroll")
        assert row.split() == ["backscroll", "3", "0", "0", "0", "0", "1", "0"]
        chrome.save_screenshot(str(tmp_path / "queues.png"))

        click(chrome, By.LINK_TEXT, "Workers")
        wait_for_text(chrome, "tr[data-role=worker]", "backscroll-", "idle")
        chrome.save_screenshot(str(tmp_path / "workers.png"))

        look_at_the_failed_job(chrome, address, tmp_path)
        click(chrome, By.CSS_SELECTOR, "[data-role=requeue-job-btn]")
        wait_for(lambda: len(queued_ids(client)) == 4, "the job to be back on the queue")
        assert queued_ids(client)[-1] == "bad-job"
        assert failed_ids(client) == []
        wait_for_text(chrome, "table#jobs tbody", "No jobs.")

        resume(client)
        wait_for(lambda: failed_ids(client) == ["bad-job"], "the job to fail")
        assert queued_ids(client) == [], "the worker went on"


def worker_state(client: redis.Redis) -> str:
    (name,) = client.smembers("rq:workers")
    return (client.hget(name, "state") or b"").decode()  # type: ignore[union-attr]


def look_at_the_failed_job(chrome: Chrome, address: str, tmp_path: Path) -> None:
    chrome.get(f"http://{address}/0/view/job/bad-job")
    wait_for_text(chrome, "#job-data", "failed", "is not a function a job may call", HOSTILE)
    assert element(chrome, By.ID, "requeue-job-btn")
    assert_harmless(chrome)
    chrome.save_screenshot(str(tmp_path / "job.png"))

    chrome.get(f"http://{address}/0/view/jobs/backscroll/failed/8/asc/1")
    wait_for_text(
        chrome, "tr[data-role=job]", "bad-job", "is not a function a job may call", HOSTILE
    )
    assert_harmless(chrome)
    chrome.save_screenshot(str(tmp_path / "failed.png"))


def test_it_asks_for_the_password(server_url: str) -> None:
    with dashboard(server_url, "opensesame") as address:
        assert ask(address, "/")[0] == 401
        assert ask(address, "/0/data/queues.json", login="backscroll:wrong")[0] == 401
        assert ask(address, "/0/data/queues.json", login="root:opensesame")[0] == 401
        assert ask(address, "/static/css/main.css")[0] == 401
        assert ask(address, "/0/data/queues.json", login="backscroll:opensesame")[0] == 200
        assert ask(address, "/", "HEAD", login="backscroll:opensesame")[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104
def test_without_a_password_it_listens_to_this_machine_only(
    host: str, settings: Settings, server_url: str
) -> None:
    with pytest.raises(InvalidSettingError, match="BACKSCROLL_DASHBOARD_PASSWORD"):
        run_dashboard(replace(settings, dashboard_host=host), server_url)


def test_a_port_in_use_is_one_line_that_names_it(settings: Settings, server_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            InvalidSettingError, match=f"port {port}: Address already in use"
        ) as error:
            run_dashboard(replace(settings, dashboard_port=port), server_url)
    assert "\n" not in str(error.value)


def test_what_waits_to_be_stored_cannot_be_thrown_away_or_reordered(
    server_url: str, client: redis.Redis, address: str
) -> None:
    with Producer(server_url) as producer:
        kept = producer.append("web/1", ChatMessage.user("hello")).op_id
    for path in (
        "/queue/backscroll/queued/empty",
        "/queue/backscroll/compact",
        f"/job/{kept}/delete",
    ):
        assert ask(address, path, "POST", FROM_THE_PAGE)[0] == 403
    assert queued_ids(client) == [kept]
    page = ask(address, "/0/view/jobs")[1]
    assert "jobs on queue <strong>backscroll</strong>" in page
    assert 'id="empty-btn"' not in page
    assert 'id="compact-btn"' not in page
    assert 'data-role="delete-job-btn"' not in page


@pytest.mark.parametrize("registry", ["failed", "finished", "scheduled"])
def test_what_waits_is_kept_whatever_registry_has_it_too(
    registry: str, server_url: str, client: redis.Redis, address: str
) -> None:
    put_job(client, "other", b"[]", "failed")
    with Producer(server_url) as producer:
        kept = producer.append("web/1", ChatMessage.user("hello")).op_id
    client.zadd(f"rq:{registry}:backscroll", {kept: time.time() + 1_000})
    for status in ("queued", "failed"):
        client.hset(Job.key_for(kept), "status", status)
        assert ask(address, f"/job/{kept}/delete", "POST", FROM_THE_PAGE)[0] == 403
        empty = f"/queue/backscroll/{registry}/empty"
        assert ask(address, empty, "POST", FROM_THE_PAGE)[0] == 200
    assert queued_ids(client) == [kept]
    assert client.hexists(Job.key_for(kept), "data")
    assert client.zcard(f"rq:{registry}:backscroll") == 0
    assert client.exists(Job.key_for("other")) == (registry != "failed")


def test_failed_jobs_can_be_requeued_and_deleted_singly_and_all_at_once(
    server_url: str, client: redis.Redis, address: str
) -> None:
    payload = b'["backscroll_worker.jobs.nothing",null,[],{}]'
    for number in range(4):
        put_job(client, f"bad-{number}", payload, "failed")
    assert 'id="empty-btn"' in ask(address, "/0/view/jobs/backscroll/failed/8/asc/1")[1]
    assert ask(address, "/job/bad-0/delete", "POST", FROM_THE_PAGE)[0] == 200
    assert failed_ids(client) == ["bad-1", "bad-2", "bad-3"]
    assert ask(address, "/requeue/backscroll", "POST", FROM_THE_PAGE)[0] == 200
    assert queued_ids(client) == ["bad-1", "bad-2", "bad-3"]
    job = Job.fetch("bad-1", connection=client, serializer=OrjsonSerializer)
    assert job.data == payload

    put_job(client, "bad-4", payload, "failed")
    assert ask(address, "/queue/backscroll/failed/empty", "POST", FROM_THE_PAGE)[0] == 200
    assert failed_ids(client) == []
    assert not client.exists(Job.key_for("bad-4"))


def test_the_workers_page_holds_while_a_worker_shows_its_current_job(
    server_url: str, client: redis.Redis, address: str
) -> None:
    with Producer(server_url) as producer:
        op_id = producer.append("web/1", ChatMessage.user("hello")).op_id
    worker = SimpleWorker(["backscroll"], connection=client, serializer=OrjsonSerializer)
    worker.register_birth()  # type: ignore[no-untyped-call]
    worker.set_current_job_id(op_id)
    status, body = ask(address, "/0/data/workers.json")
    assert status == 200
    assert json.loads(body)["workers"][0]["current_job"]["job_id"] == op_id


def test_a_killed_worker_is_off_the_workers_page_within_half_a_minute(
    settings: Settings, server_url: str, client: redis.Redis, tmp_path: Path, address: str
) -> None:
    def shown(address: str) -> list[str]:
        status, body = ask(address, "/0/data/workers.json")
        assert status == 200
        return [each["name"] for each in json.loads(body)["workers"]]

    with running_worker(settings, client, tmp_path / "log") as worker:
        (key,) = workers(client)
        wait_for(lambda: worker_state(client) == "idle", "the worker to wait for jobs")
        assert [key.decode()] == [f"rq:worker:{name}" for name in shown(address)]
        worker.kill()
        worker.wait()
    left: Any = client.pttl(key)
    assert 0 < left <= 30_000
    client.pexpire(key, 1)  # the rest of its time
    wait_for(lambda: not client.exists(key), "the end of its registration")
    assert shown(address) == []


def test_the_password_of_the_server_is_not_on_the_page(
    server_url: str, client: redis.Redis
) -> None:
    client.acl_setuser(
        "operator", enabled=True, passwords=["+hushhush"], categories=["+@all"], keys=["*"]
    )
    try:
        with dashboard(f"{server_url}?username=operator&password=hushhush") as address:
            status, page = ask(address, "/")
    finally:
        client.acl_deluser("operator")
    assert status == 200
    assert "unix://" in page
    assert "hushhush" not in page


def test_it_works_over_tcp(server_url: str, client: redis.Redis) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client.config_set("port", port)
    try:
        with dashboard(f"redis://127.0.0.1:{port}/3") as address:
            assert ask(address, "/0/data/queues.json") == (200, '{"queues":[]}\n')
    finally:
        client.config_set("port", 0)


def test_a_server_that_is_away_is_told_in_one_line_and_comes_back(tmp_path: Path) -> None:
    own = Settings(None, tmp_path, "sqlite://x.db")
    with running_server(own) as url:
        pass
    with dashboard(url) as address:
        status, body = ask(address, "/0/data/workers.json")
        assert status == 503
        assert body.startswith("no answer from unix://")
        assert body.count("\n") == 1
        with running_server(own):
            assert ask(address, "/0/data/workers.json")[0] == 200
