"""A server's URL as it may be shown."""

from __future__ import annotations

import re


def hide_password(url: str) -> str:
    """`url` as it may be shown to people: with *** for its password."""
    url = re.sub(r"(?<=://)([^:/@]*):(.*)@", r"\1:***@", url)  # a password may hold anything
    return re.sub(r"([?&](?:ssl_)?password=)[^&]*", r"\1***", url)
