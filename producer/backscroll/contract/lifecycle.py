"""The verbs for sessions that live on: taken back, renamed, copied, ended."""

from __future__ import annotations

from backscroll.contract.operations import Write, operation


@operation
class Rewind(Write):
    """Drop every message after the one named, which stays; nothing if it is not there."""

    kind = "rewind"
    key: str
    to: str
