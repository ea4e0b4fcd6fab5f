"""Sessions through the command line: described, listed, renamed, merged, forked, removed."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from tests.cli.command import document, done, in_terminal, queued, run, work_off
from tests.processes import running_worker


def test_attributes_are_set_cleared_and_filtered_by(settings: Settings, tmp_path: Path) -> None:
    given = ("--name", "Trip", "--agent", "a1", "--channel", "slack", "--state", "running")
    done(settings, "describe", "k", *given, "--turn-id", "t1", "--pinned")
    done(settings, "describe", "other", "--ttl-hours", "48")
    done(settings, "describe", "other", "--agent", "a2")
    done(settings, "rename-agent", "a2", "a3")
    work_off(settings, tmp_path)
    (info,) = document(settings, "sessions", "--channel", "slack", "--pinned")["sessions"]
    assert (info["name"], info["state"], info["turn_id"]) == ("Trip", "running", "t1")
    assert document(settings, "sessions", "--agent", "a3")["sessions"][0]["key"] == "other"
    assert document(settings, "sessions", "--prefix", "ot")["sessions"][0]["key"] == "other"
    assert document(settings, "sessions", "--prefix", "o%")["sessions"] == []
    assert document(settings, "sessions", "--stuck-seconds", "1000")["sessions"] == []
    assert document(settings, "sessions", "--agent", "a3")["sessions"][0]["ttl_hours"] == 48
    assert "ttl 48 h" in done(settings, "sessions", "--agent", "a3")
    done(settings, "describe", "other", "--clear", "ttl-hours")
    assert run(settings, "describe", "other", "--ttl-hours", "-1").exit_code == ExitCode.USAGE
    done(settings, "describe", "k", "--clear", "name", "--clear", "turn-id", "--unpinned")
    work_off(settings, tmp_path)
    (info,) = document(settings, "sessions", "--unpinned", "--channel", "slack")["sessions"]
    assert (info["name"], info["turn_id"], info["pinned"]) == (None, None, False)
    assert document(settings, "sessions", "--agent", "a3")["sessions"][0]["ttl_hours"] is None


def test_own_values_are_set_cleared_and_filtered_by(settings: Settings, tmp_path: Path) -> None:
    own = ("--meta", "project=a=b", "--meta", "n=3", "--meta", 'text="3"', "--meta", "list=[1]")
    done(settings, "describe", "k", *own, "--meta", "gone=x", "--meta", "on=true")
    done(settings, "describe", "k", "--meta", "gone=")
    done(settings, "describe", "other", "--meta", "n=4")
    work_off(settings, tmp_path)
    where = ("--meta", "n=3", "--meta", 'text="3"', "--meta", "on=true", "--meta", "project=a=b")
    (info,) = document(settings, "sessions", *where)["sessions"]
    assert info["meta"] == {"project": "a=b", "n": 3, "text": "3", "list": "[1]", "on": True}
    assert document(settings, "sessions", "--meta", "n=3", "--meta", "text=3")["sessions"] == []
    for command in (("describe", "k"), ("sessions",)):
        assert run(settings, *command, "--meta", "n").exit_code == ExitCode.USAGE


def test_a_state_is_shown_set_and_expected(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    assert run(settings, "state", "k", "--wait").exit_code == ExitCode.USAGE
    assert run(settings, "state", "k", "--set", "{").exit_code == ExitCode.USAGE
    with running_worker(settings, client, tmp_path / "worker.log"):
        assert run(settings, "state", "k").exit_code == ExitCode.FAILED
        given = ("state", "k", "--set", '{"step": "a\\u001b"}')
        assert "stored, version 1" in done(settings, *given, "--wait")
        assert document(settings, "state", "k") == {"value": {"step": "a\x1b"}, "version": 1}
        assert "step" in done(settings, "state", "k")
        assert run(settings, *given, "--expect", "2").exit_code == ExitCode.FAILED
        assert "version 2" in done(settings, *given, "--expect", "1", "--name", "default")
        done(settings, "state", "k", "--set", "null", "--wait")
        assert run(settings, "state", "k", "--json").exit_code == ExitCode.FAILED


def test_an_attribute_cannot_be_set_and_cleared_at_once(settings: Settings) -> None:
    result = run(settings, "describe", "k", "--agent", "a", "--clear", "agent")
    assert result.exit_code == ExitCode.USAGE


def test_sessions_are_listed_in_pages(settings: Settings, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        done(settings, "append", name, "user", "hello")
    work_off(settings, tmp_path)
    page = document(settings, "sessions", "--limit", "2")
    rest = document(settings, "sessions", "--limit", "2", "--cursor", page["cursor"])
    keys = [info["key"] for info in (*page["sessions"], *rest["sessions"])]
    assert sorted(keys) == ["a", "b", "c"]
    assert rest["cursor"] is None
    assert f"--cursor {page['cursor']}" in run(settings, "sessions", "--limit", "2").stderr


def test_sessions_are_found_by_name_and_activity(settings: Settings, tmp_path: Path) -> None:
    done(settings, "describe", "k", "--name", "Café plans")
    done(settings, "append", "other", "user", "hello")
    work_off(settings, tmp_path)

    def listed(*options: str) -> list[str]:
        return [info["key"] for info in document(settings, "sessions", *options)["sessions"]]

    assert listed("--name", "cafe pl") == ["k"]
    assert set(listed("--active-since", "2020-01-01")) == {"k", "other"}
    assert listed("--active-until", "2020-01-01T00:00Z") == []
    assert run(settings, "sessions", "--active-since", "soon").exit_code == ExitCode.USAGE


def test_a_session_is_rewound(settings: Settings, tmp_path: Path) -> None:
    for text in ("one", "two", "three"):
        done(settings, "append", "k", "user", text)
    work_off(settings, tmp_path)
    first, *_ = document(settings, "load", "k")
    asked = run(settings, "rewind", "k", first["message_id"])  # where nobody can answer
    assert asked.exit_code != ExitCode.OK
    done(settings, "rewind", "--yes", "k", first["message_id"])
    work_off(settings, tmp_path)
    assert document(settings, "load", "k") == [first]


def test_a_session_is_renamed(settings: Settings, tmp_path: Path) -> None:
    done(settings, "append", "-4077", "user", "hello")
    done(settings, "rename", "-4077", "-100123")
    work_off(settings, tmp_path)
    assert [each["key"] for each in document(settings, "sessions")["sessions"]] == ["-100123"]
    assert [each["content"] for each in document(settings, "load", "-100123")] == ["hello"]


def test_two_sessions_are_merged(settings: Settings, tmp_path: Path) -> None:
    for key in ("a", "-b", "a"):
        done(settings, "append", key, "user", key)
    done(settings, "merge", "--yes", "a", "-b")
    work_off(settings, tmp_path)
    assert [each["content"] for each in document(settings, "load", "-b")] == ["a", "-b", "a"]
    assert [each["key"] for each in document(settings, "sessions")["sessions"]] == ["-b"]


def test_a_session_is_reset(settings: Settings, tmp_path: Path) -> None:
    done(settings, "append", "-k", "user", "hello")
    done(settings, "reset", "-k")
    done(settings, "append", "-k", "user", "again")
    work_off(settings, tmp_path)
    new, past = document(settings, "sessions")["sessions"]
    assert (new["key"], new["continued_from"]) == ("-k", past["key"])
    assert [each["content"] for each in document(settings, "load", past["key"])] == ["hello"]


def test_a_session_is_closed_and_reopened(settings: Settings, tmp_path: Path) -> None:
    for command in ("close", "append", "reopen", "append", "close"):
        rest = ("user", command) if command == "append" else ()
        done(settings, command, "k", *rest)
    work_off(settings, tmp_path)
    (info,) = document(settings, "sessions")["sessions"]
    assert (info["message_count"], info["closed"]) == (1, True)
    assert "closed" in done(settings, "sessions")


def test_a_session_is_forked_and_its_forks_are_listed(settings: Settings, tmp_path: Path) -> None:
    for text in ("one", "two"):
        done(settings, "append", "k", "user", text)
    work_off(settings, tmp_path)
    first, _ = document(settings, "load", "k")
    done(settings, "fork", "k", "-fork", "--upto", first["message_id"])
    done(settings, "fork", "k", "all")
    work_off(settings, tmp_path)
    (copy,) = document(settings, "load", "-fork")
    assert (copy["content"], copy["message_id"] != first["message_id"]) == ("one", True)
    listed = document(settings, "sessions", "--forked-from", "k")["sessions"]
    assert {(each["key"], each["message_count"]) for each in listed} == {("-fork", 1), ("all", 2)}


@pytest.mark.parametrize("command", ["delete", "clear", "rename-agent"])
def test_nothing_is_dropped_unless_somebody_confirms_it(
    settings: Settings, client: redis.Redis, command: str
) -> None:
    result = run(settings, command, "k", given="y\n")
    assert result.exit_code == ExitCode.USAGE
    assert "--yes" in result.stderr
    assert queued(client) == 0
    done(settings, command, "k", "--yes")
    assert queued(client) == 1


def test_all_sessions_of_a_prefix_are_deleted(settings: Settings, tmp_path: Path) -> None:
    for key in ("t_1", "t_2", "tx"):
        done(settings, "append", key, "user", "hello")
    for wrong in (("delete", "--yes"), ("delete", "--yes", "t_1", "--prefix", "t_")):
        assert run(settings, *wrong).exit_code == ExitCode.USAGE
    assert in_terminal(settings, "delete", "--prefix", "t_", typed=b"n\n")[0] == ExitCode.FAILED
    done(settings, "delete", "--yes", "--prefix", "t_")
    work_off(settings, tmp_path)
    assert [each["key"] for each in document(settings, "sessions")["sessions"]] == ["tx"]


def test_an_agent_is_taken_out_of_its_sessions_only_when_that_is_meant(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    done(settings, "describe", "k", "--agent", "a1")
    ended, shown = in_terminal(settings, "rename-agent", "a1", typed=b"n\n")
    assert ended == ExitCode.FAILED
    assert "remove agent 'a1' from all its sessions?" in " ".join(shown.split())
    assert queued(client) == 1
    done(settings, "rename-agent", "a1", "a2")  # who names both is not asked
    work_off(settings, tmp_path)
    assert document(settings, "sessions")["sessions"][0]["agent"] == "a2"
    assert in_terminal(settings, "rename-agent", "a2", typed=b"y\n")[0] == ExitCode.OK
    work_off(settings, tmp_path)
    assert document(settings, "sessions")["sessions"][0]["agent"] is None
