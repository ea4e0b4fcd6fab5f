"""The dashboard runs and loads nothing that somebody wrote, and no odd value breaks a page."""

from __future__ import annotations

import json
import pickle
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from rq import Queue
from rq.job import Job
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from backscroll import ChatMessage, Producer
from backscroll_worker.settings import Settings
from tests.browser import wait_for_text
from tests.dashboards import (
    FROM_THE_PAGE,
    HOSTILE,
    Bomb,
    ask,
    assert_harmless,
    failed_ids,
    put_job,
    queued_ids,
)
from tests.processes import running_worker

pytestmark = pytest.mark.slow


@pytest.fixture
def client(server_url: str) -> redis.Redis:
    return redis.Redis.from_url(server_url)


def test_a_session_key_in_a_cleanups_result_is_shown_as_text(
    settings: Settings,
    server_url: str,
    client: redis.Redis,
    tmp_path: Path,
    chrome: Chrome,
    address: str,
) -> None:
    with running_worker(settings, client, tmp_path / "log"), Producer(server_url) as producer:
        producer.append(HOSTILE, ChatMessage.user("hello"), ack="stored")
        assert producer.cleanup(ttl_hours=0).keys == (HOSTILE,)
        (job_id,) = Queue("backscroll", connection=client).finished_job_registry.get_job_ids()
    chrome.get(f"http://{address}/0/view/job/{job_id}")
    wait_for_text(chrome, "#job-data", "finished", HOSTILE)
    assert_harmless(chrome)


def test_a_web_site_that_the_operator_visits_cannot_press_buttons(
    server_url: str, client: redis.Redis, address: str
) -> None:
    put_job(client, "bad-job", b"[]", "failed")
    assert ask(address, "/job/bad-job/requeue", "POST")[0] == 403
    assert ask(address, "/job/bad-job/delete", "POST")[0] == 403
    assert ask(address, "/requeue/backscroll")[0] == 403
    foreign = {"Host": "rebound.example", **FROM_THE_PAGE}
    assert ask(address, "/job/bad-job/requeue", "POST", foreign)[0] == 403
    assert failed_ids(client) == ["bad-job"]
    assert ask(address, "/job/bad-job/requeue", "POST", FROM_THE_PAGE)[0] == 200
    assert queued_ids(client) == ["bad-job"]


def test_a_pickle_in_a_job_is_never_loaded(
    server_url: str, client: redis.Redis, tmp_path: Path, address: str
) -> None:
    trap = tmp_path / "trap"
    bomb = pickle.dumps(Bomb(trap))
    paths = ("/0/view/job/bad-job", "/0/data/job/bad-job.json")
    changes = ("/job/bad-job/requeue", "/requeue/backscroll", "/job/bad-job/delete")
    for path, method in [*((p, "GET") for p in paths), *((p, "POST") for p in changes)]:
        put_job(client, "bad-job", bomb, "failed")
        client.hset(Job.key_for("bad-job"), mapping={"result": bomb, "meta": bomb})
        ask(address, path, method, FROM_THE_PAGE)
        assert not trap.exists(), path


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
    server_url: str, client: redis.Redis, chrome: Chrome, address: str
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


def test_the_policy_lets_no_inline_script_run(server_url: str, address: str) -> None:
    policies = []
    for _ in range(2):
        with closing(HTTPConnection(address, timeout=60)) as connection:
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
def test_no_odd_address_breaks_a_page(path: str, address: str) -> None:
    assert ask(address, path)[0] in (200, 404, 422)


def test_a_job_that_cannot_be_read_hides_no_other(
    server_url: str, client: redis.Redis, address: str
) -> None:
    put_job(client, "good", b"[]", "failed")
    for name, field in (("a", "created_at"), ("b", "ended_at"), ("c", "timeout"), ("d", "meta")):
        put_job(client, f"bad-{name}", b"\xff\x00", "failed")
        client.hset(Job.key_for(f"bad-{name}"), field, b"\xff odd")
    status, body = ask(address, "/0/data/jobs/backscroll/failed/8/asc/1.json")
    assert status == 200
    assert {"good", "bad-a"} <= {job["id"] for job in json.loads(body)["jobs"]}
    for name in "abcd":
        assert ask(address, f"/0/view/job/bad-{name}")[0] in (200, 422)
        assert ask(address, f"/0/data/job/bad-{name}.json")[0] in (200, 422)


def test_a_key_of_another_kind_or_an_odd_name_hides_nothing_else(
    server_url: str, client: redis.Redis, address: str
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
