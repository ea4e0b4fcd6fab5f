"""The default store: one SQLite database with full-text search."""

from backscroll_worker.stores.sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend"]
