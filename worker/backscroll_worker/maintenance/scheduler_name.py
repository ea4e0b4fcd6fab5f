"""The name under which a scheduler is registered: it says for which queue it schedules.

RQ has one registry of schedulers for all queues of a server, and who may read the registry may
not read more of a scheduler than its name.
"""

from __future__ import annotations

import os
import socket
import uuid
from typing import Final

_QUEUE: Final = ":queue="


def scheduler_name(queue: str) -> str:
    """A new name for a scheduler of this process: RQ's, and the queue."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}{_QUEUE}{queue}"


def is_for(name: str, queue: str) -> bool:
    """Whether the scheduler may be the queue's; one of an earlier version does not say."""
    _, marker, named = name.partition(_QUEUE)
    return not marker or named == queue
