"""`slack.read`, by events as the Events API's documentation describes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backscroll import Attachment, ChatMessage
from backscroll.channels import Change, Deleted, Edited, Said, slack

ROOT, TS, LATER = "1772359200.000100", "1772359260.000200", "1772359300.000300"
AT = datetime.fromtimestamp(1_772_359_260, UTC) + timedelta(microseconds=200)
NAMES = {"U1": "Ada", "U2": "Bob"}
ROOM = {"channel": "slack", "room": "C1"}


def event(text: str = "Lunch?", **more: Any) -> dict[str, Any]:
    return {"type": "message", "channel": "C1", "user": "U1", "text": text, "ts": TS, **more}


def inner(**more: Any) -> dict[str, Any]:
    """A message as another event has it: without its channel."""
    return {name: value for name, value in event(**more).items() if name != "channel"}


def changed(message: dict[str, Any], before: dict[str, Any], **more: Any) -> dict[str, Any]:
    given = {"message": message, "previous_message": before, "ts": LATER, "hidden": True}
    return {"type": "message", "subtype": "message_changed", "channel": "C1", **given, **more}


def deleted(before: dict[str, Any], **more: Any) -> dict[str, Any]:
    given = {"deleted_ts": TS, "previous_message": before, "ts": LATER, "hidden": True}
    return {"type": "message", "subtype": "message_deleted", "channel": "C1", **given, **more}


def said(content: str = "Lunch?", **more: Any) -> ChatMessage:
    by = {"author": "U1", "author_name": "Ada"}
    return ChatMessage.user(content, **{"created_at": AT, "platform_id": TS, **by, **more})


def read(given: object, **more: Any) -> list[Change]:
    return list(slack.read(given, me=("UBOT", "BBOT"), names=NAMES, **more))


_FILE = {
    "id": "F1",
    "name": "a.png",
    "mimetype": "image/png",
    "size": 9,
    "url_private": "https://f/a",
}
_RICH: Any = [
    {
        "type": "rich_text_section",
        "elements": [
            {"type": "user", "user_id": "UADA"},
            {"type": "text", "text": ": 1 < 2, "},
            {"type": "link", "url": "https://example.org", "text": "Docs"},
        ],
    },
    {
        "type": "rich_text_list",
        "elements": [
            {"type": "rich_text_section", "elements": [{"type": "text", "text": "one"}]},
            {"type": "rich_text_section", "elements": [{"type": "text", "text": "two"}]},
        ],
    },
]
_FIELDS: Any = [
    {"type": "section", "fields": [{"text": "Disk"}, {"text": "full"}]},
    {"type": "context", "elements": [{"type": "mrkdwn", "text": "5 min ago"}]},
]
_BOT: dict[str, Any] = {"subtype": "bot_message", "user": None, "bot_id": "B1", "username": "Build"}
_BY_BUILD = {"author": "B1", "author_name": "Build"}
_IN_THREAD = "slack_C1_" + ROOT
_PICTURE = Attachment("image", "a.png", "image/png", 9, "https://f/a", platform_id="F1")

CASES: list[tuple[str, dict[str, Any], list[Change]]] = [
    ("message", event(), [Said("slack_C1", said(), ROOM)]),
    ("mention", event(type="app_mention"), [Said("slack_C1", said(), ROOM)]),
    (
        "direct message",
        event(channel="D1", channel_type="im"),
        [Said("slack_D1", said(), {"channel": "slack", "room": "D1", "sender": "U1"})],
    ),
    ("thread", event(thread_ts=ROOT), [Said(_IN_THREAD, said(reply_to=ROOT), ROOM)]),
    ("first of a thread", event(thread_ts=TS), [Said("slack_C1", said(), ROOM)]),
    (
        "reply that is also sent to the channel",
        event(thread_ts=ROOT, subtype="thread_broadcast"),
        [
            Said(_IN_THREAD, said(reply_to=ROOT), ROOM),
            Said("slack_C1", said(reply_to=ROOT), ROOM),
        ],
    ),
    ("bot", event(**_BOT), [Said("slack_C1", said(**_BY_BUILD), ROOM)]),
    (
        "bot that only has attachments",
        event("", **_BOT, attachments=[{"fallback": "Build failed"}, {"text": "main"}]),
        [Said("slack_C1", said("Build failed\nmain", **_BY_BUILD), ROOM)],
    ),
    (
        "bot that only has blocks",
        event("", **_BOT, blocks=[{"type": "section", "text": {"type": "mrkdwn", "text": "Up"}}]),
        [Said("slack_C1", said("Up", **_BY_BUILD), ROOM)],
    ),
    (
        "bot that only has a rich text",
        event("", **_BOT, blocks=[{"type": "rich_text", "elements": _RICH}]),
        [
            Said(
                "slack_C1",
                said("@UADA: 1 < 2, Docs (https://example.org)\none\ntwo", **_BY_BUILD),
                ROOM,
            )
        ],
    ),
    (
        "bot whose attachments have blocks",
        event("", **_BOT, attachments=[{"blocks": _FIELDS, "fallback": "[no preview available]"}]),
        [Said("slack_C1", said("Disk\nfull\n5 min ago", **_BY_BUILD), ROOM)],
    ),
    (
        "bot that has blocks, an attachment and a preview",
        event(
            "",
            **_BOT,
            blocks=_FIELDS,
            attachments=[{"text": "main"}, {"text": "A page", "from_url": "https://example.org"}],
        ),
        [Said("slack_C1", said("Disk\nfull\n5 min ago\nmain", **_BY_BUILD), ROOM)],
    ),
    (
        "shared message",
        event("", attachments=[{"text": "As said", "from_url": "https://x.slack.com/p1"}]),
        [Said("slack_C1", said("As said"), ROOM)],
    ),
    (
        "own",
        event(user="UBOT", bot_id="BBOT", bot_profile={"name": "Helper"}),
        [
            Said(
                "slack_C1",
                ChatMessage.assistant(
                    "Lunch?", created_at=AT, platform_id=TS, author="UBOT", author_name="Helper"
                ),
                ROOM,
            )
        ],
    ),
    (
        "own of before, without a user",
        event(**_BOT | {"bot_id": "BBOT"}),
        [
            Said(
                "slack_C1",
                ChatMessage.assistant(
                    "Lunch?", created_at=AT, platform_id=TS, author="BBOT", author_name="Build"
                ),
                ROOM,
            )
        ],
    ),
    (
        "file",
        event("", subtype="file_share", files=[_FILE, {"id": "F2", "mode": "tombstone"}]),
        [Said("slack_C1", said("", attachments=(_PICTURE,)), ROOM)],
    ),
    (
        "file with a text",
        event("Us", subtype="file_share", files=[_FILE]),
        [Said("slack_C1", said("Us", attachments=(_PICTURE,)), ROOM)],
    ),
    ("edit", changed(inner(text="Dinner?"), inner()), [Edited("slack_C1", said("Dinner?"), TS)]),
    (
        "edit in a thread",
        changed(inner(text="Dinner?", thread_ts=ROOT), inner(thread_ts=ROOT)),
        [Edited(_IN_THREAD, said("Dinner?", reply_to=ROOT), TS)],
    ),
    ("preview of a link", changed(inner(attachments=[{"text": "Page"}]), inner()), []),
    ("reply counted", changed(inner(reply_count=1), inner()), []),
    ("first text", changed(inner(), inner(text="")), [Said("slack_C1", said(), ROOM)]),
    ("edit of what is not said", changed(inner(), {}), [Edited("slack_C1", said(), TS)]),
    ("deletion", deleted(inner()), [Deleted("slack_C1", TS)]),
    ("deletion in a thread", deleted(inner(thread_ts=ROOT)), [Deleted(_IN_THREAD, TS)]),
    ("first of a thread deleted", deleted(inner(thread_ts=TS)), [Deleted("slack_C1", TS)]),
    (
        "first of a thread deleted that has replies",
        changed(inner(subtype="tombstone", text="This message was deleted."), inner()),
        [Deleted("slack_C1", TS)],
    ),
    ("joined", event(subtype="channel_join"), []),
    ("reaction", {"type": "reaction_added", "user": "U1", "item": {"channel": "C1", "ts": TS}}, []),
    ("nothing to show", event(""), []),
]


@pytest.mark.parametrize(
    ("given", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_an_event_is_read_as_slack_shows_it(given: dict[str, Any], expected: list[Change]) -> None:
    assert read(given) == expected
    body = {"type": "event_callback", "team_id": "T1", "event": given}
    assert read(body) == expected


MARKUP = [
    ("a &lt;b&gt; &amp; c &amp;lt;", "a <b> & c &lt;"),
    ("<@U2> and <@U9>, <@U8|eve>", "@Bob and @U9, @eve"),
    ("<#C7|random> <#C8>", "#random #C8"),
    ("<!here> <!subteam^S1|@team> <!subteam^S2>", "@here @team @S2"),
    ("<!date^1392734382^{date}|Feb 18>", "Feb 18"),
    ("<https://a.example/x?y=1&amp;z>", "https://a.example/x?y=1&z"),
    ("<http://a.example|a.example> <https://b.example|here>", "a.example here (https://b.example)"),
    ("<mailto:a@b.example|a@b.example>", "a@b.example"),
    ("1 < 2", "1 < 2"),
]


@pytest.mark.parametrize(("raw", "shown"), MARKUP)
def test_markup_is_read_as_slack_shows_it(raw: str, shown: str) -> None:
    (change,) = read(event(raw))
    assert isinstance(change, Said)
    assert change.message.content == shown


def test_workspaces_and_threads_have_keys_of_their_own() -> None:
    channels = [read(event(), team=team)[0].key for team in (None, "T1", "T2")]
    threads = [read(event(thread_ts=ROOT), team=team)[0].key for team in (None, "T1")]
    assert channels == ["slack_C1", "slack_T1_C1", "slack_T2_C1"]
    assert threads == [f"slack_C1_{ROOT}", f"slack_T1_C1_{ROOT}"]


@pytest.mark.parametrize("channel", ["", None, 7, "C1_C2", "1772359200.000100", "C1\n", "Ｃ１"])
def test_what_is_no_id_of_slack_makes_no_key(channel: object) -> None:
    assert read(event(channel=channel)) == []
    assert read(event(), team=channel) == ([] if channel is not None else read(event()))


@pytest.mark.parametrize("ts", ["", None, 7, "1", "1.2\n", "x.y", "-1.5", "9" * 400 + ".1"])
def test_a_message_without_its_time_stamp_is_not_a_message(ts: object) -> None:
    assert read(event(ts=ts)) == []
    assert read(deleted(inner(), deleted_ts=ts)) == []
    assert read(event(thread_ts=ts)) == [Said("slack_C1", said(), ROOM)]
