"""What a job carries, to the letter: as written now, and as by every version so far."""

from __future__ import annotations

import importlib
import inspect
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from backscroll import (
    AsyncProducer,
    Attachment,
    ChatMessage,
    InvalidInputError,
    MalformedJobError,
    Producer,
    SearchFilter,
)
from backscroll import SessionFilter as Sessions
from backscroll.contract.attachment_reading import GetAttachment
from backscroll.contract.codec import decode, encode, mark_spooled
from backscroll.contract.forks import Fork
from backscroll.contract.lifecycle import DeleteSessions, Merge, Rename, Reset, Rewind
from backscroll.contract.message_checks import Limits
from backscroll.contract.messages import from_micros
from backscroll.contract.operations import (
    OPERATIONS,
    Append,
    Backfill,
    Cleanup,
    Clear,
    Compact,
    Delete,
    Describe,
    Erase,
    Operation,
    RenameAgent,
    Replace,
    Restore,
    Rollback,
)
from backscroll.contract.reads import GetMessage, GetSession, ListSessions, Load, Search
from backscroll.contract.requests import Requests
from backscroll.contract.splicing import Pop, Splice
from backscroll.contract.states import GetStates, SetState
from backscroll.contract.tokens import GetUsage
from backscroll.contract.turns import BeginTurn, EndTurn

ID = "0192f0c4a5b77c3e9d1f2a3b4c5d6e7f"
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
HI = ChatMessage("user", "hi")
SAID = {"role": "user", "content": "hi"}
WHOLE = ChatMessage("tool", "", {"a": [1, None]}, None, MOMENT)
FOX = SearchFilter(key="k", role="user", since=MOMENT)

PAYLOADS: list[tuple[str, str, Operation]] = [
    ("append", '{"at":1,"key":"k","messages":[{"role":"user","content":"hi"}]}',
     Append(ID, 1, "k", (HI,))),
    ("append", '{"at":1,"key":"k","messages":[{"role":"tool","content":"","extra":{"a":[1,null]},'
     '"created_at":1767323045678901}],"session":{"name":null,"pinned":true,"state":"idle"}}',
     Append(ID, 1, "k", (WHOLE,), {"name": None, "pinned": True, "state": "idle"})),
    ("append", '{"at":1,"key":"k","messages":[{"role":"user","content":"hi"}],'
     '"session":{"ttl_hours":24.0}}',
     Append(ID, 1, "k", (HI,), {"ttl_hours": 24.0})),
    ("append", '{"at":1,"key":"k","messages":[{"role":"user","content":"hi","author":"a",'
     '"author_name":"A","platform_id":"p","reply_to":"o","tokens":1}],"expect_tail":"",'
     '"turn_id":"t"}',
     Append(ID, 1, "k", (ChatMessage.user("hi", author="a", author_name="A", platform_id="p",
                                          reply_to="o", tokens=1),), None, "", "t")),
    ("append", '{"at":1,"key":"k","messages":[{"role":"system","content":"hi","upto":"m"}]}',
     Append(ID, 1, "k", (ChatMessage.summary("hi", upto="m"),))),
    ("pop", '{"at":1,"key":"k","count":2}', Pop(ID, 1, "k", 2)),
    ("splice", '{"at":1,"key":"k","messages":[],"expect":[],"remove":"all"}',
     Splice(ID, 1, "k", (), expect=(), remove="all")),
    ("splice", '{"at":1,"key":"k","messages":[{"role":"user","content":"hi"}],"session":'
     '{"name":"n"},"expect":["a","b"],"remove":["c"]}',
     Splice(ID, 1, "k", (HI,), {"name": "n"}, expect=("a", "b"), remove=("c",))),
    ("splice", '{"at":1,"key":"k","messages":[{"role":"user","content":"hi"}],"remove":2}',
     Splice(ID, 1, "k", (HI,), remove=2)),
    ("begin_turn", '{"at":1,"key":"k","messages":[{"role":"user","content":"hi"}],'
     '"lease_seconds":2.5,"supersedes":true}',
     BeginTurn(ID, 1, "k", (HI,), lease_seconds=2.5, supersedes=True)),
    ("end_turn", '{"at":1,"key":"k","turn_id":"t","state":"error","remove":["a","b"]}',
     EndTurn(ID, 1, "k", "t", "error", ("a", "b"))),
    ("replace", '{"at":1,"key":"k","message":{"role":"user","content":"hi"},"turn_id":"t"}',
     Replace(ID, 1, "k", HI, turn_id="t")),
    ("append", '{"at":1,"key":"k","messages":[{"role":"user","content":"hi","attachments":['
     '{"kind":"image","name":"a.png","mime_type":"image/png","data":"AP8="},'
     '{"kind":"file","size":3,"url":"https://x","platform_id":"p"},'
     f'{{"kind":"file","sha256":"{"0" * 64}"}}]}}]}}',
     Append(ID, 1, "k", (ChatMessage.user("hi", attachments=[
         Attachment("image", "a.png", "image/png", data=b"\0\xff"),
         Attachment("file", size=3, url="https://x", platform_id="p"),
         Attachment("file", sha256="0" * 64)]),))),
    ("attachment", f'{{"at":1,"key":"k","sha256":"{"0" * 64}"}}',
     GetAttachment(ID, 1, "k", "0" * 64)),
    ("append", '{"at":1,"key":"k","messages":[{"role":"user","content":"hi"}],"places":[2]}',
     Append(ID, 1, "k", (HI,), places=(2,))),
    ("backfill", '{"at":1,"key":"k","messages":[{"role":"user","content":"hi","created_at":2,'
     '"platform_id":"p"}],"session":{"name":"N"}}',
     Backfill(ID, 1, "k", (ChatMessage.user("hi", platform_id="p", created_at=from_micros(2)),),
              {"name": "N"})),
    ("merge", '{"at":1,"key":"k","into":"n"}', Merge(ID, 1, "k", "n")),
    ("reset", '{"at":1,"key":"k"}', Reset(ID, 1, "k")),
    ("rename", '{"at":1,"key":"k","new_key":"n"}', Rename(ID, 1, "k", "n")),
    ("fork", '{"at":1,"key":"k","new_key":"n"}', Fork(ID, 1, "k", "n")),
    ("fork", '{"at":1,"key":"k","new_key":"n","upto":"m"}', Fork(ID, 1, "k", "n", "m")),
    ("fork", '{"at":1,"key":"k","new_key":"n","upto_platform_id":"p"}',
     Fork(ID, 1, "k", "n", upto_platform_id="p")),
    ("rewind", '{"at":1,"key":"k","to":"m"}', Rewind(ID, 1, "k", "m")),
    ("rollback", '{"at":1,"key":"k"}', Rollback(ID, 1, "k")),
    ("rollback", '{"at":1,"key":"k","message_id":"m"}', Rollback(ID, 1, "k", "m")),
    ("replace", '{"at":1,"key":"k","message":{"role":"user","content":"hi"}}',
     Replace(ID, 1, "k", HI)),
    ("replace", '{"at":1,"key":"k","message":{"role":"user","content":"hi"},"message_id":"m"}',
     Replace(ID, 1, "k", HI, "m")),
    ("rollback", '{"at":1,"key":"k","platform_id":"p"}', Rollback(ID, 1, "k", platform_id="p")),
    ("replace", '{"at":1,"key":"k","message":{"role":"user","content":"hi"},"platform_id":"p"}',
     Replace(ID, 1, "k", HI, platform_id="p")),
    ("clear", '{"at":1,"key":"k"}', Clear(ID, 1, "k")),
    ("delete", '{"at":1,"key":"k"}', Delete(ID, 1, "k")),
    ("delete_sessions", '{"at":1,"prefix":"k"}', DeleteSessions(ID, 1, "k")),
    ("describe", '{"at":1,"key":"k","attributes":{"agent":null,"state":"running"}}',
     Describe(ID, 1, "k", {"agent": None, "state": "running"})),
    ("describe", '{"at":1,"key":"k","attributes":{"meta":{"a":1,"b":null,"c":true}}}',
     Describe(ID, 1, "k", {"meta": {"a": 1, "b": None, "c": True}})),
    ("set_state", '{"at":1,"key":"k","value":{"a":[null]},"name":"n","expect":0}',
     SetState(ID, 1, "k", {"a": [None]}, "n", 0)),
    ("set_state", '{"at":1,"key":"k","name":"default"}', SetState(ID, 1, "k")),
    ("states", '{"at":1,"key":"k"}', GetStates(ID, 1, "k")),
    ("states", '{"at":1,"key":"k","name":"n"}', GetStates(ID, 1, "k", "n")),
    ("rename_agent", '{"at":1,"old":"a"}', RenameAgent(ID, 1, "a")),
    ("rename_agent", '{"at":1,"old":"a","new":"b"}', RenameAgent(ID, 1, "a", "b")),
    ("load", '{"at":1,"key":"k"}', Load(ID, 1, "k")),
    ("load", '{"at":1,"key":"k","limit":5,"before":"m","include_edits":true}',
     Load(ID, 1, "k", 5, "m", include_edits=True)),
    ("load", '{"at":1,"key":"k","around":"m"}', Load(ID, 1, "k", around="m")),
    ("load", '{"at":1,"key":"k","after":"m","since":1767323045678901,"until":1767323045678901,'
     '"role":"user","author":"ann","legal":true,"max_tokens":9}',
     Load(ID, 1, "k", after="m", since=MOMENT, until=MOMENT, role="user", author="ann",
          legal=True, max_tokens=9)),
    ("load", '{"at":1,"key":"k","active":true}', Load(ID, 1, "k", active=True)),
    ("load", '{"at":1,"key":"k","before_platform_id":"p"}',
     Load(ID, 1, "k", before_platform_id="p")),
    ("load", '{"at":1,"key":"k","around_platform_id":"p"}',
     Load(ID, 1, "k", around_platform_id="p")),
    ("load", '{"at":1,"key":"k","limit":2,"oldest":true}', Load(ID, 1, "k", 2, oldest=True)),
    ("get", '{"at":1,"message_id":"m"}', GetMessage(ID, 1, "m")),
    ("session", '{"at":1,"key":"k"}', GetSession(ID, 1, "k")),
    ("sessions", '{"at":1,"where":{},"limit":100}', ListSessions(ID, 1, Sessions(), 100)),
    ("sessions", '{"at":1,"where":{"state":"idle","pinned":false,"stuck_seconds":1.5,'
     '"active_since":1767323045678901},"limit":9,"cursor":"c"}',
     ListSessions(ID, 1, Sessions(state="idle", pinned=False, stuck_seconds=1.5,
                                  active_since=MOMENT), 9, "c")),
    ("sessions", '{"at":1,"where":{"meta":{"a":0.5}},"limit":9}',
     ListSessions(ID, 1, Sessions(meta={"a": 0.5}), 9)),
    ("sessions", '{"at":1,"where":{"prefix":"k%"},"limit":9}',
     ListSessions(ID, 1, Sessions(prefix="k%"), 9)),
    ("search", '{"at":1,"query":"fox","where":{},"limit":20}',
     Search(ID, 1, "fox", SearchFilter(), 20)),
    ("search", '{"at":1,"query":"","where":{"key":"k","role":"user","since":1767323045678901},'
     '"limit":20,"by_session":true,"cursor":"c"}', Search(ID, 1, "", FOX, 20, True, "c")),
    ("search", '{"at":1,"query":"fox","where":{},"limit":20,"within":"extra"}',
     Search(ID, 1, "fox", SearchFilter(), 20, within="extra")),
    ("usage", '{"at":1,"where":{"key":"k","role":"user","since":1767323045678901}}',
     GetUsage(ID, 1, FOX)),
    ("cleanup", '{"at":1}', Cleanup(ID, 1)),
    ("cleanup", '{"at":1,"ttl_hours":24.0,"dry_run":true}', Cleanup(ID, 1, 24.0, dry_run=True)),
    ("restore", '{"at":1,"key":"k"}', Restore(ID, 1, "k")),
    ("restore", '{"at":1,"key":"k","into":"n","file":"f","pin":true}',
     Restore(ID, 1, "k", "n", "f", pin=True)),
    ("compact", '{"at":1}', Compact(ID, 1)),
    ("erase", '{"at":1,"sender":"ann"}', Erase(ID, 1, sender="ann")),
    ("erase", '{"at":1,"author":"42"}', Erase(ID, 1, author="42")),
]  # fmt: skip

# As earlier versions wrote them: what is false was said, and a whole number of hours.
EARLIER: list[tuple[str, str, Operation]] = [
    ("load", '{"at":1,"key":"k","limit":5,"include_edits":false}', Load(ID, 1, "k", 5)),
    ("search", '{"at":1,"query":"fox","where":{},"limit":20,"by_session":false}',
     Search(ID, 1, "fox", SearchFilter(), 20)),
    ("cleanup", '{"at":1,"ttl_hours":24,"dry_run":false}', Cleanup(ID, 1, 24.0)),
    ("restore", '{"at":1,"key":"k","pin":false}', Restore(ID, 1, "k")),
    ("rollback", '{"at":1,"key":"k","message_id":null}', Rollback(ID, 1, "k")),
    ("append", '{"messages":[{"content":"hi","role":"user"}],"key":"k","at":1}',
     Append(ID, 1, "k", (HI,))),
]  # fmt: skip


def payload(function: str, arguments: str) -> bytes:
    return f'["{function}",null,[],{arguments}]'.encode()


@pytest.mark.parametrize(("kind", "arguments", "operation"), PAYLOADS)
def test_a_payload_is_written_to_the_letter(
    kind: str, arguments: str, operation: Operation
) -> None:
    assert encode(operation) == payload(f"backscroll_worker.jobs.{kind}", arguments)


@pytest.mark.parametrize("prefix", ["backscroll_worker.jobs.", "worker.jobs."])
@pytest.mark.parametrize(("kind", "arguments", "operation"), [*PAYLOADS, *EARLIER])
def test_payloads_of_every_version_are_read(
    kind: str, arguments: str, operation: Operation, prefix: str
) -> None:
    read = decode(ID, payload(prefix + kind, arguments))
    assert (type(read), read) == (type(operation), operation)
    assert not read.was_spooled
    assert decode(ID, payload(prefix + kind, arguments) + b" ").was_spooled


def test_every_operation_has_a_payload_here_a_job_function_and_a_call() -> None:
    jobs = importlib.import_module("backscroll_worker.jobs")
    kinds = {kind for kind, _, _ in PAYLOADS}
    assert kinds == set(OPERATIONS) == {each.kind for each in OPERATIONS.values()}
    for kind in OPERATIONS:
        assert inspect.isfunction(getattr(jobs, kind))
        call = {"delete_sessions": "delete"}.get(kind, kind)
        assert inspect.isfunction(getattr(Producer, call))
        assert inspect.iscoroutinefunction(getattr(AsyncProducer, call))


@pytest.mark.parametrize(("kind", "arguments", "operation"), PAYLOADS)
def test_an_operation_that_is_sent_again_is_the_same(
    kind: str, arguments: str, operation: Operation
) -> None:
    again = Requests(Limits()).again(operation)
    late = decode(operation.op_id, mark_spooled(encode(operation)))
    assert (again, again.kind, again is operation) == (late, kind, False)
    assert again.was_spooled
    assert orjson.dumps(again.arguments()).decode() == arguments


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        ("sessions", {"at": 1, "where": {"nick": "x"}, "limit": 1}, "unknown field 'nick'; if a"),
        ("sessions", {"at": 1, "where": [], "limit": 1}, "where: must be of type dict, not list"),
        ("sessions", {"at": 1, "where": {"state": "busy"}, "limit": 1}, "state: must be one of"),
        ("search", {"at": 1, "where": {"since": 10**18}, "query": "", "limit": 1}, "since: must"),
        (
            "search",
            {"at": 1, "where": {}, "query": "", "limit": 1, "within": "x"},
            "within: must be",
        ),
        (
            "search",
            {"at": 1, "where": {}, "query": "", "limit": 1, "within": "extra", "by_session": True},
            "within: cannot be combined",
        ),
        ("search", {"at": 1, "where": {}, "query": 7, "limit": 1}, "query: must be text, not int"),
        ("search", {"at": 1, "where": {}, "query": "x", "limit": 1_001}, "limit: must be at most"),
        ("load", {"at": 1, "key": "k", "before": "a", "around": "b"}, "cannot be given together"),
        (
            "load",
            {"at": 1, "key": "k", "before": "a", "before_platform_id": "b"},
            "before_platform",
        ),
        ("rollback", {"at": 1, "key": "k", "message_id": "a", "platform_id": "b"}, "platform_id:"),
        ("load", {"at": 1, "key": "k", "include_edits": 1}, "include_edits: must be true or false"),
        ("load", {"at": 1, "key": "k", "legal": "yes"}, "legal: must be true or false"),
        ("load", {"at": 1, "key": "k", "max_tokens": 0}, "max_tokens: must be a whole number"),
        ("load", {"at": 1, "key": "k", "active": True, "role": "a"}, "cannot be given together"),
        ("load", {"at": 1, "key": "k", "active": True, "oldest": True}, "cannot be given together"),
        ("load", {"at": 1, "key": "k", "around": "m", "oldest": True}, "cannot be given together"),
        ("erase", {"at": 1, "key": "k", "room": "r"}, "name either a session key, a sender, a"),
        ("append", {"at": 1, "key": "k", "messages": [SAID], "places": []}, "as many as the"),
        ("append", {"at": 1, "key": "k", "messages": [SAID], "places": [-1]}, "ascending whole"),
        ("append", {"at": 1, "key": "k", "messages": [SAID], "places": [True]}, "ascending whole"),
        ("append", {"at": 1, "key": "k", "messages": [SAID] * 2, "places": [1, 1]}, "ascending"),
        ("append", {"at": 1, "key": "k", "messages": []}, "give at least one message"),
        ("pop", {"at": 1, "key": "k", "count": 0}, "count: must be a whole number from 1"),
        ("pop", {"at": 1, "key": "k", "count": 101}, "count: must be at most 100"),
        ("splice", {"at": 1, "key": "k", "messages": []}, "at least one, or what to remove"),
        *(
            ("splice", {"at": 1, "key": "k", "messages": [SAID], **each}, words)
            for each, words in (
                ({"remove": -1}, "remove: must be a whole number"),
                ({"remove": True}, "remove: must be a whole number"),
                ({"remove": "some"}, "remove: must be a whole number"),
                ({"remove": 2**62}, "remove: must be a whole number"),
                ({"remove": {"a": 1}}, "remove: must be ids of messages, not dict"),
                ({"remove": [7]}, "remove: must be text, not int"),
                ({"remove": ["x"] * 5_001}, "remove: has 5,001 ids; the limit is 5,000"),
                ({"expect": 7}, "expect: must be ids of messages, not 7"),
                ({"expect": [""]}, "expect: must not be empty"),
                ({"expect_tail": "x"}, "expect_tail: is not for a splice"),
            )
        ),
        ("append", {"at": 1, "key": "k", "messages": [{"role": "user"}]}, "content: is missing"),
        *(
            ("append", {"at": 1, "key": "k", "messages": [{**SAID, "attachments": each}]}, words)
            for each, words in (
                ({"kind": "x"}, "attachments: must be a list of objects"),
                (["x"], "attachments: must be a list of objects"),
                ([{"kind": "x", "codec": 1}], "unknown field 'codec'; if a newer producer"),
                ([{}], "kind: must be text"),
                ([{"kind": 1}], "kind: must be text"),
                ([{"kind": "x"}] * 33, "attachments: are 33"),
                ([{"kind": "x", "url": "u" * 4097}], "url: has 4,097"),
                ([{"kind": "x", "size": -1}], "size: must be a whole number"),
                ([{"kind": "x", "size": True}], "size: must be a whole number"),
                ([{"kind": "x", "data": "A"}], "data: is not base64"),
                ([{"kind": "x", "data": 7}], "data: is not base64"),
                ([{"kind": "x", "data": "AA==", "size": 2}], "size: is 2, and data has 1"),
                ([{"kind": "x", "data": "AA==", "sha256": "0" * 64}], "sha256: is not that of"),
                ([{"kind": "x", "sha256": "../x"}], "sha256: must be a SHA-256"),
            )
        ),
        ("attachment", {"at": 1, "key": "k", "sha256": "x"}, "sha256: must be a SHA-256"),
        ("replace", {"at": 1, "key": "k"}, "message: is missing"),
        ("compact", {"at": True}, "at: must be microseconds"),
        ("compact", {"at": 1, "was_spooled": True}, "unknown argument 'was_spooled'"),
        ("compact", {"at": 1, "op_id": "x"}, "unknown argument 'op_id'"),
        ("import_session", {"at": 1}, "not a function a job may call; if a newer producer"),
    ],
)
def test_a_payload_that_does_not_fit_says_where(
    kind: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(MalformedJobError, match=words):
        decode(ID, payload(f"backscroll_worker.jobs.{kind}", orjson.dumps(arguments).decode()))


def test_what_a_filter_says_is_checked_the_same_for_both_calls() -> None:
    requests, naive = Requests(Limits()), MOMENT.replace(tzinfo=None)
    with pytest.raises(InvalidInputError, match=r"^active_since: must be a datetime with a time"):
        requests.sessions({"active_since": naive}, 1, None)
    with pytest.raises(InvalidInputError, match=r"^since: must be a datetime with a time"):
        requests.search("", None, 1, given={"since": naive})
    with pytest.raises(InvalidInputError, match=r"^role: must not be empty"):
        requests.search("", SearchFilter(role=""), 1)
