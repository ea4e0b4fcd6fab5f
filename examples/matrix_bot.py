"""A Matrix bot that remembers: answers where it is named, !search and !forget everywhere.

Clients keep commands with "/" for themselves, so these begin with "!", or with "//" in Element.
"""

from __future__ import annotations

import asyncio
import os
import time

from nio import AsyncClient, Event, MatrixRoom, RoomGetEventResponse, RoomSendResponse

from backscroll import AsyncProducer, ChatMessage
from backscroll.channels import Said, matrix

NOTHING = ChatMessage.user("")


async def ask_model(history: list[ChatMessage]) -> str:
    return f"You said: {history[-1].content}"


class Bot:
    def __init__(self, client: AsyncClient, history: AsyncProducer) -> None:
        self.client = client
        self.history = history
        self.begun_at_ms = time.time() * 1000
        client.add_event_callback(self.on_event, Event)

    async def on_event(self, room: MatrixRoom, event: Event) -> None:
        original = None
        if edited := matrix.edited_id(event):  # only its author may edit it
            answer = await self.client.room_get_event(room.room_id, edited)
            original = answer.event if isinstance(answer, RoomGetEventResponse) else None
        for change in matrix.read(event, room, me=self.client.user_id, original=original):
            command, _, words = getattr(change, "message", NOTHING).content.partition(" ")
            if command in ("!search", "/search"):
                await self.search(change, words, room)
            elif command in ("!forget", "/forget"):
                await self.forget(change, room)
            else:
                receipt = await change.to(self.history)
                if isinstance(change, Said) and receipt.affected and self.is_asked(event):
                    await self.answer(change, room)

    def is_asked(self, event: Event) -> bool:
        """Whether the bot is mentioned; what was said before it began is only remembered."""
        mentions = event.source["content"].get("m.mentions", {})
        is_new = event.server_timestamp >= self.begun_at_ms
        return is_new and self.client.user_id in mentions.get("user_ids", ())

    async def answer(self, said: Said, room: MatrixRoom) -> None:
        async with self.history.turn(said.key, said.message) as turn:
            text = await ask_model(turn.history)
            sent = await self.say(room, text)
            await turn.reply(text, platform_id=sent.event_id, author=self.client.user_id)

    async def search(self, said: Said, words: str, room: MatrixRoom) -> None:
        """Only in this room: nobody finds what was said in another one."""
        page = await self.history.search(words, key=said.key, limit=5)
        found = [f"{hit.message.author_name}: {hit.highlighted()}" for hit in page]
        await self.say(room, "\n".join(found) or "Nothing found.")

    async def forget(self, said: Said, room: MatrixRoom) -> None:
        """Whatever the one who asks has said anywhere."""
        await self.history.erase(author=said.message.author)
        await self.say(room, "Forgotten.")

    async def say(self, room: MatrixRoom, text: str) -> RoomSendResponse:
        content = {"msgtype": "m.notice", "body": text}
        return await self.client.room_send(room.room_id, "m.room.message", content)


async def main() -> None:
    client = AsyncClient(os.environ["MATRIX_SERVER"], os.environ["MATRIX_USER"])
    client.access_token = os.environ["MATRIX_TOKEN"]
    async with AsyncProducer(ack="stored") as history:
        Bot(client, history)
        await client.sync_forever(timeout=30_000)


if __name__ == "__main__":
    asyncio.run(main())
