"""The tables of a store, as peewee models; some parts have tables of their own, see `schema`."""

from __future__ import annotations

from typing import Final

import peewee
from playhouse.sqlite_ext import FTS5Model, SearchField


class SessionRow(peewee.Model):
    """One session. A row whose key is NULL is being deleted, a slice at a time."""

    id = peewee.AutoField()
    key = peewee.TextField(null=True, unique=True)
    name = peewee.TextField(null=True)
    agent = peewee.TextField(null=True)
    channel = peewee.TextField(null=True)
    room = peewee.TextField(null=True)
    sender = peewee.TextField(null=True)
    state = peewee.TextField(default="idle")
    turn_id = peewee.TextField(null=True)
    turn_started_at = peewee.BigIntegerField(null=True)
    pinned = peewee.IntegerField(default=0)
    created_at = peewee.BigIntegerField()
    last_activity = peewee.BigIntegerField(index=True)
    message_count = peewee.IntegerField(default=0)
    turn_expires_at = peewee.BigIntegerField(null=True)
    turn_lease = peewee.BigIntegerField(null=True)
    meta = peewee.TextField(null=True)
    closed = peewee.IntegerField(null=True)
    forked_from = peewee.TextField(null=True)
    forked_upto = peewee.TextField(null=True)
    continued_from = peewee.TextField(null=True)
    ttl_hours = peewee.FloatField(null=True)

    class Meta:
        table_name = "sessions"


class MessageRow(peewee.Model):
    """One message; a session's messages are in the order of `id`.

    The index on the session holds `id` as well, as every SQLite index ends with the row's id.
    """

    id = peewee.AutoField()
    session = peewee.ForeignKeyField(SessionRow, on_delete="RESTRICT", index=True)
    message_id = peewee.BlobField(unique=True)
    role = peewee.TextField()
    content = peewee.TextField()
    extra = peewee.TextField(null=True)
    created_at = peewee.BigIntegerField()
    author = peewee.TextField(null=True)
    author_name = peewee.TextField(null=True)
    platform_id = peewee.TextField(null=True)
    reply_to = peewee.TextField(null=True)
    tokens = peewee.BigIntegerField(null=True)
    upto = peewee.TextField(null=True)
    attachments = peewee.TextField(null=True)

    class Meta:
        table_name = "messages"


class EditRow(peewee.Model):
    """An earlier version of a replaced message; a message's versions are in the order of `id`."""

    id = peewee.AutoField()
    message = peewee.ForeignKeyField(MessageRow, on_delete="CASCADE", index=True)
    role = peewee.TextField()
    content = peewee.TextField()
    extra = peewee.TextField(null=True)
    replaced_at = peewee.BigIntegerField()

    class Meta:
        table_name = "edits"


class AppliedRow(peewee.Model):
    """An op id that was applied, and how many rows it affected."""

    op_id = peewee.BlobField(primary_key=True)
    applied_at = peewee.BigIntegerField()
    affected = peewee.IntegerField()

    class Meta:
        table_name = "applied"
        without_rowid = True


class GonePlatformIdRow(peewee.Model):
    """The hash of a platform id that a message of the session had; see `gone_ids`."""

    session = peewee.ForeignKeyField(SessionRow, on_delete="CASCADE", index=False)
    digest = peewee.BlobField()
    noted_at = peewee.BigIntegerField()

    class Meta:
        table_name = "gone_platform_ids"
        primary_key = peewee.CompositeKey("session", "digest")
        without_rowid = True


class WaitingChangeRow(peewee.Model):
    """An edit, or a deletion without a message, that arrived before what it is about."""

    key = peewee.TextField()
    platform_id = peewee.TextField()
    noted_at = peewee.BigIntegerField()
    message = peewee.TextField(null=True)
    author = peewee.TextField(null=True)

    class Meta:
        table_name = "waiting_changes"
        primary_key = peewee.CompositeKey("key", "platform_id")
        without_rowid = True


class ErasedRow(peewee.Model):
    """A tombstone; see `contract.tombstones`."""

    digest = peewee.BlobField(primary_key=True)
    erased_at = peewee.BigIntegerField()
    noted_at = peewee.BigIntegerField()

    class Meta:
        table_name = "erased"
        without_rowid = True


class ErasureRow(peewee.Model):
    """An erasure that has begun, and its receipt, once it has counted what to delete."""

    op_id = peewee.BlobField(primary_key=True)
    noted_at = peewee.BigIntegerField()
    receipt = peewee.BlobField(null=True)

    class Meta:
        table_name = "erasures"
        without_rowid = True


class ErasingRow(peewee.Model):
    """A session without a key that an erasure is about to delete."""

    session_id = peewee.IntegerField(primary_key=True)
    op_id = peewee.BlobField()

    class Meta:
        table_name = "erasing"


class ErasingAuthorRow(peewee.Model):
    """What an erasure moves to one of its sessions; see `maintenance.author_erasure`."""

    session_id = peewee.IntegerField(primary_key=True)
    author = peewee.TextField(null=True)
    last_row = peewee.IntegerField()
    sessions = peewee.IntegerField()

    class Meta:
        table_name = "erasing_authors"


class ClockRow(peewee.Model):
    """The history of the store's clock; one row. See `contract.clock`."""

    id = peewee.IntegerField(primary_key=True)
    history = peewee.BlobField()

    class Meta:
        table_name = "clock"


class MessageIndex(FTS5Model):  # type: ignore[misc]
    """The words of the messages, by message id; the text itself is only in `messages`."""

    text = SearchField()

    class Meta:
        table_name = "message_index"
        # `stores.search.text` has folded and cut the text before it comes here.
        options = {"content": "", "contentless_delete": 1, "tokenize": "ascii"}  # noqa: RUF012


MODELS: Final = (
    SessionRow,
    MessageRow,
    EditRow,
    AppliedRow,
    GonePlatformIdRow,
    WaitingChangeRow,
    ErasedRow,
    ErasureRow,
    ErasingRow,
    ErasingAuthorRow,
    ClockRow,
    MessageIndex,
)


# For listings. Most sessions lack most of these attributes, and then no index has to be written.
for _column in (SessionRow.agent, SessionRow.channel, SessionRow.room, SessionRow.sender):
    SessionRow.add_index(_column, where=_column.is_null(False))
MessageRow.add_index(MessageRow.author, MessageRow.session, where=MessageRow.author.is_null(False))
MessageRow.add_index(MessageRow.session, MessageRow.upto, where=MessageRow.upto.is_null(False))
MessageRow.add_index(  # most platforms' ids grow, so the index does at its end
    MessageRow.platform_id, MessageRow.session, where=MessageRow.platform_id.is_null(False)
)
SessionRow.add_index(SessionRow.state, where=peewee.SQL("state <> 'idle'"))
SessionRow.add_index(SessionRow.pinned, where=SessionRow.pinned == 1)
SessionRow.add_index(SessionRow.forked_from, where=SessionRow.forked_from.is_null(False))
SessionRow.add_index(SessionRow.ttl_hours, where=SessionRow.ttl_hours.is_null(False))
