"""Hostile input stays data, and nobody's words or passwords get where they do not belong."""

from __future__ import annotations

import json
import pickle
import traceback
import zlib
from base64 import b64decode
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
import redis

from backscroll import ChatMessage, InvalidInputError, Producer
from backscroll.contract.errors import BackscrollError, InvalidSettingError
from backscroll.transport.connection import hide_password
from backscroll.transport.rq_protocol import own_key
from backscroll_worker.ops.server import running_server
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import done, run
from tests.dashboards import Bomb, ask, dashboard
from tests.processes import (
    burst,
    contents,
    depth,
    running_worker,
    spawn,
    stop,
    wait_for,
    workers,
)
from tests.test_bad_jobs import push

HTML: Final = "<script>alert(1)</script><img src=x onerror=alert(2)>"
HOSTILE_KEYS: Final = (
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    "a/../../b",
    HTML,
    "$(touch trap)",
    "`touch trap`; touch trap",
    "%s %(name)s {0} %n",
    "'; DROP TABLE sessions; --",
    "\u2028[31mred\u202e",
    "rq:queue:backscroll",
)
STORES: Final = {"sqlite": "sqlite://{}/store/backscroll.db", "jsonl": "jsonl://{}/store"}


@pytest.fixture(params=STORES)
def stored_in(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Settings:
    """Settings for each kind of store, in a directory of its own."""
    (tmp_path / "store").mkdir()
    return settings.with_options(store=STORES[request.param].format(tmp_path))


def failed_ids(client: redis.Redis) -> set[str]:
    ids: Any = client.zrange("rq:failed:backscroll", 0, -1)
    return {job_id.decode() for job_id in ids}


def test_no_function_import_path_or_pickle_is_run(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    bomb = pickle.dumps(Bomb(trap))
    calls = [
        ["os.system", None, [f"touch {trap}"], {}],
        ["os.system", None, [], {"command": f"touch {trap}"}],
        ["pathlib.Path.touch", None, [str(trap)], {}],
        ["builtins.exec", None, [f"open({str(trap)!r}, 'w')"], {}],
        ["backscroll_worker.jobs.os.system", None, [f"touch {trap}"], {}],
        ["tests.test_dashboard.Bomb", None, [str(trap)], {}],
        ["backscroll_worker.cli.main", None, [["worker"]], {}],
        ["touch", str(trap), [], {}],
    ]
    payloads = [bomb, zlib.compress(bomb), *calls]
    expected = set()
    for payload in payloads:
        producer.append("k", ChatMessage.user("good"))
        job_id = push(client, payload)
        expected.add(job_id)
        others: dict[Any, Any] = dict.fromkeys(("result", "meta", "exc_info", "instance"), bomb)
        others |= {"success_callback_name": "os.abort", "failure_callback_name": "os.abort"}
        client.hset(f"rq:job:{job_id}", mapping=others)
    assert burst(settings, log) == 0
    assert failed_ids(client) == expected
    assert contents(settings, "k") == ["good"] * len(payloads)
    assert not trap.exists()


def test_hostile_keys_stay_data_in_store_and_log(
    stored_in: Settings, client: redis.Redis, log: Path, tmp_path: Path
) -> None:
    before = {path for path in tmp_path.rglob("*") if "store" not in path.parts}
    with running_worker(stored_in, client, log, BACKSCROLL_LOG_LEVEL="DEBUG") as process:
        with Producer(stored_in.redis_url, timeout_seconds=60) as producer:
            for key in HOSTILE_KEYS:
                producer.append(key, ChatMessage.user(f"said in {key}", note=key))
                producer.describe(key, name=key, agent=key, channel=key, room=key, sender=key)
                producer.replace(key, ChatMessage.user(f"meant in {key}"), ack="stored")
            found = {info.key: info.agent for info in producer.sessions().sessions}
            assert found == {key: key for key in HOSTILE_KEYS}
            for key in HOSTILE_KEYS:
                assert [message.content for message in producer.load(key)] == [f"meant in {key}"]
                assert producer.search("meant")
                shown = done(stored_in, "load", "--", key)
                assert all(sign not in shown for sign in ("\x1b", "\u2028", "\u202e"))
        assert stop(process) == 0
    outside = {path for path in tmp_path.rglob("*") if "store" not in path.parts}
    assert outside - before == {log}
    assert not (Path.cwd() / "trap").exists()
    lines = log.read_bytes().split(b"\n")[:-1]
    assert all(line.startswith(b"20") for line in lines)
    with open_tested(stored_in.store, read_only=True) as store:
        assert store.verify() == []


@pytest.mark.parametrize(
    "key", ["a\0b", "a\nb", "a\rb", "\x1b[2J", "a\x7f", "", "x" * 513, "\ud800"]
)
def test_keys_with_control_characters_are_refused_on_both_sides(
    key: str, stored_in: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    with pytest.raises(InvalidInputError, match="key"):
        producer.append(key, ChatMessage.user("hello"))
    arguments = {"key": key, "at": 1, "messages": [{"role": "user", "content": "hello"}]}
    lone = b'"\\ud800"' if key == "\ud800" else None
    payload = orjson.dumps(
        ["backscroll_worker.jobs.append", None, [], {**arguments, "key": "KEY" if lone else key}]
    )
    job_id = push(client, payload.replace(b'"KEY"', lone) if lone else payload)
    client.rpush("rq:queue:backscroll", "id\nforged line \x1b[2J")
    function = push(client, ["x\nforged line", None, [], {}])
    assert burst(stored_in, log) == 0
    assert failed_ids(client) == {job_id, function}
    said = log.read_text()
    assert said.count("forged line") == 2
    assert all(line.startswith("20") for line in said.splitlines())
    assert "\x1b" not in said
    with open_tested(stored_in.store, read_only=True) as store:
        assert store.sessions().sessions == ()


def test_html_in_session_agent_and_job_is_never_part_of_a_page(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    producer.append(HTML, ChatMessage.user(HTML, note=HTML))
    producer.describe(HTML, agent=HTML, name=HTML)
    producer.rename_agent(HTML, f"{HTML}2")
    bad = push(
        client, ["backscroll_worker.jobs.clear", None, [], {"key": HTML, "at": 1, HTML: HTML}]
    )
    bad_function = push(client, [HTML, None, [], {"key": HTML}])
    for job_id in (bad, bad_function):
        fields: dict[Any, Any] = {"description": HTML, "created_at": "2026-11-21T08:00:00.000000Z"}
        client.hset(f"rq:job:{job_id}", mapping=fields)
    client.sadd("rq:queues", "rq:queue:backscroll")
    with dashboard(producer.url) as address:
        queued = look_through(address, "queued", producer_jobs(client))
        assert all(
            HTML not in job["description"] for job in queued if job["id"] not in (bad, bad_function)
        )
        assert burst(settings, log) == 0
        failed = look_through(address, "failed", [bad, bad_function])
        assert {job["id"] for job in failed} == {bad, bad_function}
        assert all("<script>" in job["exc_info"] for job in failed)


def producer_jobs(client: redis.Redis) -> list[str]:
    ids: Any = client.lrange("rq:queue:backscroll", 0, -1)
    return [job_id.decode() for job_id in ids]


def look_through(address: str, registry: str, job_ids: list[str]) -> list[dict[str, Any]]:
    """The registry's jobs as the page gets them, after a look at every page."""
    pages = ["/", "/0/view/workers", f"/0/view/jobs/backscroll/{registry}/8/asc/1"]
    for path in [*pages, *(f"/0/view/job/{job_id}" for job_id in job_ids)]:
        status, page = ask(address, path)
        assert status == 200
        assert HTML not in page
        assert "alert(1)" not in page
        # What the script fills into the page comes escaped; see tests/test_dashboard.py.
        assert "<%= " not in page.replace("<%= $(", "")
    status, body = ask(address, f"/0/data/jobs/backscroll/{registry}/8/asc/1.json")
    assert status == 200
    jobs: list[dict[str, Any]] = orjson.loads(body)["jobs"]
    return jobs


WORD: Final = "marzipan"
PASSWORD: Final = "xylophone"
SAID: Final = ChatMessage.user(f"the {WORD} is in the cellar", place={WORD: [WORD]})
# Each with the word where a message's words may stand, and one thing wrong.
LEAKY: Final = (
    {"key": "k", "at": 1, "messages": [{"role": 5, "content": WORD}]},
    {"key": "k", "at": 1, "messages": [{"role": "user", "content": [WORD]}]},
    {"key": "k", "at": 1, "messages": [{"role": "user", "content": {WORD: WORD}}]},
    {"key": "k", "at": 1, "messages": WORD},
    {"key": "k", "at": 1, "messages": [WORD]},
    {"key": "k", "at": 1, "messages": [{"role": "user", "content": "a", "extra": WORD}]},
    {"key": "k", "at": 1, "messages": [{"role": "", "content": WORD, "extra": {"a": WORD}}]},
    {"key": "k", "at": 1, "messages": [{"role": "user", "content": f"{WORD}\ud800"}]},
    {"key": "k\n", "at": 1, "messages": [{"role": "user", "content": WORD}]},
    {"key": "k", "at": WORD, "messages": [{"role": "user", "content": WORD}]},
)


def errors_of(producer: Producer) -> str:
    """What an adapter could log of a call that fails, at its most careless."""
    with pytest.raises(BackscrollError) as caught:
        producer.append("k", SAID)
    error = caught.value
    return "".join([str(error), repr(error), *traceback.format_exception(error)])


def everything_in(client: redis.Redis, *but: bytes) -> bytes:
    """All that the server holds, unpacked, but for the fields named, and for tails."""
    held: list[bytes] = []
    for key in {*client.scan_iter()} - {own_key("backscroll", "tails").encode()}:
        kind: Any = client.type(key)
        if kind == b"hash":
            fields: Any = client.hgetall(key)
            held += [value for name, value in fields.items() if name not in but]
        elif kind == b"stream":
            for _, fields in client.xrange(key):  # type: ignore[union-attr]
                held += fields.values()
                if packed := fields.get(b"exc_string"):
                    held.append(zlib.decompress(b64decode(packed)))
    return b"\n".join(held)


@pytest.mark.parametrize("kind", STORES)
def test_logs_errors_and_redis_carry_no_message_and_no_password(
    kind: str, tmp_path: Path, log: Path
) -> None:
    store = STORES[kind].format(tmp_path)
    (tmp_path / "store").mkdir()
    own = Settings(redis_url=None, data_dir=tmp_path, store=store)
    said: list[str] = []
    with running_server(own) as url, redis.Redis.from_url(url) as admin:
        let_in(admin)
        guarded = url.replace("unix://", f"unix://me:{PASSWORD}@")
        settings = own.with_options(redis_url=guarded)
        process = spawn(settings, "worker", log=log, BACKSCROLL_LOG_LEVEL="DEBUG")
        wait_for(lambda: workers(admin), "the worker")
        try:
            with Producer(guarded, timeout_seconds=60) as producer:
                use_everything(producer)
                jobs = [push(admin, append_call(arguments)) for arguments in LEAKY]
                wait_for(lambda: failed_ids(admin) == set(jobs), "the bad jobs to fail")
                fail_the_store(settings, producer, admin, log)
                for command in ("check", "stats", "failed"):
                    arguments = [command, "list"] if command == "failed" else [command]
                    said.append(run(settings, *arguments).output)
                held = everything_in(admin, b"data")
        except BaseException:
            process.kill()
            raise
    try:
        wait_for(lambda: "the server fails" in log.read_text(), "the worker to notice")
        with Producer(guarded, retries=0) as producer:
            said.append(errors_of(producer))
        said.append(run(settings, "--debug", "append", "k", "user", WORD).output)
        assert "Traceback" in said[-1]
        with running_server(own) as url, redis.Redis.from_url(url) as admin:
            with Producer(guarded, retries=0) as producer:
                said.append(errors_of(producer))
            wait_for(lambda: "invalid username" in log.read_text(), "the refused login")
            let_in(admin)
            wait_for(lambda: depth(admin) == 0 and workers(admin), "the worker to come back")
            assert stop(process) == 0
    finally:
        process.kill()
        process.wait()
    assert b"must be" in held, "the reasons of the bad jobs"
    # Of peewee's see the next test.
    lines = [line for line in log.read_text().splitlines() if " peewee: " not in line]
    for text in (*said, *lines, held.decode(errors="replace")):
        assert WORD not in text
        assert PASSWORD not in text


def test_a_debug_log_carries_no_words_that_were_searched_for(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    with (
        running_worker(settings, client, log, BACKSCROLL_LOG_LEVEL="DEBUG"),
        Producer(settings.redis_url, timeout_seconds=60) as producer,
    ):
        producer.append("k", SAID)
        assert producer.search(WORD)
    assert WORD not in log.read_text()


@pytest.mark.parametrize(
    "message",
    [
        ChatMessage.user(f"{WORD}\ud800"),
        ChatMessage.user(WORD * 200_000),
        ChatMessage.user(WORD, place={WORD}),
        ChatMessage.user([WORD]),  # type: ignore[arg-type]
        ChatMessage("r\n", WORD),
        ChatMessage("user", WORD, extra=WORD),  # type: ignore[arg-type]
    ],
    ids=["surrogate", "too large", "no JSON", "a list", "role", "extra"],
)
def test_a_message_that_is_refused_is_not_quoted(message: ChatMessage, producer: Producer) -> None:
    with pytest.raises(InvalidInputError) as caught:
        producer.append("k", message)
    shown = "".join([repr(caught.value), *traceback.format_exception(caught.value)])
    assert WORD not in shown.replace(repr(message), "")


@pytest.mark.parametrize("sign", "/#?@%:")
def test_a_password_that_breaks_the_url_is_not_shown(sign: str) -> None:
    url = f"redis://me:{PASSWORD}{sign}{PASSWORD}@127.0.0.1:port/0"
    with pytest.raises(InvalidSettingError, match="write / as %2F") as caught:
        Producer(url)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        f"rediss://host:6380/0?ssl_keyfile=own.pem&ssl_password={PASSWORD}",
        f"http://me:pass/{PASSWORD}@host:6379/0",
    ],
)
def test_a_password_in_any_place_of_a_url_is_hidden(url: str) -> None:
    assert PASSWORD not in hide_password(url)


def append_call(arguments: dict[str, Any]) -> bytes:
    return json.dumps(["backscroll_worker.jobs.append", None, [], arguments]).encode()


def let_in(admin: redis.Redis) -> None:
    admin.acl_setuser(
        "me",
        enabled=True,
        passwords=[f"+{PASSWORD}"],
        keys=["*"],
        channels=["*"],
        categories=["+@all"],
    )


def use_everything(producer: Producer) -> None:
    receipt = producer.append("k", SAID, dedup_key="1", ack="stored")
    producer.append("k", SAID, SAID, ack="fsynced")
    producer.replace("k", SAID, receipt.message_ids[0])
    producer.describe("k", agent="a", name="n")
    assert len(producer.load("k")) == 3
    assert producer.search(WORD)
    with pytest.raises(BackscrollError):
        producer.load("k", before="nothing")
    producer.rollback("k", ack="stored")
    producer.clear("other")
    producer.cleanup(1)
    producer.compact()


def fail_the_store(settings: Settings, producer: Producer, admin: redis.Redis, log: Path) -> None:
    path = Path(settings.store.partition("://")[2])
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    producer.append("k", SAID)
    wait_for(lambda: "the store fails" in log.read_text(), "the pause")
    (key,) = workers(admin)
    wait_for(lambda: admin.hget(key.decode(), "store_error"), "its reason")
    assert WORD.encode() not in everything_in(admin, b"data")
    elsewhere.rename(path)
    wait_for(lambda: depth(admin) == 0, "the worker to go on")
