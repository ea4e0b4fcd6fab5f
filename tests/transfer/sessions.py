"""Sessions as hostile as they may be, stores to put them in, and short ways between the two."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hypothesis import strategies as st

from backscroll.contract.attachments import Attachment
from backscroll.contract.messages import ChatMessage, EarlierVersion, SessionInfo, from_micros
from backscroll.contract.results import Outcome
from backscroll.contract.validation import FORKED, TEXT_ATTRIBUTES
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.testing.stores import StoreUnderTest, open_tested
from backscroll_worker.transfer.chats.conversation import Options
from backscroll_worker.transfer.formats import FORMATS
from backscroll_worker.transfer.import_files import ImportReport, import_files
from backscroll_worker.transfer.sessions import Wanted, find, read

Everything = dict[str, tuple[SessionInfo | None, list[ChatMessage]]]

TRICKY = "</pre><script>\0\u202e\u2028\r\n`\\é\U0001f642語\"'{}\n"
plain = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
anything = st.text(st.characters(codec="utf-8") | st.sampled_from(TRICKY), max_size=30)
micros = st.integers(0, 253_402_300_799_999_999)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | anything,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(anything, inner, max_size=2),
    max_leaves=4,
)
extras = st.none() | st.dictionaries(anything, values, max_size=2)
attachments = st.builds(
    Attachment,
    plain,
    st.none() | plain,
    url=st.none() | plain,
    data=st.none() | st.binary(max_size=9),
    platform_id=st.none() | plain,
)
edits = st.builds(EarlierVersion, plain, anything, extras, micros.map(from_micros))
messages = st.builds(
    ChatMessage,
    plain,
    anything,
    extras,
    plain,
    micros.map(from_micros),
    st.lists(edits, max_size=2).map(tuple),
    attachments=st.lists(attachments, max_size=2),
)
attributes = st.fixed_dictionaries(
    {"state": st.sampled_from(["idle", "running", "error"]), "pinned": st.booleans()},
    optional={
        **dict.fromkeys((*TEXT_ATTRIBUTES, *FORKED), plain),
        "meta": st.dictionaries(
            plain, plain | st.booleans() | st.floats(-1, 1), min_size=1, max_size=2
        ),
        "ttl_hours": st.floats(0, 999_999_999),
    },
)
sessions = st.builds(
    ImportSession,
    st.uuids(version=4).map(lambda each: each.hex),
    st.just(1),
    plain,
    st.lists(messages, max_size=4, unique_by=lambda each: each.message_id).map(tuple),
    attributes,
    micros,
    st.integers(0, 4_000_000_000_000_000),  # a file's time, which a disk can hold until 2446
    st.none() | micros,
    turn_expires_at=st.none() | micros,
)


def distinct(operations: list[ImportSession]) -> bool:
    """SQLite has each message id once in all of the store."""
    ids = [message.message_id for each in operations for message in each.messages]
    return len(set(ids)) == len(ids)


several = st.lists(sessions, max_size=3, unique_by=lambda each: each.key).filter(distinct)


def fill(store: str, operations: Iterable[ImportSession]) -> None:
    with open_tested(store) as backend:
        for answer in backend.apply(list(operations)):
            assert isinstance(answer, Outcome), answer


def export(store: str, form: str, wanted: Wanted | None = None) -> bytes:
    """What `backscroll export` writes."""
    with open_tested(store, read_only=True) as backend:
        found = find(backend, wanted or Wanted())
        return b"".join(FORMATS[form](read(backend, found, lambda _: None, fills=form == "jsonl")))


def take(store: str, path: Path, content: bytes, key_prefix: str | None = None) -> ImportReport:
    """What `backscroll import` makes of a file with this content."""
    path.write_bytes(content)
    return import_files([path], store, Options(key_prefix), lambda _: None)


def everything(store: str) -> Everything:
    """All that a store says of all its sessions."""
    with open_tested(store, read_only=True) as backend:
        return {info.key: _all_of(backend, info.key) for info in find(backend, Wanted())}


def _all_of(backend: StoreUnderTest, key: str) -> tuple[SessionInfo | None, list[ChatMessage]]:
    return backend.session(key), backend.load(key, include_edits=True)
