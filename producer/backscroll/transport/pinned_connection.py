"""One connection to the server, used directly; replies may be read later than they are sent.

redis-py's own calls borrow a connection from the pool and give it back each time, which takes
longer than all the rest of a small call. It still connects, logs in and packs the commands.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import redis

from backscroll.contract.errors import STUMBLES

Command = tuple[Any, ...]

_FRESH_SECONDS: Final = 1.0


class Script:
    """A Lua script, which is sent to the server once and then called by its hash."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def evalsha(self, *arguments: Any) -> Command:
        """The command that runs it: number of keys, keys, arguments."""
        return ("EVALSHA", self.sha, *arguments)

    def eval(self, *arguments: Any) -> Command:
        """As `evalsha`, for a server that does not know the script."""
        return ("EVAL", self.text, *arguments)


class PinnedConnection:
    """A connection for one user at a time. After any failure the next command connects anew."""

    def __init__(self, client: redis.Redis) -> None:
        pool = client.connection_pool
        # Not by the pool, which counts them for ever, and makes a hundred at most.
        self._make: Callable[[], Any] = lambda: pool.connection_class(**pool.connection_kwargs)
        self._connection: Any = self._make()
        self._expected = 0
        self._used_at = 0.0

    @property
    def is_awaited(self) -> bool:
        """Whether there are unread replies."""
        return self._expected > 0

    @property
    def socket(self) -> Any:
        """What to poll for pushes; None while there is no connection."""
        return self._connection._sock

    def call(self, *commands: Command) -> list[Any]:
        """Send `commands` in one go and read their replies, as `receive`."""
        self.send(*commands)
        return self.receive()

    def run(self, script: Script, *arguments: Any) -> Any:
        """Run `script` and return its reply; a server that does not know it gets its text."""
        try:
            return self.call(script.evalsha(*arguments))[0]
        except redis.exceptions.NoScriptError:
            return self.call(script.eval(*arguments))[0]

    def send(self, *commands: Command) -> None:
        """Send `commands` in one go; `receive` then has their replies."""
        self._expected = len(commands)
        with self._whole():
            self._connection.send_packed_command(self._connection.pack_commands(commands))

    def receive(self) -> list[Any]:
        """The reply to each command that was sent; raises the first error among them."""
        replies = self.replies()
        for reply in replies:
            for item in reply if isinstance(reply, list) else [reply]:  # EXEC's is a list
                if isinstance(item, Exception):
                    raise item
        return replies

    def replies(self) -> list[Any]:
        """The reply to each command that was sent, errors included."""
        with self._whole():
            replies = [self._read() for _ in range(self._expected)]
        self._expected = 0
        self._used_at = time.monotonic()
        return replies

    def on_invalidation(self, note: Callable[[Any], None]) -> bool:
        """Call `note` with each push that names the tracked keys that have changed.

        False where this connection, once it is made, gets no pushes (RESP2).
        """
        if int(self._connection.protocol) < 3:
            return False
        self._connection._parser.set_invalidation_push_handler(note)
        return True

    def read_pushes(self) -> None:
        """Read what the server has sent by itself."""
        with self._whole():
            while self._connection.can_read():
                self._connection.read_response(push_request=True)

    def refresh(self) -> None:
        """Make the connection fit for a new call.

        If the last user was interrupted between a command and its reply, or the server has
        disconnected since (checked once a second), the next command connects anew.
        """
        if self._expected:  # else the next user would get the reply of the last one
            self.reset()
        if time.monotonic() - self._used_at < _FRESH_SECONDS:
            return
        if self.socket is not None and self._is_stale():
            self.reset()

    def reset(self) -> None:
        """Disconnect; unread replies are lost."""
        self._expected += 1  # who is interrupted from here on leaves one to be reset again
        # A new one, as redis-py's may be half-way in anything.
        old, self._connection = self._connection, self._make()
        self._expected = 0
        with suppress(redis.RedisError, OSError, *STUMBLES):
            old.disconnect()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Disconnect unless all of it is done; whatever fails in redis-py is one of its errors."""
        try:
            yield
        except redis.RedisError:
            self.reset()
            raise
        except STUMBLES as error:  # its parser's, over an invalid reply
            self.reset()
            raise redis.exceptions.InvalidResponse(f"unreadable reply: {error}") from error
        except BaseException:
            self.reset()
            raise

    def _is_stale(self) -> bool:
        """Whether the stream has ended, or has something that nobody asked for."""
        try:
            return bool(self._connection.can_read())
        except (redis.RedisError, *STUMBLES):
            return True

    def _read(self) -> Any:
        try:
            return self._connection.read_response()
        except redis.ResponseError as error:
            return error
