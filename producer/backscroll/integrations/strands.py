"""The history of Strands Agents: a session manager, and the repository below it.

It needs the package `strands-agents`: `pip install 'backscroll[strands]'`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from strands.session.repository_session_manager import RepositorySessionManager
from strands.session.session_repository import SessionRepository
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage

from backscroll.client_chat_history import ChatHistory
from backscroll.connecting import connect
from backscroll.contract.errors import ConflictError, OperationRefusedError
from backscroll.contract.messages import ChatMessage, SessionAttributes
from backscroll.integrations.opened import history_of
from backscroll.integrations.strands_messages import message_of, platform_id, record_of

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase

_PAGE: Final = 500


class BackscrollRepository(SessionRepository):
    """Sessions of Strands, each with its agents in the session `prefix + session_id` of a history.

    `history` is a `Producer`, a `Local`, or a URL: "sqlite://chat.db" or "jsonl://chats" for a
    store in this process, "redis://…" for the queue. What a URL opens is shared by all of the
    process, and open until it ends; what you give is yours to close.

    `author` and `author_name` are who speaks as "user". `attributes` are those of the session, as
    `append` takes them: `{"channel": "web", "sender": "42"}`.

    The states of agents are states of the session, of up to 64 KiB each; 31 agents and multi-agents
    may have one. All raise `SessionException` as Strands' own repositories do, and as the calls of
    `Producer`.
    """

    def __init__(
        self,
        history: ChatHistory | str,
        *,
        prefix: str = "",
        author: str | None = None,
        author_name: str | None = None,
        attributes: SessionAttributes | None = None,
    ) -> None:
        self.history = history_of(history, connect)
        self._prefix = prefix
        self._author = author
        self._author_name = author_name
        self._attributes = attributes

    def key(self, session_id: str) -> str:
        """The key of that session: `history.search("…", key=repository.key(session_id))`."""
        return self._prefix + session_id

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        """Create a session; `SessionException` if there is one."""
        record = session.to_dict() | {"session_type": str(session.session_type.value)}
        self._create(session.session_id, "session", record, f"Session {session.session_id}")
        return session

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        """The session, or None."""
        record = self._read(session_id, "session")
        return None if record is None else Session.from_dict(record)

    def delete_session(self, session_id: str, **kwargs: Any) -> None:
        """Delete the session with all in it; `SessionException` if there is none."""
        if self.history.delete(self.key(session_id), ack="stored").affected == 0:
            raise SessionException(f"Session {session_id} does not exist")

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Create an agent; `SessionException` if there is one, or no session."""
        self._check_session(session_id)
        what = f"Agent {session_agent.agent_id}"
        self._create(session_id, _agent(session_agent.agent_id), session_agent.to_dict(), what)

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """The agent, or None."""
        record = self._read(session_id, _agent(agent_id))
        return None if record is None else SessionAgent.from_dict(record)

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Write what has changed of an agent; `SessionException` if there is none."""
        name = _agent(session_agent.agent_id)
        before = self._read(session_id, name)
        if before is None:
            raise SessionException(f"Agent {session_agent.agent_id} does not exist")
        session_agent.created_at = before["created_at"]
        self.history.set_state(self.key(session_id), session_agent.to_dict(), name)

    def create_message(
        self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any
    ) -> None:
        """Add a message; `SessionException` if there is one of that number.

        That may be another process's, which uses the session at the same time.
        """
        message = self._message(agent_id, session_message)
        receipt = self.history.append(
            self.key(session_id), message, session=self._attributes, ack="stored"
        )
        if receipt.affected == 0:
            number = session_message.message_id
            raise SessionException(f"Message {number} of agent {agent_id} exists already")

    def read_message(
        self, session_id: str, agent_id: str, message_id: int, **kwargs: Any
    ) -> SessionMessage | None:
        """The agent's message of that number, or None."""
        id_ = platform_id(agent_id, message_id)
        try:
            found = self.history.load(self.key(session_id), 1, around_platform_id=id_)
        except OperationRefusedError:  # there is no such message
            return None
        return next(iter(_of_agent(found, agent_id)), None)

    def update_message(
        self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any
    ) -> None:
        """Put a message in the place of that with its number; `SessionException` if none is."""
        number = session_message.message_id
        before = self.read_message(session_id, agent_id, number)
        if before is None:
            raise SessionException(f"Message {number} does not exist")
        session_message.created_at = before.created_at
        message = self._message(agent_id, session_message)
        id_ = platform_id(agent_id, number)
        self.history.replace(self.key(session_id), message, platform_id=id_)

    def list_messages(
        self,
        session_id: str,
        agent_id: str,
        limit: int | None = None,
        offset: int = 0,
        **kwargs: Any,
    ) -> list[SessionMessage]:
        """The agent's messages in order, without the first `offset`, and at most `limit`."""
        key = self.key(session_id)
        messages = page = list(self.history.load(key, _PAGE))
        while len(page) == _PAGE:
            page = self.history.load(key, _PAGE, page[0].message_id)
            messages = [*page, *messages]
        end = None if limit is None else offset + limit
        return _of_agent(messages, agent_id)[offset:end]

    def create_multi_agent(
        self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any
    ) -> None:
        """Keep the state of a graph or swarm; `SessionException` if there is no session."""
        self._check_session(session_id)
        state = multi_agent.serialize_state()
        self.history.set_state(self.key(session_id), state, _multi_agent(multi_agent.id))

    def read_multi_agent(
        self, session_id: str, multi_agent_id: str, **kwargs: Any
    ) -> dict[str, Any] | None:
        """The state of the graph or swarm, or None."""
        return self._read(session_id, _multi_agent(multi_agent_id))

    def update_multi_agent(
        self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any
    ) -> None:
        """Keep the state that it has now; `SessionException` if there was none."""
        if self.read_multi_agent(session_id, multi_agent.id) is None:
            raise SessionException(f"MultiAgent {multi_agent.id} does not exist")
        self.create_multi_agent(session_id, multi_agent)

    def _message(self, agent_id: str, message: SessionMessage) -> ChatMessage:
        return message_of(message.to_dict(), agent_id, self._author, self._author_name)

    def _check_session(self, session_id: str) -> None:
        if self._read(session_id, "session") is None:
            raise SessionException(f"Session {session_id} does not exist")

    def _create(self, session_id: str, name: str, record: dict[str, Any], what: str) -> None:
        try:
            self.history.set_state(self.key(session_id), record, name, expect=0)
        except ConflictError:
            raise SessionException(f"{what} already exists") from None

    def _read(self, session_id: str, name: str) -> dict[str, Any] | None:
        record: dict[str, Any] | None = self.history.get_state(self.key(session_id), name).value
        return record


class BackscrollSessionManager(RepositorySessionManager, BackscrollRepository):
    """Keeps an agent's messages and state in the session `prefix + session_id` of a history.

    Takes the place of Strands' `FileSessionManager`; the rest as for `BackscrollRepository`.
    """

    def __init__(
        self,
        session_id: str,
        history: ChatHistory | str,
        *,
        prefix: str = "",
        author: str | None = None,
        author_name: str | None = None,
        attributes: SessionAttributes | None = None,
    ) -> None:
        BackscrollRepository.__init__(
            self,
            history,
            prefix=prefix,
            author=author,
            author_name=author_name,
            attributes=attributes,
        )
        RepositorySessionManager.__init__(self, session_id, self)


def _agent(agent_id: str) -> str:
    return f"agent {agent_id}"


def _multi_agent(multi_agent_id: str) -> str:
    return f"multi-agent {multi_agent_id}"


def _of_agent(messages: list[ChatMessage], agent_id: str) -> list[SessionMessage]:
    """Those of the agent, by their numbers."""
    records = [record for each in messages if (record := record_of(each, agent_id)) is not None]
    return sorted(map(SessionMessage.from_dict, records), key=lambda each: each.message_id)
