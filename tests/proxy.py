"""Proxies before the server: one loses replies on demand, one speaks TLS."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class LossyProxy:
    """Listens on TCP and forwards to a Unix socket; `lose_replies` cuts the next connections.

    A cut comes after the server has carried out the command and before its reply gets through:
    the producer cannot know whether it was taken.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._lost_command = b""
        self._to_lose = 0
        self.lost = 0

    def lose_replies(self, command: bytes, count: int = 1) -> None:
        """Lose the replies to the next `count` requests that contain `command`."""
        self._lost_command, self._to_lose = command, count

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self._target)
            while request := client.recv(1 << 20):
                server.sendall(request)
                reply = server.recv(1 << 20)
                if self._to_lose and self._lost_command in request:
                    self._to_lose -= 1
                    self.lost += 1
                    return
                client.sendall(reply)


class TlsProxy:
    """Listens on TCP with TLS and forwards to a Unix socket: the embedded server has no TLS."""

    def __init__(self, target: str, context: ssl.SSLContext) -> None:
        self._target = target
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with plain, suppress(OSError):  # a client that does not trust the certificate hangs up
            client = self._context.wrap_socket(plain, server_side=True)
            with client, socket.socket(socket.AF_UNIX) as server:
                server.connect(self._target)
                others: dict[socket.socket, socket.socket] = {client: server, server: client}
                while True:
                    # What TLS has decoded already is nothing that select knows of.
                    ready = [client] if client.pending() else select.select(others, [], [])[0]
                    for source in ready:
                        chunk = source.recv(1 << 16)
                        if not chunk:
                            return
                        others[source].sendall(chunk)
