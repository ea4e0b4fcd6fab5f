"""The sessions of Google's Agent Development Kit (ADK): `BackscrollSessionService`.

It needs the package `google-adk`: `pip install 'backscroll[google-adk]'`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.sessions import BaseSessionService, Session, State
from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse
from pydantic_core import to_jsonable_python

from backscroll import connect_async
from backscroll.aio_chat_history import AsyncChatHistory
from backscroll.channels.values import session_key
from backscroll.contract.errors import ConflictError
from backscroll.contract.messages import ChatMessage, SessionAttributes, SessionInfo
from backscroll.contract.states import SessionState, check_state
from backscroll.integrations.google_events import event_of, message_of
from backscroll.integrations.opened import history_of
from backscroll.integrations.settling import settled

_STATE: Final = "google_adk"
_SCHEME: Final = "backscroll+"
_PAGE: Final = 500
_SESSIONS: Final = 1_000
_AT_ONCE: Final = 100


class BackscrollSessionService(BaseSessionService):
    """Sessions of ADK, each in a session of a history whose key is made of app, user and id.

    `history` is an `AsyncProducer`, an `AsyncLocal`, or a URL: "sqlite://chat.db" or
    "jsonl://chats" for a store in this process, "redis://…" for the queue. What a URL opens is
    shared by all of the process, and open until it ends; what you give is yours to close. `uri` is
    how ADK gives a URL, behind `backscroll+`, to what a `services.yaml` names.

    The app is the agent of the session, and the user its sender. `attributes` are others, as
    `append` takes them: `{"channel": "web"}`.

    An event is a message, stored once by its id. The states of a session, a user and an app have up
    to 64 KiB each in JSON. What changes a state is merged into what is there by then, so that
    several writers lose nothing, and no session becomes stale. An event is stored before what it
    changes: who did not hear of the end appends it again, which completes both.

    All raise ADK's errors, and as the calls of `AsyncProducer`.
    """

    def __init__(
        self,
        history: AsyncChatHistory | str | None = None,
        *,
        uri: str | None = None,
        prefix: str = "",
        attributes: SessionAttributes | None = None,
        **_of_adk: Any,
    ) -> None:
        given = history if history is not None else (uri or "").removeprefix(_SCHEME)
        self.history: AsyncChatHistory = history_of(given, connect_async)
        self._prefix = prefix
        self._attributes = attributes or {}

    def key(self, app_name: str, user_id: str, session_id: str) -> str:
        """The key of that session, for the calls of the history."""
        return self._prefix + session_key("adk", app_name, user_id, session_id)

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """As `BaseSessionService` says; raises `AlreadyExistsError` where it exists."""
        id_ = (session_id or "").strip() or str(uuid.uuid4())
        key, now = self.key(app_name, user_id, id_), datetime.now(UTC).timestamp()
        of_app, of_user, own = _parted(state or {})

        async def create() -> None:
            try:
                document = {"state": own, "created": now}
                await self.history.set_state(key, document, _STATE, expect=0)
            except ConflictError:
                raise AlreadyExistsError(f"Session with id {id_} already exists.") from None
            await self.history.describe(key, **self._of_session(app_name, user_id, id_, now))
            await self._merge_shared(app_name, user_id, of_app, of_user)

        await settled(create())
        shared = await self._shared(app_name, user_id)
        return Session(
            id=id_, app_name=app_name, user_id=user_id, state=own | shared, last_update_time=now
        )

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session | None:
        """As `BaseSessionService` says; None if there is none."""
        id_ = session_id.strip()
        key = self.key(app_name, user_id, id_)
        state, info, shared, events = await asyncio.gather(
            self.history.get_state(key, _STATE),
            self.history.session(key),
            self._shared(app_name, user_id),
            self._events(key, config or GetSessionConfig()),
        )
        if state.value is None or info is None:
            return None
        return Session(
            id=id_,
            app_name=app_name,
            user_id=user_id,
            state=_values(state) | shared,
            events=events,
            last_update_time=_updated(info, state),
        )

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """As `BaseSessionService` says; the state of each session is read."""
        found = [info async for info in self._listed(app_name, user_id)]
        users = {str(info.meta["adk_user"]) for info in found}
        shared = {user: await self._shared(app_name, user) for user in users}
        sessions = list[Session]()
        for place in range(0, len(found), _AT_ONCE):
            some = found[place : place + _AT_ONCE]
            states = await asyncio.gather(
                *(self.history.get_state(info.key, _STATE) for info in some)
            )
            for info, state in zip(some, states, strict=True):
                if state.value is not None:
                    user = str(info.meta["adk_user"])
                    sessions.append(
                        Session(
                            id=str(info.meta["adk_session"]),
                            app_name=app_name,
                            user_id=user,
                            state=_values(state) | shared[user],
                            last_update_time=_updated(info, state),
                        )
                    )
        sessions.sort(key=lambda session: (session.last_update_time, session.user_id, session.id))
        return ListSessionsResponse(sessions=sessions)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """As `BaseSessionService` says; the messages are deleted with it."""
        key = self.key(app_name, user_id, session_id.strip())
        await self.history.delete(key, ack="stored")

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """As `BaseSessionService` says."""
        return _values(await self.history.get_state(self._user_key(app_name, user_id), _STATE))

    async def append_event(self, session: Session, event: Event) -> Event:
        """As `BaseSessionService` says; an event that is stored already is not stored again.

        Raises `SessionNotFoundError` where the session does not exist any more.
        """
        return event if event.partial else await settled(self._append(session, event))

    async def _append(self, session: Session, event: Event) -> Event:
        app_name, user_id = session.app_name, session.user_id
        key = self.key(app_name, user_id, session.id)
        state = await self.history.get_state(key, _STATE)
        self._apply_temp_state(session, event)
        event = self._trim_temp_delta_state(event)
        of_app, of_user, own = _parted(event.actions.state_delta if event.actions else {})
        if state.value is None:
            raise SessionNotFoundError(f"Session {session.id} not found.")
        check_state(_merged(state, own))  # before the event is stored
        attributes = self._of_session(app_name, user_id, session.id, event.timestamp)
        message = message_of(event, user_id)
        receipt = await self.history.append(key, message, session=attributes, ack="stored")
        if not receipt.affected:
            newest = await self.history.load(key, 1)
            if not newest or newest[0].platform_id != event.id:
                return event  # what it changed has been changed again since, perhaps
        await self._merge(key, own)
        await self._merge_shared(app_name, user_id, of_app, of_user)
        if event in session.events:
            return event
        session.last_update_time = event.timestamp
        return self._commit_event_to_session(session, event)

    async def _events(self, key: str, config: GetSessionConfig) -> list[Event]:
        limit, after = config.num_recent_events, config.after_timestamp
        if limit == 0:
            return []
        since = None
        if after is not None and after > 0:  # a message's time is of whole microseconds
            since = datetime.fromtimestamp(after, UTC) - timedelta(microseconds=1)
        messages = list[ChatMessage]()
        while True:
            count = _PAGE if limit is None else min(_PAGE, limit - len(messages))
            before = messages[0].message_id if messages else None
            page = await self.history.load(key, count, before, since=since)
            messages[:0] = page
            if len(page) < count or len(messages) == limit:
                break
        events = map(event_of, messages)
        return [event for event in events if after is None or event.timestamp >= after]

    async def _listed(self, app_name: str, user_id: str | None) -> AsyncIterator[SessionInfo]:
        wanted = {"adk_app": app_name} | ({} if user_id is None else {"adk_user": user_id})
        cursor = None
        while True:
            page = await self.history.sessions(meta=wanted, limit=_SESSIONS, cursor=cursor)
            for info in page:
                if info.key.startswith(self._prefix) and "adk_session" in info.meta:
                    yield info
            if (cursor := page.cursor) is None:
                return

    def _of_session(
        self, app_name: str, user_id: str, session_id: str, updated: float
    ) -> dict[str, Any]:
        """What the history has to know of a session, to list it."""
        given: Any = self._attributes.get("meta") or {}
        ids = {"adk_app": app_name, "adk_user": user_id, "adk_session": session_id}
        meta = {**given, **ids, "adk_updated": updated}
        return {**self._attributes, "agent": app_name, "sender": user_id, "meta": meta}

    def _app_key(self, app_name: str) -> str:
        return self._prefix + session_key("adkapp", app_name)

    def _user_key(self, app_name: str, user_id: str) -> str:
        return self._prefix + session_key("adkuser", app_name, user_id)

    async def _shared(self, app_name: str, user_id: str) -> dict[str, Any]:
        """The states of the app and of the user, as a session shows them."""
        of_app, of_user = await asyncio.gather(
            self.history.get_state(self._app_key(app_name), _STATE),
            self.get_user_state(app_name=app_name, user_id=user_id),
        )
        named = {State.APP_PREFIX + name: value for name, value in _values(of_app).items()}
        return named | {State.USER_PREFIX + name: value for name, value in of_user.items()}

    async def _merge_shared(
        self, app_name: str, user_id: str, of_app: dict[str, Any], of_user: dict[str, Any]
    ) -> None:
        app_key, user_key = self._app_key(app_name), self._user_key(app_name, user_id)
        if of_app:
            await self.history.describe(app_key, agent=app_name, pinned=True)
            await self._merge(app_key, of_app)
        if of_user:
            await self.history.describe(user_key, agent=app_name, sender=user_id, pinned=True)
            await self._merge(user_key, of_user)

    async def _merge(self, key: str, delta: dict[str, Any]) -> None:
        """Set these values in the state, whoever else sets others at the same time."""
        while delta:
            state = await self.history.get_state(key, _STATE)
            try:
                await self.history.set_state(
                    key, _merged(state, delta), _STATE, expect=state.version
                )
            except ConflictError:
                continue
            return


def _merged(state: SessionState, delta: dict[str, Any]) -> dict[str, Any]:
    return {**(state.value or {}), "state": {**_values(state), **delta}}


def _values(state: SessionState) -> dict[str, Any]:
    values: dict[str, Any] = (state.value or {}).get("state", {})
    return values


def _parted(delta: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What is of the app, of the user, and of the session, without what is temporary, as JSON."""
    parts: dict[str, dict[str, Any]] = {State.APP_PREFIX: {}, State.USER_PREFIX: {}, "": {}}
    for name, value in delta.items():
        prefix = next(each for each in parts if name.startswith(each))
        if not name.startswith(State.TEMP_PREFIX):
            parts[prefix][name.removeprefix(prefix)] = to_jsonable_python(
                value, serialize_unknown=True, inf_nan_mode="null"
            )
    return parts[State.APP_PREFIX], parts[State.USER_PREFIX], parts[""]


def _updated(info: SessionInfo, state: SessionState) -> float:
    return float(info.meta.get("adk_updated") or state.value["created"])
