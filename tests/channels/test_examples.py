"""The bots in examples/, each given what its platform sends, before a real worker."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from backscroll import AsyncProducer, Producer
from backscroll_worker.settings import Settings
from tests.channels import test_matrix as on_matrix
from tests.channels import test_slack as on_slack
from tests.channels.libraries import USER, Discord, telegram_update
from tests.channels.platform import platform
from tests.channels.test_telegram import ADA, AT, BOT, GROUP, PRIVATE, update
from tests.processes import running_worker

EXAMPLES = Path(__file__).parents[2] / "examples"
ROOM = on_matrix.ROOM


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, _server: str) -> Iterator[str]:
    """A server with a worker for all bots."""
    path = tmp_path_factory.mktemp("bots")
    settings = Settings(redis_url=_server, data_dir=path, store=f"sqlite://{path}/x.db")
    with redis.Redis.from_url(_server) as client:
        client.flushall()
        with running_worker(settings, client, path / "worker.log"):
            yield _server


@pytest.fixture
def producer(url: str) -> Iterator[Producer]:
    with Producer(url, ack="stored") as made:
        yield made


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def window(producer: Producer, key: str) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in producer.load(key)]


def test_the_bot_of_telegram(producer: Producer) -> None:
    bot = example("telegram_bot")
    ids = iter(range(100, 200))

    def answer(path: str, fields: dict[str, Any]) -> Any:
        own = {"message_id": next(ids), "date": AT, "chat": PRIVATE, "from": BOT}
        return {"ok": True, "result": BOT if "getMe" in path else {**own, "text": fields["text"]}}

    def command(text: str, **more: Any) -> dict[str, Any]:
        entity = {"type": "bot_command", "offset": 0, "length": len(text.split(maxsplit=1)[0])}
        return update(text=text, entities=[entity], **more)

    async def deliver(address: str, *updates: dict[str, Any]) -> None:
        async with AsyncProducer(producer.url, ack="stored") as history:
            builder = bot.ApplicationBuilder().token("1:x").base_url(f"{address}/bot")
            async with bot.build(builder.updater(None), history) as app:
                for given in updates:
                    made = telegram_update(given)
                    made.set_bot(app.bot)
                    for one in (made.message, made.edited_message):
                        if one is not None:
                            one.set_bot(app.bot)
                    await app.process_update(made)

    with platform(answer) as telegram:
        asyncio.run(
            deliver(
                telegram.url,
                update(id_=1, text="Lemons?"),
                update(id_=1, text="Lemons?"),
                update("edited_message", id_=1, text="Limes?", edit_date=AT),
                update(id_=2, chat=GROUP, text="Lemons in the group"),
                command("/search limes", id_=3),
            )
        )
        assert window(producer, "telegram_42") == [
            ("user", "Limes?"),
            ("assistant", "You said: Lemons?"),
        ]
        assert [said.content for said in producer.load("telegram_-5")] == ["Lemons in the group"]
        asyncio.run(deliver(telegram.url, command("/forget", id_=4)))
        said = [each["text"] for each in telegram.sent("sendMessage")]
    assert said == ["You said: Lemons?", "Ada Lovelace: [Limes]?", "Forgotten."]
    assert producer.load("telegram_42") == producer.load("telegram_-5") == []
    assert ADA["id"] == 42


def test_the_bot_of_slack(producer: Producer) -> None:
    bot = example("slack_bot")
    profile = {"ok": True, "user": {"profile": {"display_name": "", "real_name": "Ada"}}}

    def answer(path: str, fields: dict[str, Any]) -> Any:
        if "users.info" in path:
            return profile
        own = {"type": "message", "user": "UBOT", "bot_id": "BBOT", "ts": "1.9"}
        own |= {name: fields[name] for name in ("text", "thread_ts") if name in fields}
        return {"ok": True, "channel": fields.get("channel"), "ts": "1.9", "message": own}

    with platform(answer) as slack:
        app = _slack_app(bot, slack.url)
        bot.Bot(app, producer)

        def deliver(**body: Any) -> None:
            body = {"team_id": "T1", "api_app_id": "A1", **body}
            request = app_request(body)
            assert app.dispatch(request).status == 200

        from_dm = {"channel": "D1", "channel_type": "im"}
        asked = on_slack.event("Lemons?", ts="1.1", **from_dm)
        for event in (
            asked,
            asked,
            on_slack.changed(
                on_slack.inner(text="Limes?", ts="1.1"), on_slack.inner(ts="1.1"), **from_dm
            ),
            on_slack.event("Oops", ts="1.2"),
            on_slack.deleted(on_slack.inner(ts="1.2"), deleted_ts="1.2"),
            on_slack.event("<@UBOT> Where?", ts="1.4", thread_ts="1.3", user="U2"),
        ):
            deliver(type="event_callback", event=event)
        assert window(producer, "slack_D1") == [
            ("user", "Limes?"),
            ("assistant", "You said: Lemons?"),
        ]
        assert producer.load("slack_C1") == []
        assert [said.content for said in producer.load("slack_C1_1.3")] == [
            "@UBOT Where?",
            "You said: @UBOT Where?",
        ]
        for command, text in (("/search", "limes"), ("/forget", "")):
            given = {"user_id": "U1", "channel_id": "D1", "response_url": f"{slack.url}/respond"}
            deliver(command=command, text=text, **given)
        said = [each["text"] for each in slack.sent("respond")]
    assert said == ["Ada: [Limes]?", "Forgotten."]
    assert producer.load("slack_D1") == []
    assert len(producer.load("slack_C1_1.3")) == 2


def _slack_app(bot: Any, url: str) -> Any:
    bolt = importlib.import_module("slack_bolt")
    authorized = bolt.authorization.AuthorizeResult(
        enterprise_id=None, team_id="T1", bot_user_id="UBOT", bot_id="BBOT", bot_token="xoxb-1"
    )
    client = importlib.import_module("slack_sdk").WebClient(token="xoxb-1", base_url=f"{url}/api/")
    return bot.App(client=client, authorize=lambda: authorized, process_before_response=True)


def app_request(body: dict[str, Any]) -> Any:
    return importlib.import_module("slack_bolt").BoltRequest(body=body, mode="socket_mode")


def test_the_bot_of_discord(producer: Producer) -> None:
    gateway, sent = Discord(), []

    async def send(text: str, **_: Any) -> Any:
        sent.append(text)
        own = USER | {"id": "7", "username": "bot", "global_name": "Bot", "bot": True}
        return gateway.message(direct, id="900", content=text, author=own)

    direct = gateway.channel(id=300, guild=None, send=send, recipient=SimpleNamespace(id=42, bot=0))
    replying = SimpleNamespace(send_message=send, defer=lambda **_: asyncio.sleep(0))

    async def deliver() -> None:
        async with AsyncProducer(producer.url, ack="stored") as history:
            bot = example("discord_bot").Bot(history)
            bot._connection.user = SimpleNamespace(id=7)
            asked = gateway.message(direct, id="1", content="Lemons?")
            for each in (asked, asked, gateway.message(id="2", content="Not for the bot")):
                await bot.on_message(each)
            await bot.on_raw_message_edit(gateway.edit(asked, direct, id="1", content="Limes?"))
            await bot.on_raw_message_delete(gateway.deletion(id="2"))
            asking = SimpleNamespace(
                user=SimpleNamespace(id=42),
                channel_id=300,
                response=replying,
                followup=SimpleNamespace(send=send),
            )
            search, forget = (bot.tree.get_command(name) for name in ("search", "forget"))
            await search.callback(asking, "limes")
            seen.extend(window(producer, "discord_300"))
            await forget.callback(asking)
            await bot.close()

    seen: list[tuple[str, str]] = []
    asyncio.run(deliver())
    assert seen == [("user", "Limes?"), ("assistant", "You said: Lemons?")]
    assert sent == ["You said: Lemons?", "Ada: [Limes]?", "Forgotten."]
    assert producer.load("discord_300") == producer.load("discord_100") == []


def test_the_bot_of_matrix(producer: Producer) -> None:
    nio, ids = importlib.import_module("nio"), iter(range(10))
    bot, asked = example("matrix_bot"), on_matrix.event("Lemons?")
    mine: dict[str, Any] = {"m.mentions": {"user_ids": ["@bot:example.org"]}}
    asked["content"] |= mine
    asked["origin_server_ts"] = 4_000_000_000_000
    nobody = on_matrix.event("No") | {"event_id": "$8"}
    edit = on_matrix.replacing("Limes?")
    forged = on_matrix.replacing("Plums?", sender=on_matrix.EVE) | {"event_id": "$7"}

    def answer(path: str, fields: dict[str, Any]) -> Any:
        return asked if "/event/" in path else {"event_id": f"$own{next(ids)}"}

    async def deliver(client: Any, *events: dict[str, Any]) -> None:
        joined = {"timeline": {"events": list(events), "limited": False, "prev_batch": "p"}}
        joined |= {"state": {"events": [MEMBER]}, "ephemeral": {"events": []}}
        joined |= {"account_data": {"events": []}}
        rooms = {"join": {ROOM: joined}, "invite": {}, "leave": {}}
        sync = {"next_batch": f"s{next(ids)}", "rooms": rooms, "presence": {"events": []}}
        sync |= {"device_one_time_keys_count": {}, "device_lists": {}, "to_device": {"events": []}}
        await client.receive_response(nio.SyncResponse.from_dict(sync))

    async def talk(address: str) -> None:
        client = nio.AsyncClient(address, "@bot:example.org")
        client.user_id, client.access_token = "@bot:example.org", "t"
        async with AsyncProducer(producer.url, ack="stored") as history:
            bot.Bot(client, history)
            redaction = on_matrix.redaction(redacts="$8")
            await deliver(client, asked, asked, nobody, edit, forged, redaction)
            seen.extend(window(producer, on_matrix.KEY))
            search = on_matrix.event("!search limes") | {"event_id": "$4"}
            await deliver(client, search, on_matrix.event("!forget") | {"event_id": "$5"})
        await client.close()

    seen: list[tuple[str, str]] = []
    with platform(answer) as matrix:
        asyncio.run(talk(matrix.url))
        said = [each["body"] for each in matrix.sent("/send/")]
    assert seen == [("user", "Limes?"), ("assistant", "You said: Lemons?")]
    assert said == ["You said: Lemons?", "Ada: [Limes]?", "Forgotten."]
    assert [left.role for left in producer.load(on_matrix.KEY)] == ["assistant"]


MEMBER = {
    "type": "m.room.member",
    "event_id": "$m",
    "sender": on_matrix.ADA,
    "state_key": on_matrix.ADA,
    "origin_server_ts": 1,
    "content": {"membership": "join", "displayname": "Ada"},
}
