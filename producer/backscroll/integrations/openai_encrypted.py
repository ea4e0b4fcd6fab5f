"""An encrypted session of OpenAI Agents that pops only what it can read.

It needs the package `openai-agents` with its extra `encrypt`:
`pip install 'backscroll[openai-agents]' 'openai-agents[encrypt]'`.
"""

from __future__ import annotations

from typing import Any, cast

from agents import RunContextWrapper, SessionABC, TResponseInputItem
from agents.extensions.memory.encrypt_session import EncryptedSession

from backscroll.integrations.openai_agents import BackscrollSession


class BackscrollEncryptedSession(EncryptedSession):
    """The SDK's `EncryptedSession`, made as that is, for use over a `BackscrollSession`.

    The SDK looks whether it can read an item before it pops it only where the session is its own
    `SQLiteSession`; of any other, a pop with a wrong key would remove all. Here it does so, too.
    """

    def __init__(
        self,
        session_id: str,
        underlying_session: BackscrollSession | SessionABC,
        encryption_key: str,
        ttl: int = 600,
        max_scan_items: int | None = None,
    ) -> None:
        session = cast(SessionABC, underlying_session)  # it is what the SDK's own are made of
        super().__init__(session_id, session, encryption_key, ttl, max_scan_items)

    async def pop_item(
        self, *, wrapper: RunContextWrapper[Any] | None = None
    ) -> TResponseInputItem | None:
        """Remove the newest item that is readable and return it; None if there is none.

        With it go expired items, and those that nobody encrypted, that came after it. Raises
        `cryptography.fernet.InvalidToken` for an item that was encrypted with another key, or
        changed: it stays, and so does what is before it.
        """
        session: Any = self.underlying_session
        if getattr(type(session), "pop_item", None) is not BackscrollSession.pop_item:
            return await super().pop_item(wrapper=wrapper)
        while (encrypted := await session._pop_item_with_validation(self._check)) is not None:
            if (item := self._unwrap(encrypted)) is not None:
                return item
        return None

    def _check(self, item: Any) -> None:
        """Raise `InvalidToken` if the item is encrypted, but not by this session's key."""
        if isinstance(item, dict) and item.get("__enc__") == 1:
            # Its age does not matter: an expired item may go.
            self.cipher.extract_timestamp(str(item.get("payload")).encode())
