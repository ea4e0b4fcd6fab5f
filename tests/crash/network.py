"""A network that loses replies, cuts frames in half and holds things back."""

from __future__ import annotations

import random
import socket
import time
from collections import Counter
from typing import Final, Literal

from tests.proxy import Proxy

Fault = Literal["reply lost", "reply halved", "request halved", "held back"]
FAULTS: Final[tuple[Fault, ...]] = ("reply lost", "reply halved", "request halved", "held back")

_LONGEST_HOLD_SECONDS: Final = 0.3


class BadNetwork(Proxy):
    """Breaks a connection now and then.

    `share` is the part of the chunks that meet a fault. What was lost after the server had it
    cannot be told from what never got there.
    """

    def __init__(self, target: str, seed: int) -> None:
        super().__init__(target)
        self.share = 0.0
        self.faults: Counter[str] = Counter()
        self._random = random.Random(seed)

    def forward(self, is_reply: bool, target: socket.socket, chunk: bytes) -> bool:
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
