"""A Slack bot that remembers: answers where it is mentioned or in direct messages.

Its app listens to `message.*` and has the commands /search and /forget.
"""

from __future__ import annotations

import os
from typing import Any

from slack_bolt import App
from slack_bolt.adapter.socket_mode import SocketModeHandler

from backscroll import ChatMessage, Producer
from backscroll.channels import Said, slack


def ask_model(history: list[ChatMessage]) -> str:
    return f"You said: {history[-1].content}"


class Bot:
    def __init__(self, app: App, history: Producer) -> None:
        self.history = history
        self.names: dict[str, str] = {}
        app.event("message")(self.on_message)
        app.command("/search")(self.on_search)
        app.command("/forget")(self.on_forget)

    def on_message(self, event: dict[str, Any], context: Any, client: Any) -> None:
        """Also edits and deletions, which are messages for Slack."""
        me = (context.bot_user_id, context.bot_id)
        self.learn_name(event.get("user"), client)
        is_asked = f"<@{me[0]}>" in event.get("text", "") or event.get("channel_type") == "im"
        for change in slack.read(event, me=me, names=self.names):
            receipt = change.to(self.history)
            if isinstance(change, Said) and receipt.affected and is_asked:
                is_asked = False  # once, also where a reply is sent to its channel as well
                self.answer(change, event, me, client)

    def learn_name(self, user: str | None, client: Any) -> None:
        """Slack's events have only the ids of people."""
        if user is not None and user not in self.names:
            profile = client.users_info(user=user)["user"]["profile"]
            self.names[user] = profile["display_name"] or profile["real_name"]

    def answer(self, said: Said, event: dict[str, Any], me: tuple[str, str], client: Any) -> None:
        with self.history.turn(said.key, said.message) as turn:
            text, thread = ask_model(turn.history), event.get("thread_ts")
            sent = client.chat_postMessage(channel=event["channel"], text=text, thread_ts=thread)
            for change in slack.read({**sent["message"], "channel": sent["channel"]}, me=me):
                turn.append(change.message)

    def on_search(self, ack: Any, respond: Any, command: dict[str, Any]) -> None:
        """Only in this channel, threads included: nobody finds what was said in another one."""
        ack()
        page = self.history.search(command["text"], room=command["channel_id"], limit=5)
        found = [f"{hit.message.author_name}: {hit.highlighted()}" for hit in page]
        respond("\n".join(found) or "Nothing found.")

    def on_forget(self, ack: Any, respond: Any, command: dict[str, Any]) -> None:
        """Whatever the one who asks has said anywhere, and the whole of the direct messages."""
        ack()
        self.history.erase(author=command["user_id"])
        self.history.erase(sender=command["user_id"])
        respond("Forgotten.")


def main() -> None:
    app = App(token=os.environ["SLACK_BOT_TOKEN"])
    with Producer(ack="stored") as history:
        Bot(app, history)
        SocketModeHandler(app, os.environ["SLACK_APP_TOKEN"]).start()


if __name__ == "__main__":
    main()
