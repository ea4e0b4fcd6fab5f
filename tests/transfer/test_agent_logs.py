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
