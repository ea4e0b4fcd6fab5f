"""A Discord bot that remembers: answers where it is mentioned or in direct messages."""

from __future__ import annotations

import os
from typing import Any

import discord as library
from discord import app_commands

from backscroll import AsyncProducer, ChatMessage
from backscroll.channels import Said, discord


async def ask_model(history: list[ChatMessage]) -> str:
    return f"You said: {history[-1].content}"


class Bot(library.Client):
    def __init__(self, history: AsyncProducer) -> None:
        intents = library.Intents.default()
        intents.message_content = True
        super().__init__(intents=intents)
        self.history = history
        self.tree = app_commands.CommandTree(self)

        @self.tree.command(description="Find what was said here")
        async def search(interaction: library.Interaction, words: str) -> None:
            await self.search(interaction, words)

        @self.tree.command(description="Forget what I said")
        async def forget(interaction: library.Interaction) -> None:
            await self.forget(interaction)

    async def setup_hook(self) -> None:
        await self.tree.sync()

    async def on_message(self, message: library.Message) -> None:
        for change in discord.read(message, me=self.user.id):
            receipt = await change.to(self.history)
            is_for_me = message.guild is None or self.user in message.mentions
            if receipt.affected and is_for_me and not message.author.bot:
                await self.answer(change, message)

    async def on_change(self, event: Any) -> None:
        for change in discord.read(event, me=self.user.id):
            await change.to(self.history)

    on_raw_message_edit = on_raw_message_delete = on_raw_bulk_message_delete = on_change

    async def answer(self, said: Said, message: library.Message) -> None:
        async with self.history.turn(said.key, said.message) as turn:
            sent = await message.channel.send(await ask_model(turn.history))
            for change in discord.read(sent, me=self.user.id):
                await turn.append(change.message)

    async def search(self, interaction: library.Interaction, words: str) -> None:
        """Only in this channel: nobody finds what was said in another one."""
        key = discord.key(interaction.channel_id)
        page = await self.history.search(words, key=key, limit=5)
        found = [f"{hit.message.author_name}: {hit.highlighted()}" for hit in page]
        text = "\n".join(found) or "Nothing found."
        await interaction.response.send_message(text, ephemeral=True)

    async def forget(self, interaction: library.Interaction) -> None:
        """Whatever the one who asks has said anywhere, and the whole of the direct messages."""
        await interaction.response.defer(ephemeral=True)
        await self.history.erase(author=str(interaction.user.id))
        await self.history.erase(sender=str(interaction.user.id))
        await interaction.followup.send("Forgotten.", ephemeral=True)


def main() -> None:
    Bot(AsyncProducer(ack="stored")).run(os.environ["DISCORD_TOKEN"])


if __name__ == "__main__":
    main()
