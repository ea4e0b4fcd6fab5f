"""A Telegram bot that remembers: answers in private chats, /search and /forget everywhere."""

from __future__ import annotations

import os

from telegram import Message, Update
from telegram.ext import Application, ApplicationBuilder, CommandHandler, ContextTypes, TypeHandler

from backscroll import AsyncProducer, ChatMessage
from backscroll.channels import Said, telegram

Context = ContextTypes.DEFAULT_TYPE


async def ask_model(history: list[ChatMessage]) -> str:
    return f"You said: {history[-1].content}"


class Bot:
    def __init__(self, history: AsyncProducer) -> None:
        self.history = history

    async def on_update(self, update: Update, context: Context) -> None:
        is_private = update.effective_chat and update.effective_chat.type == "private"
        for change in telegram.read(update, me=context.bot.id):
            receipt = await change.to(self.history)
            if isinstance(change, Said) and receipt.affected and is_private:
                await self.answer(change, update.effective_message)

    async def answer(self, said: Said, message: Message) -> None:
        async with self.history.turn(said.key, said.message) as turn:
            sent = await message.reply_text(await ask_model(turn.history))
            for change in telegram.read(sent, me=message.get_bot().id):
                await turn.append(change.message)

    async def on_search(self, update: Update, context: Context) -> None:
        """Only in this chat: nobody finds what was said in another one."""
        key = telegram.read(update)[0].key
        page = await self.history.search(" ".join(context.args or ()), key=key, limit=5)
        found = [f"{hit.message.author_name}: {hit.highlighted()}" for hit in page]
        await update.effective_message.reply_text("\n".join(found) or "Nothing found.")

    async def on_forget(self, update: Update, context: Context) -> None:
        """Whatever the one who asks has said anywhere, and the whole of the private chat."""
        person = str(update.effective_user.id)
        await self.history.erase(author=person)
        await self.history.erase(sender=person)
        await update.effective_message.reply_text("Forgotten.")


def build(builder: ApplicationBuilder, history: AsyncProducer) -> Application:
    bot, app = Bot(history), builder.build()
    app.add_handler(CommandHandler("search", bot.on_search))
    app.add_handler(CommandHandler("forget", bot.on_forget))
    app.add_handler(TypeHandler(Update, bot.on_update))  # all others, edits included
    return app


def main() -> None:
    history = AsyncProducer(ack="stored")

    async def close(_: Application) -> None:
        await history.close()

    builder = ApplicationBuilder().token(os.environ["TELEGRAM_TOKEN"]).post_shutdown(close)
    build(builder, history).run_polling(allowed_updates=Update.ALL_TYPES)


if __name__ == "__main__":
    main()
