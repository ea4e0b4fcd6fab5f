"""The platform's own ids of messages, which a session knows even when the message is gone."""

from __future__ import annotations

import hashlib


def platform_digest(platform_id: str) -> bytes:
    """The hash under which a platform id is known whose message is gone: 16 bytes.

    An id may name who wrote the message, so it is not kept in clear longer than the message.
    """
    return hashlib.blake2b(platform_id.encode(), digest_size=16, person=b"platform id").digest()
