"""Sessions of Strands: what its own tests, see tests/peers, do not ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from backscroll import ChatMessage
from backscroll.integrations.strands import BackscrollRepository
from backscroll.integrations.strands_messages import message_of, record_of

pytestmark = pytest.mark.slow

ASKED: Any = {"role": "user", "content": [{"text": "Fares?"}], "tracking_id": "t1"}
USED: Any = {
    "role": "assistant",
    "content": [
        {"text": "Let me look."},
        {"toolUse": {"toolUseId": "u1", "name": "fares", "input": {"to": "Berlin"}}},
    ],
}
DONE: Any = {
    "role": "user",
    "content": [
        {"toolResult": {"toolUseId": "u1", "status": "success", "content": [{"text": "39 EUR"}]}}
    ],
}
PICTURE: Any = {
    "role": "user",
    "content": [
        {"text": "How much"},
        {"image": {"format": "png", "source": {"bytes": b"\x89PNG"}}},
        {"text": "is this?"},
    ],
}


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[BackscrollRepository]:
    made = BackscrollRepository(f"sqlite://{tmp_path}/chat.db", prefix="web/", author="42")
    made.create_session(Session("7", SessionType.AGENT))
    made.create_agent("7", SessionAgent("guide", {}, {}))
    yield made
    made.delete_session("7")


@pytest.mark.parametrize(
    ("said", "role", "content"),
    [
        (ASKED, "user", "Fares?"),
        (USED, "assistant", "Let me look."),
        (DONE, "tool", "39 EUR"),
        (PICTURE, "user", "How much\nis this?"),
        ({"role": "user", "content": []}, "user", ""),
    ],
)
def test_a_message_says_what_it_says_and_comes_back(said: Any, role: str, content: str) -> None:
    record = SessionMessage(said, 3)
    message = message_of(record.to_dict(), "guide", "42", "Ada")
    assert (message.role, message.content) == (role, content)
    assert message.author == ("42" if role == "user" else None)
    stored = ChatMessage.from_dict(json.loads(json.dumps(message.to_dict())))
    restored = record_of(stored, "guide")
    assert restored is not None
    assert SessionMessage.from_dict(restored) == record
    assert record_of(stored, "de") is None


def test_a_redacted_message_is_not_found_any_more(repository: BackscrollRepository) -> None:
    repository.create_message("7", "guide", SessionMessage(ASKED, 0))
    redacted = SessionMessage(ASKED, 0, {"role": "user", "content": [{"text": "[redacted]"}]})
    repository.update_message("7", "guide", redacted)
    assert not repository.history.search("fares")
    assert repository.history.search("redacted")[0].key == repository.key("7")
    (message,) = repository.list_messages("7", "guide")
    assert message.to_message()["content"] == [{"text": "[redacted]"}]
    assert message.message == ASKED


def test_results_of_tools_belong_to_their_uses(repository: BackscrollRepository) -> None:
    for number, said in enumerate((ASKED, USED, DONE)):
        repository.create_message("7", "guide", SessionMessage(said, number))
    assert not repository.history.load("web/7", legal=True).open_calls
    assert [each.role for each in repository.history.load("web/7", 1, legal=True)] == []


def test_a_number_is_given_to_one_message(repository: BackscrollRepository) -> None:
    """As two processes that have loaded the same session would give it."""
    repository.create_message("7", "guide", SessionMessage(ASKED, 0))
    with pytest.raises(SessionException, match="Message 0"):
        repository.create_message("7", "guide", SessionMessage(USED, 0))
    repository.create_message("7", "other", SessionMessage(USED, 0))
    assert [each.message for each in repository.list_messages("7", "guide")] == [ASKED]
    assert [each.message for each in repository.list_messages("7", "other")] == [USED]


def test_what_was_edited_elsewhere_is_what_the_agent_gets(
    repository: BackscrollRepository,
) -> None:
    repository.create_message("7", "guide", SessionMessage(ASKED, 0))
    repository.history.replace("web/7", ChatMessage.user("Trains?"), platform_id="guide/0")
    repository.history.append("web/7", ChatMessage.user("from a bot", platform_id="12"))
    (message,) = repository.list_messages("7", "guide")
    assert message.to_message() == {"role": "user", "content": [{"text": "Trains?"}]}
    assert repository.read_message("7", "guide", 1) is None
