"""Who said it, through the command line: given, shown, searched for, exported."""

from __future__ import annotations

from pathlib import Path

import orjson

from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from tests.cli.command import document, done, run, work_off


def test_who_said_it_is_given_found_and_shown(settings: Settings, tmp_path: Path) -> None:
    ada = ("--author", "42", "--author-name", "Ada\x1b", "--platform-id", "p1", "--reply-to", "p0")
    done(settings, "append", "k", "user", "hello", *(each.replace("\x1b", "") for each in ada))
    done(settings, "append", "k", "user", "hello you", "--author", "43")
    done(settings, "append", "other", "assistant", "hello")
    work_off(settings, tmp_path)
    first = document(settings, "load", "k")[0]
    assert (first["author"], first["author_name"]) == ("42", "Ada")
    assert (first["platform_id"], first["reply_to"]) == ("p1", "p0")
    shown = done(settings, "load", "k")
    assert [line.split()[:2] for line in shown.splitlines() if "(" in line] == [
        ["Ada", "(user)"],
        ["43", "(user)"],
    ]
    assert done(settings, "load", "other").startswith("assistant ")
    hits = done(settings, "search", "hello", "--author", "42")
    assert hits.startswith("k Ada (user) ")
    assert len(document(settings, "search", "hello", "--author", "43")["hits"]) == 1
    nobody = run(settings, "search", "hello", "--author", "44")
    assert "no session has the author '44'" in nobody.stderr
    listed = document(settings, "sessions", "--author", "43")["sessions"]
    assert [each["key"] for each in listed] == ["k"]
    assert "no session matches" in run(settings, "export", "--author", "44").stderr
    exported = done(settings, "export", "--author", "42").splitlines()
    assert orjson.loads(exported[2])["author_name"] == "Ada"
    assert orjson.loads(exported[-1]) == {"end": 1}
    refused = run(settings, "append", "k", "user", "x", *ada)
    assert refused.exit_code == ExitCode.USAGE
    assert "author_name" in refused.stderr
