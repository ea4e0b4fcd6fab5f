"""`lenient=True`: images beyond a limit are attachments, and come back in their places."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backscroll import Attachment, ChatMessage, InvalidInputError
from backscroll_worker.embedded import Local

LONE = "a\ud83db"


def data_url(size_bytes: int, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(os.urandom(size_bytes)).decode()}"


@pytest.fixture(params=["sqlite", "jsonl"])
def embedded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A lenient history in this process."""
    with Local(f"{request.param}://{tmp_path / 'store'}", lenient=True) as local:
        yield local


def test_images_beyond_the_limit_are_attachments_and_come_back_in_their_places(
    embedded: Any,
) -> None:
    mine = Attachment("file", "notes.txt", data=b"notes")
    large, raw = data_url(900_000), base64.b64encode(os.urandom(600_000)).decode()
    extra = {
        "content": [
            {"type": "text", "text": f"look {LONE}"},
            {"type": "image_url", "image_url": {"url": large, "detail": "x" * 300_000}},
            {"type": "image_url", "image_url": {"url": large}},
            {"type": "input_audio", "input_audio": {"data": raw, "format": "wav"}},
        ]
    }
    embedded.append("pictures", ChatMessage.user("look", extra=extra, attachments=[mine]))
    (loaded,) = embedded.load("pictures")
    assert loaded.extra == extra
    assert [each.name for each in loaded.attachments] == ["notes.txt"]
    (id_,) = embedded.append("copy", loaded).message_ids
    found = embedded.get(id_)
    assert found.message.extra == extra
    embedded._is_lenient = False
    try:
        (plain,) = embedded.load("pictures")
    finally:
        embedded._is_lenient = True
    kinds = [(each.kind, each.mime_type, each.size) for each in plain.attachments]
    assert kinds == [("file", None, 5), ("image", "image/png", 900_000), ("file", None, 600_000)]
    picture = embedded.attachment("pictures", plain.attachments[1].sha256)
    assert base64.b64encode(picture).decode() == large.partition(",")[2]
    assert len(json.dumps(plain.extra)) < 301_000
    assert [each.extra for each in embedded.pop("pictures")] == [extra]


def test_only_as_much_base64_is_moved_as_has_to_be(embedded: Any) -> None:
    small = data_url(300)
    odd = data_url(3_000)[:-1] + "!"
    sizes = [data_url(size) for size in (900_000, 500_000, 2_000)]
    embedded.append("few", ChatMessage.user("x", urls=[*sizes, small, odd]))
    (loaded,) = embedded.load("few")
    assert loaded.extra == {"urls": [*sizes, small, odd]}
    embedded._is_lenient = False
    try:
        (plain,) = embedded.load("few")
    finally:
        embedded._is_lenient = True
    assert [each.size for each in plain.attachments] == [900_000]
    too_large = ChatMessage.user("x", urls=[data_url(9 * 1024 * 1024)])
    with pytest.raises(InvalidInputError, match="the limit is 1,048,576"):
        embedded.append("few", too_large)
    with pytest.raises(InvalidInputError, match="the limit is 1,048,576"):
        embedded.replace("few", ChatMessage.user("x", urls=sizes))
    assert len(embedded.load("few")) == 1
