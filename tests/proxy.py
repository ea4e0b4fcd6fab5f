"""Proxies before the server: one loses replies on demand, one speaks TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from multiprocessing.connection import wait
from types import TracebackType
from typing import Self


class Proxy:
    """Listens on TCP and serves each connection, for a server's Unix socket, in a thread."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"

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

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        """Forward what either says, until one of them hangs up; as it is, unless overridden."""
        others = {client: server, server: client}
        while True:
            for source in self.ready(client, server):
                chunk = source.recv(1 << 16)
                if not chunk or not self.forward(source is server, others[source], chunk):
                    return

    def ready(self, client: socket.socket, server: socket.socket) -> list[socket.socket]:
        """Who has said something."""
        heard = wait([client, server])  # not select, which knows no descriptor beyond 1,023
        return [source for source in (client, server) if source in heard]

    def forward(self, is_reply: bool, target: socket.socket, chunk: bytes) -> bool:
        """Pass a chunk on; whether the connection is to go on."""
        target.sendall(chunk)
        return True

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self._target)
            self.serve(client, server)


class LossyProxy(Proxy):
    """`lose_replies` cuts the next connections.

    A cut comes after the server has carried out the command and before its reply gets through:
    the producer cannot know whether it was taken.
    """

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self._lost_command = b""
        self._to_lose = 0
        self.lost = 0

    def lose_replies(self, command: bytes, count: int = 1) -> None:
        """Lose the replies to the next `count` requests that contain `command`."""
        self._lost_command, self._to_lose = command, count

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        while request := client.recv(1 << 20):
            server.sendall(request)
            reply = server.recv(1 << 20)
            if self._to_lose and self._lost_command in request:
                self._to_lose -= 1
                self.lost += 1
                return
            client.sendall(reply)


class TlsProxy(Proxy):
    """Speaks TLS with its clients: the embedded server has none."""

    def __init__(self, target: str, context: ssl.SSLContext) -> None:
        super().__init__(target)
        self._context = context

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        with self._context.wrap_socket(client, server_side=True) as spoken:
            super().serve(spoken, server)

    def ready(self, client: socket.socket, server: socket.socket) -> list[socket.socket]:
        # What TLS has decoded already is nothing that the kernel knows of.
        if isinstance(client, ssl.SSLSocket) and client.pending():
            return [client]
        return super().ready(client, server)
