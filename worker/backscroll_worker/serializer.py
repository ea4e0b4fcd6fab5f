"""The only serializer Backscroll's jobs use: JSON, so that a job is data and never code.

For RQ's own commands: `rq worker --serializer backscroll_worker.serializer.OrjsonSerializer …`
"""

from __future__ import annotations

from typing import Any

import orjson


class OrjsonSerializer:
    """RQ's serializer protocol over orjson."""

    @staticmethod
    def dumps(value: Any) -> bytes:
        """`value` as UTF-8 JSON; raises TypeError for what JSON cannot hold."""
        return orjson.dumps(value)

    @staticmethod
    def loads(data: bytes) -> Any:
        """The value `data` holds; raises ValueError for what is not JSON."""
        return orjson.loads(data)
