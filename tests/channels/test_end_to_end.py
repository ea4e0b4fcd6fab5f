"""What a person sees in the platform's window is what the history has, by a real worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import AsyncProducer, Producer
from backscroll.channels import Change, discord, matrix, slack, telegram
from backscroll_worker.settings import Settings
from tests.channels import test_matrix as on_matrix
from tests.channels import test_slack as on_slack
from tests.channels.libraries import Discord, nio_event, nio_room, telegram_update
from tests.channels.test_telegram import BOT, GROUP, update
from tests.processes import running_worker
from tests.test_readme import python_blocks


@pytest.fixture
def producer(settings: Settings, client: redis.Redis, tmp_path: Path) -> Iterator[Producer]:
    log = tmp_path / "worker.log"
    with running_worker(settings, client, log), Producer(settings.redis_url, ack="stored") as made:
        yield made


def window(producer: Producer, key: str) -> list[str]:
    return [f"{each.author_name}: {each.content}" for each in producer.load(key)]


def test_telegram_by_asyncio_as_its_updates_come(producer: Producer) -> None:
    """Twice, late, and the edit of a message before the message."""
    updates = [
        update(chat=GROUP, id_=1, text="Lunch?"),
        update("edited_message", chat=GROUP, id_=2, text="At noon", edit_date=1),
        update(chat=GROUP, id_=1, text="Lunch?"),
        update(chat=GROUP, id_=2, text="At non"),
        update(chat=GROUP, id_=3, sender=BOT, text="Noted."),
        update("edited_message", chat=GROUP, id_=1, text="Lunch or dinner?", edit_date=1),
    ]

    async def deliver() -> None:
        async with AsyncProducer(producer.url) as history:
            for given in updates:
                for change in telegram.read(telegram_update(given), me=7):
                    await change.to(history)

    asyncio.run(deliver())
    assert window(producer, "telegram_-5") == [
        "Ada Lovelace: Lunch or dinner?",
        "Ada Lovelace: At noon",
        "Bot: Noted.",
    ]
    assert [each.role for each in producer.load("telegram_-5")] == ["user", "user", "assistant"]
    (info,) = producer.sessions(channel="telegram", room="-5")
    assert info.name == "Lunch"


def test_an_edit_that_is_delivered_again_undoes_no_later_one(producer: Producer) -> None:
    edits = [
        update("edited_message", chat=GROUP, id_=1, text=text, edit_date=1)
        for text in ("At noon", "At one")
    ]
    updates = [update(chat=GROUP, id_=1, text="At non"), *edits, edits[0]]
    _deliver(producer, *(telegram.read(telegram_update(given)) for given in updates))
    assert window(producer, "telegram_-5") == ["Ada Lovelace: At one"]

    def changed(text: str, at: str) -> tuple[Change, ...]:
        now, before = on_slack.inner(ts="1.2", text=text), on_slack.inner(ts="1.2")
        return slack.read(on_slack.changed(now, before, ts=at), names=on_slack.NAMES)

    first, second = changed("Dinner?", "1.3"), changed("Lunch, then?", "1.4")
    seen = slack.read(on_slack.event("Lunch?", ts="1.2"), names=on_slack.NAMES)
    _deliver(producer, seen, first, second, first)
    assert window(producer, "slack_C1") == ["Ada: Lunch, then?"]

    gateway, later = Discord(), {"edited_timestamp": "2026-03-01T10:06:00.000000+00:00"}
    first, second = (
        discord.read(gateway.edit(id="2", content=text, **more))
        for text, more in (("First", {}), ("Second", later))
    )
    _deliver(producer, discord.read(gateway.message(id="2", content="Frst")), first, second, first)
    assert window(producer, "discord_100") == ["Ada: Second"]


def test_a_group_that_becomes_a_supergroup_keeps_its_history(producer: Producer) -> None:
    supergroup = {**GROUP, "id": -1005, "type": "supergroup"}
    _deliver(
        producer,
        *(
            telegram.read(telegram_update(given))
            for given in (
                update(chat=GROUP, id_=1, text="Lunch?"),
                update(chat=GROUP, id_=2, text="Yes"),
                update(chat=GROUP, id_=3, migrate_to_chat_id=-1005),
                update(chat=supergroup, id_=1, migrate_from_chat_id=-5),
                update(chat=supergroup, id_=2, text="Noon"),  # it counts anew
            )
        ),
    )
    assert window(producer, "telegram_-5") == []
    said = [message.content for message in producer.load("telegram_-1005")]
    assert said == ["Lunch?", "Yes", "Noon"]
    (info,) = producer.sessions(channel="telegram")
    assert info.room == "-1005"


def test_the_others_with_threads_edits_and_deletions(producer: Producer) -> None:
    seen = on_slack.event
    gone = on_slack.inner(ts="1.4", text="Oops", thread_ts="1.2")
    before, after = on_slack.inner(ts="1.3", text="Nonn"), on_slack.inner(ts="1.3", text="Noon")
    _deliver(
        producer,
        *(
            slack.read(given, names=on_slack.NAMES)
            for given in (
                seen("Lunch?", ts="1.2"),
                seen("Oops", ts="1.4", thread_ts="1.2"),
                seen("Nonn", ts="1.3", thread_ts="1.2", subtype="thread_broadcast"),
                on_slack.deleted(gone, deleted_ts="1.4"),
                on_slack.changed(
                    {**after, "thread_ts": "1.2", "subtype": "thread_broadcast"}, before
                ),
            )
        ),
    )
    assert window(producer, "slack_C1") == ["Ada: Lunch?", "Ada: Noon"]
    assert window(producer, "slack_C1_1.2") == ["Ada: Noon"]

    gateway = Discord()
    _deliver(
        producer,
        *(
            discord.read(event)
            for event in (
                *(gateway.message(id=str(id_), content=f"No. {id_}") for id_ in range(1, 5)),
                gateway.edit(id="2", content="Second"),
                gateway.bulk_deletion("1", "3", "5"),
                gateway.message(id="5", content="Too late"),
            )
        ),
    )
    assert window(producer, "discord_100") == ["Ada: Second", "Ada: No. 4"]

    room, first = nio_room(on_matrix.ROOM, ada="Ada"), on_matrix.event()
    other = on_matrix.event("No") | {"event_id": "$8"}
    _deliver(
        producer,
        matrix.read(nio_event(first), room),
        matrix.read(nio_event(other), room),
        matrix.read(nio_event(on_matrix.replacing()), room, original=first),
        matrix.read(on_matrix.redaction(redacts="$8"), room),
    )
    assert window(producer, on_matrix.KEY) == ["Ada: Seven?"]


def _deliver(producer: Producer, *updates: tuple[Change, ...]) -> None:
    for changes in updates:
        for change in changes:
            receipt: Any = change.to(producer)
            assert receipt.op_id


def test_the_page_on_channels_can_be_followed(producer: Producer) -> None:
    names: dict[str, Any] = {"producer": producer}
    for code in python_blocks("docs/channels.md"):
        exec(code, names)  # noqa: S102 - it is our page
    gone = names["on_raw_bulk_message_delete"](Discord().bulk_deletion("1", "2"))
    assert [change.platform_id for change in gone] == ["1", "2"]
