"""The default store: one SQLite database with full-text search."""

from worker.backends.sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend"]
