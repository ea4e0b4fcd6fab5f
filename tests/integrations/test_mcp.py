"""`backscroll mcp` as its clients see it: the SDK's own, and one that sends anything."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from mcp import Client, StdioServerParameters

from backscroll import ChatMessage, Producer
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import options, run
from tests.prepared import Prepared
from tests.processes import running_worker, stop
from tests.servers import ROOT

pytestmark = pytest.mark.slow

BEGIN = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


def test_a_client_reads_within_the_scope_with_and_without_a_worker(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    with open_tested(settings.store) as store:
        store.append("a", ChatMessage.user("lemons", author="42"))
        store.append("b", ChatMessage.user("SECRET lemons", author="43"))
    program = [sys.executable, "-m", "backscroll_worker.cli", *options(settings)]
    server = StdioServerParameters(
        command=program[0], args=[*program[1:], "mcp", "--author", "42"], cwd=ROOT
    )

    async def talk() -> None:
        async with Client(server) as mcp:
            tools = (await mcp.list_tools()).tools
            assert [each.name for each in tools] == [
                "search_history", "load_session", "list_sessions",
            ]  # fmt: skip
            assert all(each.annotations and each.annotations.read_only_hint for each in tools)
            assert "author" not in tools[0].input_schema["properties"]

            async def call(name: str, **arguments: Any) -> tuple[str, bool]:
                result = await mcp.call_tool(name, arguments)
                (content,) = result.content
                return str(getattr(content, "text", "")), result.is_error

            text, is_error = await call("search_history", query="lemons")
            assert "    lemons" in text
            assert not is_error
            found = await asyncio.gather(
                call("load_session", session="b"),
                call("search_history", query="lemons", author="43"),
                call("search_history", query="lemons", limit=10**9),
                call("search_history", query="lemons", cursor="x"),
                call("append", session="a", content="x"),
            )
            assert all(is_error for _, is_error in found)
            assert "there is no session 'b' here" in found[0][0]
            assert "author: is fixed here" in found[1][0]
            assert "there is no such tool; there are search_history," in found[4][0]
            with (
                running_worker(settings, client, log) as worker,
                Producer(settings.redis_url, ack="stored") as producer,
            ):
                producer.append("a", ChatMessage.user("more lemons", author="42"))
                text, _ = await call("search_history", query="lemons")
                assert "    more lemons" in text
                assert "SECRET" not in text
                assert stop(worker) == 0
            text, _ = await call("list_sessions")
            assert text.startswith("1 session, latest activity first.")

    asyncio.run(talk())
    with open_tested(settings.store, read_only=True) as store:
        assert [info.key for info in store.sessions()] == ["a", "b"]


def test_the_server_survives_what_any_client_sends(settings: Settings) -> None:
    """And writes nothing but answers on standard output, also where it cannot read anything."""
    lines = [
        b"\xff\xfe not JSON",
        b"[" * 100_000,
        request(1, "initialize", BEGIN),
        orjson.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        request(2, "nonsense/method", {}),
        request(3, "tools/call", {"name": "search_history", "arguments": "text"}),
        request(4, "tools/call", {"name": "search_history", "arguments": {"query": "x" * 10**6}}),
        request(5, "tools/call", {"name": "search_history", "arguments": {"query": "x"}}),
    ]
    with Prepared(
        [*options(settings), "mcp"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"\n".join([*lines, b""]))
        process.stdin.flush()
        answers: dict[Any, Any] = {}
        while not {1, 2, 3, 4, 5} <= answers.keys():
            answer = orjson.loads(process.stdout.readline())
            answers[answer.get("id")] = answer
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, b"")
    assert answers[2]["error"]
    assert answers[3]["error"]
    text = answers[5]["result"]["content"][0]["text"]
    assert text == "Error: the history cannot be read now; try again later"
    assert answers[5]["result"]["isError"]
    assert b"no worker serves queue" in errors


def test_ctrl_c_ends_the_server_at_once(settings: Settings) -> None:
    with Prepared(
        [*options(settings), "mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(request(1, "initialize", BEGIN) + b"\n")
        process.stdin.flush()
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == ExitCode.INTERRUPTED


def request(number: int, method: str, params: dict[str, Any]) -> bytes:
    document = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    return orjson.dumps(document)


def test_a_scope_of_nothing_is_refused(settings: Settings) -> None:
    result = run(settings, "mcp", "--author", "")
    assert result.exit_code == 2
    assert result.stderr == "backscroll: author: must not be empty\n"


def test_without_the_extra_the_command_says_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "backscroll.integrations.mcp", raising=False)
    monkeypatch.setitem(sys.modules, "anyio", None)
    result = run(settings, "mcp")
    assert result.exit_code == 2
    assert result.stderr.endswith("run pip install 'backscroll[mcp]'\n")
