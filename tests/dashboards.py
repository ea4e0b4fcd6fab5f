"""A dashboard as a process, what is asked of it, and jobs to show on it."""

from __future__ import annotations

import os
import signal
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import redis
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.prepared import Prepared
from tests.processes import wait_for

HOSTILE = "<img src=x onerror='window.hacked=1'>"


FROM_THE_PAGE = {"X-Requested-With": "XMLHttpRequest"}


_DASHBOARD = """
import sys
from dataclasses import replace
from backscroll_worker.ops.dashboard import run_dashboard
from backscroll_worker.settings import Settings
run_dashboard(replace(Settings.from_environment(), dashboard_port=0), sys.argv[1])
"""


@contextmanager
def dashboard(url: str, password: str | None = None) -> Iterator[str]:
    """A dashboard's address, while it runs; it has to end well on SIGTERM."""
    environ = {**os.environ, "BACKSCROLL_DASHBOARD_PASSWORD": password or ""}
    with (
        NamedTemporaryFile() as output,
        Prepared(["-c", _DASHBOARD, url], env=environ, stdout=output, stderr=output) as process,
    ):
        try:
            yield wait_for(lambda: address_in(Path(output.name).read_text()), "the dashboard")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
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
    connection = HTTPConnection(address, timeout=60)
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


def assert_harmless(chrome: Chrome) -> None:
    assert chrome.find_elements(By.CSS_SELECTOR, "img[src=x]") == []
    assert chrome.execute_script("return window.hacked === undefined")


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trap,))
