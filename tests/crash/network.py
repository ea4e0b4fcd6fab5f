"""A network that loses replies, cuts frames in half and holds things back."""

from __future__ import annotations

import random
import select
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from types import TracebackType
from typing import Final, Literal, Self

Fault = Literal["reply lost", "reply halved", "request halved", "held back"]
FAULTS: Final[tuple[Fault, ...]] = ("reply lost", "reply halved", "request halved", "held back")

_LONGEST_HOLD_SECONDS: Final = 0.3


class BadNetwork:
    """Listens on TCP and forwards to a server's Unix socket; now and then it breaks a connection.

    `share` is the part of the chunks that meet a fault. What was lost after the server had it
    cannot be told from what never got there.
    """

    def __init__(self, target: str, seed: int) -> None:
        self.share = 0.0
        self.faults: Counter[str] = Counter()
        self._target = target
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

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
            others = {client: server, server: client}
            while True:
                for source in select.select(others, [], [])[0]:
                    chunk = source.recv(1 << 16)
                    if not chunk or not self._forward(source is server, others[source], chunk):
                        return

    def _forward(self, is_reply: bool, target: socket.socket, chunk: bytes) -> bool:
        """Send the chunk on; whether the connection still lives."""
        fault = self._random.choice(FAULTS) if self._random.random() < self.share else None
        if fault is None or fault.startswith("request") == is_reply:
            target.sendall(chunk)
            return True
        self.faults[fault] += 1
        if fault == "held back":
            time.sleep(self._random.uniform(0, _LONGEST_HOLD_SECONDS))
            target.sendall(chunk)
            return True
        if fault != "reply lost":
            target.sendall(chunk[: len(chunk) // 2])
        return False
