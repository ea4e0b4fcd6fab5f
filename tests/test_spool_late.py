"""A spool that comes back after a session was deleted elsewhere does not bring it back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import redis

from backscroll import ChatMessage, Producer
from backscroll_worker.settings import Settings
from tests.processes import running_worker, wait_for


@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
def test_what_waited_in_a_spool_through_a_delete_is_dropped(
    settings: Settings, client: redis.Redis, tmp_path: Path, kind: str
) -> None:
    settings = replace(settings, store=f"{kind}://{tmp_path / 'store'}")
    road = tmp_path / "road"  # leads to the server's socket, once it is there
    cut_off = Producer(f"unix://{road}", spool=tmp_path / "spool.db")
    with (
        running_worker(settings, client, tmp_path / "log"),
        Producer(settings.redis_url) as connected,
        cut_off,
    ):
        assert cut_off.append("s", ChatMessage.user("before")).spooled
        assert connected.delete("s", ack="stored").affected == 0
        assert cut_off.append("s", ChatMessage.user("after")).spooled
        road.symlink_to(str(settings.redis_url).removeprefix("unix://"))
        wait_for(lambda: cut_off.spooled == 0, "the spool to be empty")
        assert [message.content for message in connected.load("s")] == ["after"]
