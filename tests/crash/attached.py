"""What is attached to messages: contents that many share, or that must not stay anywhere."""

from __future__ import annotations

import random
from typing import Final

from backscroll.contract.attachments import Attachment

_SHARED: Final = (b"", b"cat", b"dog" * 2_000)
_SHARE: Final = 0.1


def attached(rng: random.Random, word: str, is_secret: bool = False) -> list[Attachment]:
    """Mostly nothing; of a message that is to be erased without a trace, bytes with its word."""
    if rng.random() >= (3 * _SHARE if is_secret else _SHARE):
        return []
    if is_secret:
        return [Attachment("file", name="secret.txt", data=f"attached {word}".encode())]
    link = Attachment("image", url="https://chat.example/cat.png", size=3)
    return rng.sample([link, *(Attachment("file", data=data) for data in _SHARED)], 2)
