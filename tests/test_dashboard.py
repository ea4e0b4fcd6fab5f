"""The dashboard as an operator sees it, and what it must not do for anybody else."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import quote

import pytest
import redis
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.suspension import resume, suspend
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from producer import ChatMessage, InvalidSettingError, Producer
from producer.serializer import OrjsonSerializer
from tests.browser import chromium, wait_for_text
from tests.prepared import Prepared
from tests.processes import running_worker, wait_for, workers
from worker.dashboard import run_dashboard
from worker.server import running_server
from worker.settings import Settings

HOSTILE = "<img src=x onerror='window.hacked=1'>"
pytestmark = pytest.mark.slow

FROM_THE_PAGE = {"X-Requested-With": "XMLHttpRequest"}

_DASHBOARD = """
import sys
from dataclasses import replace
from worker.dashboard import run_dashboard
from worker.settings import Settings
run_dashboard(replace(Settings.from_environment(), dashboard_port=0), sys.argv[1])
"""


@pytest.fixture
def client(server_url: str) -> redis.Redis:
    return redis.Redis.from_url(server_url)


@contextmanager
def dashboard(url: str, password: str | None = None) -> Iterator[str]:
    """A dashboard's address, while it runs; it has to end well on SIGTERM."""
    environ = {**os.environ, "BACKSCROLL_DASHBOARD_PASSWORD": password or ""}
    with (
        NamedTemporaryFile() as output,
        Prepared(["-c", _DASHBOARD, url], environ, output.fileno()) as process,
    ):
        try:
            yield wait_for(lambda: address_in(Path(output.name).read_text()), "the dashboard")
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()


def address_in(said: str) -> str | None:
    name, _, address = said.partition(": http://")
    return address.strip() if name == "dashboard" and address.endswith("\n") else None


def ask(
    address: str,
    path: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    login: str | None = None,
) -> tuple[int, str]:
    """Status and body of one request."""
    sent = dict(headers or {})
    if login is not None:
        sent["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    connection = HTTPConnection(address, timeout=20)
    try:
        connection.request(method, path, headers=sent)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def put_job(client: redis.Redis, job_id: str, payload: bytes, status: str = "queued") -> None:
    """A job as anybody with access to the server can write it."""
    fields: dict[Any, Any] = {
        "data": payload,
        "origin": "backscroll",
        "status": status,
        "description": HOSTILE,
        "created_at": "2026-11-21T08:00:00.000000Z",
    }
    client.hset(Job.key_for(job_id), mapping=fields)
    client.sadd("rq:queues", "rq:queue:backscroll")
    if status == "failed":
        client.zadd("rq:failed:backscroll", {job_id: time.time() + 1_000})
    else:
        client.rpush("rq:queue:backscroll", job_id)


def failed_ids(client: redis.Redis) -> list[str]:
    return FailedJobRegistry("backscroll", connection=client).get_job_ids(cleanup=False)


def queued_ids(client: redis.Redis) -> list[str]:
    return Queue("backscroll", connection=client).get_job_ids()


def test_the_page_shows_queue_worker_and_failed_job_and_its_button_requeues_it(
    settings: Settings, server_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    with (
        running_worker(settings, client, tmp_path / "log"),
        dashboard(server_url, "opensesame") as address,
        chromium(tmp_path / "profile") as chrome,
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

        chrome.find_element(By.LINK_TEXT, "Workers").click()
        wait_for_text(chrome, "tr[data-role=worker]", "backscroll-", "idle")
        chrome.save_screenshot(str(tmp_path / "workers.png"))

        look_at_the_failed_job(chrome, address, tmp_path)
        chrome.find_element(By.CSS_SELECTOR, "[data-role=requeue-job-btn]").click()
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
    assert chrome.find_element(By.ID, "requeue-job-btn").is_displayed()
    assert_harmless(chrome)
    chrome.save_screenshot(str(tmp_path / "job.png"))

    chrome.get(f"http://{address}/0/view/jobs/backscroll/failed/8/asc/1")
    wait_for_text(
        chrome, "tr[data-role=job]", "bad-job", "is not a function a job may call", HOSTILE
    )
    assert_harmless(chrome)
    chrome.save_screenshot(str(tmp_path / "failed.png"))


def assert_harmless(chrome: Chrome) -> None:
    assert chrome.find_elements(By.CSS_SELECTOR, "img[src=x]") == []
    assert chrome.execute_script("return window.hacked === undefined")


def test_a_session_key_in_a_cleanups_result_is_shown_as_text(
    settings: Settings, server_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    with running_worker(settings, client, tmp_path / "log"), Producer(server_url) as producer:
        producer.append(HOSTILE, ChatMessage.user("hello"), ack="stored")
        assert producer.cleanup(ttl_hours=0).keys == (HOSTILE,)
        (job_id,) = Queue("backscroll", connection=client).finished_job_registry.get_job_ids()
    with dashboard(server_url) as address, chromium(tmp_path / "profile") as chrome:
        chrome.get(f"http://{address}/0/view/job/{job_id}")
        wait_for_text(chrome, "#job-data", "finished", HOSTILE)
        assert_harmless(chrome)


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


def test_a_web_site_that_the_operator_visits_cannot_press_buttons(
    server_url: str, client: redis.Redis
) -> None:
    put_job(client, "bad-job", b"[]", "failed")
    with dashboard(server_url) as address:
        assert ask(address, "/job/bad-job/requeue", "POST")[0] == 403
        assert ask(address, "/job/bad-job/delete", "POST")[0] == 403
        assert ask(address, "/requeue/backscroll")[0] == 403
        foreign = {"Host": "rebound.example", **FROM_THE_PAGE}
        assert ask(address, "/job/bad-job/requeue", "POST", foreign)[0] == 403
        assert failed_ids(client) == ["bad-job"]
        assert ask(address, "/job/bad-job/requeue", "POST", FROM_THE_PAGE)[0] == 200
        assert queued_ids(client) == ["bad-job"]


def test_what_waits_to_be_stored_cannot_be_thrown_away_or_reordered(
    server_url: str, client: redis.Redis
) -> None:
    with Producer(server_url) as producer:
        kept = producer.append("web/1", ChatMessage.user("hello")).op_id
    with dashboard(server_url) as address:
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
    registry: str, server_url: str, client: redis.Redis
) -> None:
    put_job(client, "other", b"[]", "failed")
    with Producer(server_url) as producer:
        kept = producer.append("web/1", ChatMessage.user("hello")).op_id
    client.zadd(f"rq:{registry}:backscroll", {kept: time.time() + 1_000})
    with dashboard(server_url) as address:
        for status in ("queued", "failed"):
            client.hset(Job.key_for(kept), "status", status)
            assert ask(address, f"/job/{kept}/delete", "POST", FROM_THE_PAGE)[0] == 403
            empty = f"/queue/backscroll/{registry}/empty"
            assert ask(address, empty, "POST", FROM_THE_PAGE)[0] == 200
        assert queued_ids(client) == [kept]
        assert client.hexists(Job.key_for(kept), "data")
        assert client.zcard(f"rq:{registry}:backscroll") == 0
        assert client.exists(Job.key_for("other")) == (registry != "failed")


def test_failed_jobs_can_be_requeued_and_deleted_one_by_one_and_all_at_once(
    server_url: str, client: redis.Redis
) -> None:
    payload = b'["worker.jobs.nothing",null,[],{}]'
    for number in range(4):
        put_job(client, f"bad-{number}", payload, "failed")
    with dashboard(server_url) as address:
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


def test_a_pickle_in_a_job_is_never_loaded(
    server_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    bomb = pickle.dumps(Bomb(trap))
    paths = ("/0/view/job/bad-job", "/0/data/job/bad-job.json")
    changes = ("/job/bad-job/requeue", "/requeue/backscroll", "/job/bad-job/delete")
    with dashboard(server_url) as address:
        for path, method in [*((p, "GET") for p in paths), *((p, "POST") for p in changes)]:
            put_job(client, "bad-job", bomb, "failed")
            client.hset(Job.key_for("bad-job"), mapping={"result": bomb, "meta": bomb})
            ask(address, path, method, FROM_THE_PAGE)
            assert not trap.exists(), path


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trap,))


def test_the_workers_page_holds_while_a_worker_shows_its_current_job(
    server_url: str, client: redis.Redis
) -> None:
    with Producer(server_url) as producer:
        op_id = producer.append("web/1", ChatMessage.user("hello")).op_id
    worker = SimpleWorker(["backscroll"], connection=client, serializer=OrjsonSerializer)
    worker.register_birth()  # type: ignore[no-untyped-call]
    worker.set_current_job_id(op_id)
    with dashboard(server_url) as address:
        status, body = ask(address, "/0/data/workers.json")
    assert status == 200
    assert json.loads(body)["workers"][0]["current_job"]["job_id"] == op_id


def test_a_killed_worker_is_off_the_workers_page_within_half_a_minute(
    settings: Settings, server_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    def shown(address: str) -> list[str]:
        status, body = ask(address, "/0/data/workers.json")
        assert status == 200
        return [each["name"] for each in json.loads(body)["workers"]]

    with dashboard(server_url) as address:
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


PAYLOADS = (
    HOSTILE,
    "');window.hacked=1;//",
    "</script><script>window.hacked=1</script>",
    '"><svg onload=window.hacked=1>',
    "<%window.hacked=1%>",
    "javascript:window.hacked=1",
    "\\\u2028\n{{7*7}}",
)


def test_nothing_that_a_string_can_hold_runs_as_script(
    server_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    for number, payload in enumerate(PAYLOADS):
        put_job(client, payload.replace("/", "|"), payload.encode(), "failed")
        put_job(client, f"odd-{number}", payload.encode(), "failed")
        fields: dict[Any, Any] = {
            "description": payload, "exc_info": payload, "result": payload,
        }  # fmt: skip
        client.hset(Job.key_for(f"odd-{number}"), mapping=fields)
        client.sadd("rq:queues", f"rq:queue:{payload}", payload, b"rq:queue:\xff")
        worker = f"rq:worker:{payload}"
        client.sadd("rq:workers", worker)
        client.hset(worker, mapping={"queues": payload, "state": payload, "version": payload})
    with dashboard(server_url) as address, chromium(tmp_path / "profile") as chrome:
        chrome.get(f"http://{address}/")
        wait_for_text(chrome, "table#queues tbody", HOSTILE)
        assert_runs_nothing(chrome)
        chrome.get(f"http://{address}/0/view/workers")
        wait_for_text(chrome, "table#workers tbody", HOSTILE)
        assert_runs_nothing(chrome)
        chrome.get(f"http://{address}/0/view/jobs/backscroll/failed/100/asc/1?q={quote(HOSTILE)}")
        wait_for_text(chrome, "table#jobs tbody", HOSTILE)
        assert_runs_nothing(chrome)
        for payload in PAYLOADS:
            name = quote(payload.replace("/", "|"), safe="")
            chrome.get(f"http://{address}/0/view/jobs/{name}/queued/8/asc/1")
            wait_for_text(chrome, "table#jobs tbody", "No jobs.")
            box = chrome.find_element(By.ID, "select-queue")
            assert chrome.execute_script(
                "arguments[0].value = ''; $(arguments[0]).trigger('mouseleave');"
                " return arguments[0].value",
                box,
            ) == payload.replace("/", "|").replace("\n", "")
            assert_runs_nothing(chrome)
            chrome.get(f"http://{address}/0/view/job/{name}")  # RQ takes no such ids
            assert chrome.find_elements(By.CSS_SELECTOR, "img, svg, script") == []
            chrome.get_log("browser")  # type: ignore[no-untyped-call]
        for number in range(len(PAYLOADS)):
            chrome.get(f"http://{address}/0/view/job/odd-{number}")
            wait_for_text(chrome, "#job-data", "Status")
            assert_runs_nothing(chrome)


def assert_runs_nothing(chrome: Chrome) -> None:
    assert_harmless(chrome)
    assert chrome.find_elements(By.CSS_SELECTOR, "svg, a[href^='javascript:']") == []
    said = [entry["message"] for entry in chrome.get_log("browser")]  # type: ignore[no-untyped-call]
    assert [line for line in said if "favicon" not in line] == []


def test_the_policy_lets_no_inline_script_run(server_url: str) -> None:
    with dashboard(server_url) as address:
        policies = []
        for _ in range(2):
            with closing(HTTPConnection(address, timeout=20)) as connection:
                connection.request("GET", "/")
                response = connection.getresponse()
                policies.append(response.getheader("Content-Security-Policy") or "")
                assert response.getheader("X-Frame-Options") == "DENY"
                response.read()
    assert policies[0] != policies[1], "each page has a nonce of its own"
    assert "unsafe" not in policies[0]


@pytest.mark.parametrize(
    "path",
    [
        "/0/view/job/nowhere", "/0/data/job/nowhere.json", "/7/view/queues", "/7/data/queues.json",
        "/0/data/jobs/q/odd/8/asc/1.json", "/0/data/jobs/q/failed/0/asc/1.json",
        "/0/data/jobs/q/failed/x/asc/1.json", "/0/data/jobs/q/failed/8/asc/-1.json",
        "/0/data/jobs/q/failed/8/asc/99999999999999999999999.json", "/0/view/jobs/q/x/8/asc/1",
        "/0/data/jobs/q/failed/8/odd/1.json", "/0/view/job/%00", "/0/view/job/%ff",
        "/0/view/jobs/%ff/queued/8/asc/1", "/0/data/jobs/q%3Aq/queued/8/asc/1.json",
    ],
)  # fmt: skip
def test_no_odd_address_breaks_a_page(path: str, odd_dashboard: str) -> None:
    assert ask(odd_dashboard, path)[0] in (200, 404, 422)


@pytest.fixture(scope="module")
def odd_dashboard(_server: str) -> Iterator[str]:
    with dashboard(_server) as address:
        yield address


def test_a_job_that_cannot_be_read_hides_no_other(server_url: str, client: redis.Redis) -> None:
    put_job(client, "good", b"[]", "failed")
    for name, field in (("a", "created_at"), ("b", "ended_at"), ("c", "timeout"), ("d", "meta")):
        put_job(client, f"bad-{name}", b"\xff\x00", "failed")
        client.hset(Job.key_for(f"bad-{name}"), field, b"\xff odd")
    with dashboard(server_url) as address:
        status, body = ask(address, "/0/data/jobs/backscroll/failed/8/asc/1.json")
        assert status == 200
        assert {"good", "bad-a"} <= {job["id"] for job in json.loads(body)["jobs"]}
        for name in "abcd":
            assert ask(address, f"/0/view/job/bad-{name}")[0] in (200, 422)
            assert ask(address, f"/0/data/job/bad-{name}.json")[0] in (200, 422)


def test_a_key_of_another_kind_or_an_odd_name_hides_nothing_else(
    server_url: str, client: redis.Redis
) -> None:
    for name in ("bad-1", "bad-2", "good"):
        put_job(client, name, b"\xff" if name == "bad-2" else b"[]", "failed")
    odd = ["rq:queue:odd", "rq:finished:backscroll", "rq:worker:odd", "rq:job:odd"]
    client.mset({**dict.fromkeys(odd, "x"), "rq:results:bad-1": "x"})
    client.sadd("rq:queues", "rq:queue:odd")
    client.zadd("rq:failed:backscroll", {"odd": 1})
    client.zadd("rq:failed:backscroll", {b"\xff": 2})
    client.rpush("rq:queue:backscroll", b"\xff", "good")
    client.sadd("rq:workers", *odd, "rq:worker:own", b"\xff")
    client.hset("rq:worker:own", mapping={"queues": "backscroll", "current_job": "bad-2"})
    with dashboard(server_url) as address:

        def shown(page: str) -> str:
            status, body = ask(address, f"/0/data/{page}.json")
            assert status == 200, (page, body)
            return body

        assert {"backscroll", "odd"} <= {q["name"] for q in json.loads(shown("queues"))["queues"]}
        assert "own" in {w["name"] for w in json.loads(shown("workers"))["workers"]}
        assert '"good"' in shown("jobs/backscroll/queued/8/asc/1")
        assert '"good"' in shown("jobs/backscroll/failed/8/asc/1")
        assert shown("jobs/backscroll/finished/8/asc/1")
        for page in ("/", "/0/view/workers", "/0/view/jobs"):
            assert ask(address, page)[0] == 200
        client.hset("rq:job:bad-1", "created_at", "never")
        assert ask(address, "/requeue/backscroll", "POST", FROM_THE_PAGE)[0] == 200
        assert client.lindex("rq:queue:backscroll", -1) == b"good"
        assert client.zscore("rq:failed:backscroll", "good") is None
        put_job(client, "bad-3", b"[]", "failed")
        client.hset("rq:job:bad-3", "group_id", "gone")
        assert ask(address, "/queue/backscroll/failed/empty", "POST", FROM_THE_PAGE)[0] == 200
        assert not client.exists("rq:job:bad-1", "rq:job:bad-3")
        client.set("rq:workers", "x")
        assert ask(address, "/0/view/workers")[0] == 200
