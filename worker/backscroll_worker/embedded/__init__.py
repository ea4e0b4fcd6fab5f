"""A store in the process that uses it, by the calls of a producer: no server, no worker.

`Local` writes the store as its one process; `LocalReadProducer` only reads it, beside a worker.
"""

from backscroll_worker.embedded.local import AsyncLocal, Local
from backscroll_worker.embedded.local_reads import AsyncLocalReadProducer, LocalReadProducer

__all__ = ["AsyncLocal", "AsyncLocalReadProducer", "Local", "LocalReadProducer"]
