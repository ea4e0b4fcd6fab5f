"""A store in the process that uses it, by the calls of a producer: no server, no worker."""

from backscroll_worker.embedded.local import AsyncLocal, Local

__all__ = ["AsyncLocal", "Local"]
