"""The demo's group chat: what is stored is what the platform's window shows, by any seed."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from backscroll_worker.demo.group import GroupChat, play
from backscroll_worker.demo.platform import BOT, Shown
from backscroll_worker.settings import Settings
from tests.processes import running_worker


@pytest.mark.parametrize("scheme", ["sqlite", "jsonl"])
def test_a_group_chat_is_stored_as_the_platforms_window_shows_it(
    settings: Settings, client: redis.Redis, tmp_path: Path, scheme: str
) -> None:
    async def play_all() -> list[GroupChat]:
        where = str(settings.redis_url), settings.queue
        chats = [play(*where, seed=seed, key=f"group/{seed}", count=40) for seed in seeds]
        return await asyncio.gather(*chats)

    first = int.from_bytes(os.urandom(4))
    seeds = range(first, first + 4)
    own = replace(settings, store=f"{scheme}://{tmp_path / 'group'}")
    with running_worker(own, client, tmp_path / "worker.log"):
        for seed, chat in zip(seeds, asyncio.run(play_all()), strict=True):
            assert chat.stored == chat.window, f"with the seed {seed}"
            assert chat.holds


def test_a_group_chat_that_is_stored_otherwise_is_noticed() -> None:
    shown = [Shown("m1", "Ada", "hi"), Shown("m2", BOT, "hello", "m1")]
    chat = GroupChat(shown, shown, 0, 0, 0, 0, 0, 1)
    assert chat.holds
    for stored in (
        shown[:1],
        shown[::-1],
        [*shown, shown[0]],
        [replace(shown[0], text="ho"), shown[1]],
    ):
        assert not replace(chat, stored=stored).holds
    assert not replace(chat, window=[], stored=[]).holds
