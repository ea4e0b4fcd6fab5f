"""Sessions as JSONL files."""

from worker.backends.sqlite import SqliteBackend as JsonlBackend

__all__ = ["JsonlBackend"]
