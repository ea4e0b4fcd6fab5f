"""How often a test tries what it draws: what CI has time for, or with DEEP_TESTS=1 many times more.

`make chaos` has the laboratory's kills by the thousand.
"""

from __future__ import annotations

import os
from typing import Final

_IS_DEEP: Final = bool(os.environ.get("DEEP_TESTS"))


def tries(usual: int, deep: int) -> int:
    """So many times each time the suite is run, and so many when it is to look deeper."""
    return deep if _IS_DEEP else usual
