"""What the logs of agents have besides text: pictures, tokens, and what nobody said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.transfer import chat_samples as samples
from tests.transfer.taking import taken

PICTURE: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png"}}


def claude_code(**message: Any) -> dict[str, Any]:
    role = message.setdefault("role", "assistant")
    return {"type": role, "sessionId": "s", "message": message}


def test_pictures_in_a_log_are_attachments(tmp_path: Path) -> None:
    asked = {"role": "user", "content": [{"type": "input_image", "image_url": "data:x"}]}
    logs: Any = {
        "claude-code": [claude_code(role="user", content=[PICTURE])],
        "codex": [samples.CODEX[0], {"type": "response_item", "payload": asked}],
        "openclaw": [
            samples.OPENCLAW[0],
            {"type": "message", "id": "a", "message": {"role": "user", "content": [PICTURE]}},
        ],
    }
    for form, entries in logs.items():
        folder = tmp_path / form
        folder.mkdir()
        report, sessions = taken(samples.log(entries)(folder), folder)
        ((message,),) = sessions.values()
        assert [each.kind for each in message.attachments] == ["image"], form
        assert report.not_kept == {"the bytes of files": 1}


def test_tokens_of_an_answer_in_several_lines_count_once(tmp_path: Path) -> None:
    spent: Any = {"id": "m", "usage": {"output_tokens": 3}}
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    entries = [
        claude_code(**spent, content=[{"type": "text", "text": "I look."}]),
        claude_code(**spent | {"usage": {"output_tokens": 7}}, content=[call]),
    ]
    _, sessions = taken(samples.log(entries)(tmp_path), tmp_path)
    ((said),) = sessions.values()
    assert [each.tokens for each in said] == [None, 7]


def test_instructions_in_a_file_are_not_what_the_user_of_codex_said(tmp_path: Path) -> None:
    told = [{"type": "input_text", "text": "# AGENTS.md instructions for /src\n\nBe kind."}]
    payload = {"type": "message", "role": "user", "content": told}
    entries = [*samples.CODEX, {"type": "response_item", "payload": payload}]
    report, sessions = taken(samples.log(entries)(tmp_path), tmp_path)
    assert report.not_kept["what the program told the model by itself"] == 1
    assert len(sessions["codex_x1"]) == 4


def turns(*entries: tuple[str, str | None, str]) -> list[dict[str, Any]]:
    """Entries of Claude Code: each by its id, the one before, and what was said, or a tool's."""
    said = []
    for own, above, text in entries:
        block: Any = {"type": "text", "text": text}
        if text.startswith("call"):
            block = {"type": "tool_use", "id": text[4:], "name": "f", "input": {}}
        elif text.startswith("result"):
            block = {"type": "tool_result", "tool_use_id": text[6:], "content": "x"}
        role = "user" if own[0] in "qr" else "assistant"
        said.append({**claude_code(role=role, content=[block]), "uuid": own, "parentUuid": above})
    return said


def test_a_prompt_that_goes_back_begins_another_branch(tmp_path: Path) -> None:
    entries = turns(
        ("q1", None, "One?"), ("a1", "q1", "1"), ("q2", "a1", "Two?"), ("a2", "q2", "2"),
        ("q3", "a1", "Three?"), ("a3", "q3", "3"),
    )  # fmt: skip
    _, sessions = taken(samples.log(entries)(tmp_path), tmp_path)
    contents = {key: [each.content for each in said] for key, said in sessions.items()}
    assert contents == {
        "claude-code_log": ["One?", "1", "Three?", "3"],
        "claude-code_log~q2": ["One?", "1", "Two?", "2"],
    }


def test_several_calls_at_once_are_no_branches(tmp_path: Path) -> None:
    entries = turns(
        ("q1", None, "One?"), ("a1", "q1", "call1"), ("a2", "a1", "call2"), ("r1", "a1", "result1"),
        ("r2", "a2", "result2"), ("a3", "r2", "1"), ("q2", "a3", "Two?"), ("a4", "q2", "2"),
    )  # fmt: skip
    _, sessions = taken(samples.log(entries)(tmp_path), tmp_path)
    assert [len(said) for said in sessions.values()] == [8]
