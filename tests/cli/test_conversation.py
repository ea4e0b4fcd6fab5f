"""Messages through the command line: written, read back, searched, deleted."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
import redis

from backscroll import ChatMessage, Producer
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from tests.cli.command import document, done, queued, run, work_off
from tests.processes import running_worker

HOSTILE = "a\x1b[31mred\x07\x9b2J\u202eb"


def test_what_is_appended_is_loaded_back_in_order(settings: Settings, tmp_path: Path) -> None:
    done(settings, "append", "k", "user", "hello", "--extra", '{"id": 1}')
    done(settings, "append", "k", "assistant", "-", given="two\nlines\n")
    work_off(settings, tmp_path)
    first, second = document(settings, "load", "k")
    assert (first["role"], first["content"], first["extra"]) == ("user", "hello", {"id": 1})
    assert (second["role"], second["content"]) == ("assistant", "two\nlines\n")
    shown = done(settings, "load", "k")
    assert shown.index("hello") < shown.index("  two\n  lines")
    assert first["message_id"] in shown
    assert document(settings, "get", first["message_id"]) == {"key": "k", "message": first}
    key, _, *text = done(settings, "get", second["message_id"]).splitlines()
    assert (key, text) == ("k", ["  two", "  lines", "  "])
    assert run(settings, "get", "unknown").exit_code == ExitCode.FAILED


def test_an_append_gives_all_that_a_message_can_have(settings: Settings, tmp_path: Path) -> None:
    picture, unknown = tmp_path / "Füße.png", tmp_path / "-notes"
    picture.write_bytes(b"png")
    unknown.write_bytes(b"")
    attached = ("--attach", str(picture), "--attach", str(unknown))
    done(settings, "append", "k", "user", "hello", "--tokens", "5", *attached)
    work_off(settings, tmp_path)
    (first,) = document(settings, "load", "k")
    assert first["tokens"] == 5
    image, file = first["attachments"]
    assert (image["kind"], image["name"], image["mime_type"]) == ("image", "Füße.png", "image/png")
    assert (file["kind"], file["name"], file["size"]) == ("file", "-notes", 0)
    done(settings, "append", "k", "system", "in short", "--upto", first["message_id"])
    edit = ("replace", "k", "user", "hi", "--message-id", first["message_id"], "--tokens", "2")
    done(settings, *edit, "--dedup-key", "edit 1")
    done(settings, *edit[:3], "hello", *edit[4:6])
    done(settings, *edit, "--dedup-key", "edit 1")
    work_off(settings, tmp_path)
    assert [each["content"] for each in document(settings, "load", "k", "--active")] == ["in short"]
    edited, _ = document(settings, "load", "k")
    assert (edited["content"], edited["tokens"]) == ("hello", 2)
    for wrong in (("--tokens", "-1"), ("--attach", str(tmp_path)), ("--upto", "")):
        refused = run(settings, "append", "k", "user", "hello", *wrong)
        assert (refused.exit_code, wrong[0][2:] in refused.stderr) == (ExitCode.USAGE, True)


def test_an_append_under_a_condition_says_that_it_did_not_hold(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    with running_worker(settings, client, tmp_path / "worker.log"):
        begun = ("append", "k", "user", "first", "--expect-tail", "")
        assert "stored, 1 message" in done(settings, *begun)
        refused = run(settings, *begun)
    assert (refused.exit_code, "last message" in refused.stderr) == (ExitCode.FAILED, True)


def test_a_history_for_a_model_is_shown_as_it_would_get_it(
    settings: Settings, tmp_path: Path
) -> None:
    with Producer(settings.redis_url) as producer:
        call = ChatMessage.assistant("", tool_calls=[{"id": "c1"}], tokens=5)
        result = ChatMessage.tool("3", tool_call_id="c1", tokens=5)
        hello = ChatMessage.user("hello", author="42", tokens=5)
        first, *_ = producer.append("k", hello, call, result, call).message_ids
        producer.append("k", ChatMessage.summary("short", upto=first))
    work_off(settings, tmp_path)

    def contents(*options: str) -> list[str]:
        return [each["content"] for each in document(settings, "load", "k", *options)]

    assert contents("--limit", "3", "--legal") == ["", "short"]
    assert contents("--max-tokens", "12") == ["3", "", "short"]
    assert contents("--after", first, "--limit", "1") == [""]
    assert contents("--oldest", "--limit", "2") == ["hello", ""]
    assert contents("--active", "--max-tokens", "8") == ["short", ""]
    assert contents("--author", "42", "--since", "yesterday") == ["hello"]
    assert contents("--role", "tool", "--until", "2020-01") == []
    shown = run(settings, "load", "k", "--legal")
    assert "tool calls without a result: c1" in shown.stderr
    assert "has no such messages" in run(settings, "load", "k", "--role", "nobody").stderr


def test_tokens_are_added_up_by_role_and_author(settings: Settings, tmp_path: Path) -> None:
    with Producer(settings.redis_url) as producer:
        producer.append("-100", ChatMessage.user("a", author="42", tokens=1_200))
        producer.append("-100", ChatMessage.assistant("b", tokens=300), ChatMessage.user("c"))
    work_off(settings, tmp_path)
    used = document(settings, "usage", "-100", "--since", "yesterday")
    assert (used["tokens"], used["uncounted"], used["by_author"]) == (1_500, 1, {"42": 1_200})
    shown = run(settings, "usage", "-100")
    assert [line.split() for line in shown.stdout.splitlines()[1:]] == [
        ["3", "messages", "1,500"],
        ["role", "user", "1,200"],
        ["role", "assistant", "300"],
        ["author", "42", "1,200"],
    ]
    assert "1 message without a token count" in shown.stderr
    assert document(settings, "usage", "--channel", "slack")["messages"] == 0


def test_a_message_is_named_by_the_platforms_id(settings: Settings, tmp_path: Path) -> None:
    for id_ in ("a", "b", "c", "b"):
        done(settings, "append", "k", "user", f"said {id_}", "--platform-id", id_)
    done(settings, "replace", "k", "user", "edited", "--platform-id", "a")
    done(settings, "rollback", "k", "--platform-id", "b")
    work_off(settings, tmp_path)
    assert [each["content"] for each in document(settings, "load", "k")] == ["edited", "said c"]
    (before,) = document(settings, "load", "k", "--before-platform-id", "c")
    assert before["platform_id"] == "a"
    (at,) = document(settings, "load", "k", "--around-platform-id", "c", "--limit", "1")
    assert at["content"] == "said c"


def test_a_change_of_what_is_not_there_yet_says_that_it_waits(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    with running_worker(settings, client, tmp_path / "worker.log"):
        for change in (("replace", "k", "user", "edited"), ("rollback", "k")):
            assert "nothing to do" in done(settings, *change, "--wait")
            assert "this waits for it" in done(settings, *change, "--platform-id", "m", "--wait")


def test_times_in_json_are_iso_8601_in_utc(settings: Settings, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    done(settings, "append", "k", "user", "hello")
    work_off(settings, tmp_path)
    for moment in (
        document(settings, "load", "k")[0]["created_at"],
        document(settings, "sessions")["sessions"][0]["last_activity"],
        document(settings, "search", "hello")["hits"][0]["message"]["created_at"],
    ):
        assert moment.endswith("Z")
        assert before <= datetime.fromisoformat(moment) <= datetime.now(UTC)


def test_a_write_prints_the_op_id_of_what_it_enqueued(
    settings: Settings, client: redis.Redis
) -> None:
    printed = done(settings, "append", "k", "user", "hello")
    receipt = orjson.loads(done(settings, "rollback", "k", "--json"))
    ids = [job_id.decode() for job_id in client.lrange("rq:queue:backscroll", 0, -1)]  # type: ignore[union-attr]
    assert printed == f"append {ids[0]}: enqueued\n"
    assert receipt["op_id"] == ids[1]


def test_waiting_says_what_the_worker_did(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    with running_worker(settings, client, tmp_path / "worker.log"):
        assert "stored, 1 message" in done(settings, "append", "k", "user", "a", "--wait")
        assert "stored, 1 message" in done(settings, "replace", "k", "user", "b", "--wait")
        assert document(settings, "load", "k")[0]["content"] == "b"
        once = ("append", "k", "user", "c", "--dedup-key", "m1")
        done(settings, *once)
        assert len(document(settings, "load", "k")) == 2
        assert "was already stored" in done(settings, *once, "--wait")
        assert "stored, 1 message" in done(settings, "rollback", "k", "--wait")
        assert "stored, 1 message" in done(settings, "clear", "k", "--yes", "--wait")
        assert "nothing to do" in done(settings, "rollback", "k", "--wait")
        assert "stored, 1 session" in done(settings, "delete", "k", "--yes", "--wait")


def test_loading_pages_back_by_message_id(settings: Settings, tmp_path: Path) -> None:
    for content in "abc":
        done(settings, "append", "k", "user", content)
    work_off(settings, tmp_path)
    (newest,) = document(settings, "load", "k", "--limit", "1")
    older = document(settings, "load", "k", "--limit", "1", "--before", newest["message_id"])
    assert [message["content"] for message in older] == ["b"]


def test_search_finds_by_words_and_filters(settings: Settings, tmp_path: Path) -> None:
    done(settings, "append", "k1", "user", "a train to Berlin")
    done(settings, "append", "k2", "assistant", "no train today")
    done(settings, "append", "k2", "user", "東京は人工知能の都")
    work_off(settings, tmp_path)
    (hit,) = document(settings, "search", "train", "--role", "user")["hits"]
    start, end = hit["marks"][0]
    assert (hit["key"], hit["snippet"][start:end]) == ("k1", "train")
    assert [hit["key"] for hit in document(settings, "search", "人工知能")["hits"]] == ["k2"]
    assert document(settings, "search", "train", "--until", "2020-01-01")["hits"] == []
    assert len(document(settings, "search", "train", "--since", "2020-01-01T00:00Z")["hits"]) == 2
    result = run(settings, "search", "train")
    assert "a train to Berlin" in result.stdout
    assert "found 2 messages" in result.stderr
    assert run(settings, "search", "x", "--since", "soon").exit_code == ExitCode.USAGE


def test_search_comes_in_pages_and_by_session(settings: Settings, tmp_path: Path) -> None:
    for key in ("k1", "k1", "k2"):
        done(settings, "append", key, "user", "a train")
    work_off(settings, tmp_path)
    page = document(settings, "search", "train", "--limit", "2")
    rest = document(settings, "search", "train", "--limit", "2", "--cursor", page["cursor"])
    assert len({hit["message"]["message_id"] for hit in page["hits"] + rest["hits"]}) == 3
    assert rest["cursor"] is None
    assert f"--cursor {page['cursor']}" in run(settings, "search", "train", "--limit", "2").stderr
    hits = document(settings, "search", "train", "--by-session")["hits"]
    assert {hit["key"]: hit["session_matches"] for hit in hits} == {"k1": 2, "k2": 1}
    result = run(settings, "search", "train", "--by-session")
    assert "2 messages found" in result.stdout
    assert "found 2 sessions" in result.stderr
    result = run(settings, "search", "train", "--cursor", "nonsense")
    assert result.exit_code == ExitCode.REFUSED
    assert "cursor" in result.stderr


@pytest.mark.parametrize("arguments", [("load", "k"), ("search", "a"), ("sessions",)])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_control_characters_of_users_do_not_reach_the_terminal(
    settings: Settings, tmp_path: Path, arguments: tuple[str, ...], form: tuple[str, ...]
) -> None:
    with Producer(settings.redis_url) as producer:
        producer.append("k", ChatMessage("user", HOSTILE, {"a": HOSTILE}))
        producer.describe("k", name="safe\u202ename")
    work_off(settings, tmp_path)
    shown = done(settings, *arguments, *form)
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown)
    if form and arguments[0] == "load":
        assert orjson.loads(shown)[0]["content"] == HOSTILE


@pytest.mark.parametrize("arguments", [("load", "k"), ("search", "hello")])
def test_control_characters_of_message_ids_do_not_reach_the_terminal(
    settings: Settings, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    line = {"role": "user", "content": "hello", "message_id": f"{HOSTILE}\nforged"}
    (tmp_path / "sessions").mkdir()
    (tmp_path / "sessions/k.jsonl").write_bytes(orjson.dumps(line) + b"\n")
    shown = done(replace(settings, store=f"jsonl://{tmp_path}/sessions"), *arguments)
    assert "user" in shown.splitlines()[0]
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown)
    assert not [line for line in shown.splitlines() if line.startswith("forged")]


def test_markup_in_user_text_is_only_text(settings: Settings, tmp_path: Path) -> None:
    done(settings, "append", "[red]k[/red]", "user", "[bold]hi[/bold] :smile:")
    work_off(settings, tmp_path)
    assert "[bold]hi[/bold] :smile:" in done(settings, "load", "[red]k[/red]")
    assert "[red]k[/red]" in done(settings, "sessions")


def test_piped_output_is_not_cut(settings: Settings, tmp_path: Path) -> None:
    key, content = "k" * 500, "word " * 300
    done(settings, "append", key, "user", content)
    work_off(settings, tmp_path)
    assert key in done(settings, "sessions")
    assert content in done(settings, "load", key)


def test_without_a_worker_the_store_is_read_and_that_is_said(
    settings: Settings, tmp_path: Path
) -> None:
    done(settings, "append", "k", "user", "hello")
    work_off(settings, tmp_path)
    result = run(settings, "load", "k", "--json")
    assert [message["content"] for message in orjson.loads(result.stdout)] == ["hello"]
    assert (
        result.stderr
        == "backscroll: no worker serves queue 'backscroll': reading the store directly\n"
    )


def test_with_a_worker_one_reads_ones_own_writes(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    with running_worker(settings, client, tmp_path / "worker.log"):
        done(settings, "append", "k", "user", "hello")
        result = run(settings, "load", "k", "--json")
    assert [message["content"] for message in orjson.loads(result.stdout)] == ["hello"]
    assert result.stderr == ""


def test_without_worker_and_store_reading_says_what_to_start(settings: Settings) -> None:
    result = run(settings, "load", "k")
    assert result.exit_code == ExitCode.NOT_CONFIRMED
    assert result.stderr == (
        "backscroll: no worker serves queue 'backscroll', and there is no store at "
        f"{settings.data_dir / 'backscroll.db'}: start a worker with 'backscroll worker', or name "
        "the store with --data-dir or --store\n"
    )
    assert not Path(settings.store.removeprefix("sqlite://")).exists()


@pytest.mark.parametrize(
    "arguments", [("append", "k", "user", "a", "--wait"), ("compact",), ("cleanup",)]
)
def test_what_nobody_would_answer_is_not_even_enqueued(
    settings: Settings, client: redis.Redis, arguments: tuple[str, ...]
) -> None:
    result = run(settings, *arguments)
    assert result.exit_code == ExitCode.NOT_CONFIRMED
    assert result.stderr.count("\n") == 1
    assert queued(client) == 0


def test_cleanup_and_compact_say_what_they_did(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    with running_worker(settings, client, tmp_path / "worker.log"):
        done(settings, "append", "k", "user", "hello", "--wait")
        assert "would delete 1 session with 1 message" in done(
            settings, "cleanup", "--ttl-hours", "0", "--dry-run"
        )
        assert document(settings, "load", "k")
        report = document(settings, "cleanup", "--ttl-hours", "0", "--yes")
        assert (report["sessions"], [each["key"] for each in report["details"]]) == (1, ["k"])
        assert "compacted in" in done(settings, "compact")
        assert document(settings, "sessions")["sessions"] == []


@pytest.mark.parametrize("is_served", [True, False])
def test_a_session_that_is_not_there_is_told_from_one_that_is_empty(
    settings: Settings, client: redis.Redis, tmp_path: Path, is_served: bool
) -> None:
    done(settings, "describe", "k", "--name", "empty so far")
    work_off(settings, tmp_path)
    with ExitStack() as stack:
        if is_served:
            stack.enter_context(running_worker(settings, client, tmp_path / "worker.log"))
        missing = run(settings, "load", "nobody")
        assert (missing.exit_code, missing.stdout) == (ExitCode.FAILED, "")
        assert missing.stderr.endswith("backscroll: session 'nobody' does not exist\n")
        missing = run(settings, "load", "nobody", "--json")
        assert (missing.exit_code, orjson.loads(missing.stdout)) == (ExitCode.FAILED, [])
        assert missing.stderr.endswith("backscroll: session 'nobody' does not exist\n")
        empty = run(settings, "load", "k")
        assert empty.exit_code == ExitCode.OK
        assert empty.stderr.endswith("backscroll: session 'k' has no messages\n")
        assert document(settings, "load", "k") == []


def test_an_erasure_that_found_nothing_says_so(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    with running_worker(settings, client, tmp_path / "worker.log"):
        done(settings, "append", "k", "user", "hello", "--wait")
        done(settings, "describe", "k", "--sender", "somebody", "--wait")
        for form in ((), ("--json",)):
            typo = run(settings, "erase", "--sender", "sombody", "--yes", *form)
            assert typo.exit_code == ExitCode.OK
            assert typo.stderr == "backscroll: nothing of sender 'sombody' was found\n"
        assert "was found" not in run(settings, "erase", "--sender", "somebody", "--yes").stderr
        assert document(settings, "sessions")["sessions"] == []


def test_a_pop_removes_messages_and_shows_them(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    for content in ("one", "two", "three"):
        done(settings, "append", "k", "user", content)
    with running_worker(settings, client, tmp_path / "worker.log"):
        assert [each["content"] for each in document(settings, "pop", "k")] == ["three"]
        shown = done(settings, "pop", "k", "--count", "2")
        assert shown.index("one") < shown.index("two")
        assert done(settings, "pop", "k") == ""
        assert run(settings, "pop", "k", "--count", "101").exit_code == ExitCode.USAGE
