"""docs/settings.md as the declarations of the settings have it: `python -m tests.settings_page`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from backscroll.settings import Setting
from backscroll_worker.settings import variables

PAGE: Final = Path(__file__).parent.parent / "docs/settings.md"
_TABLE: Final = re.compile(r"^\| variable .*?\n\n", re.DOTALL | re.MULTILINE)


def expected() -> str:
    """The page with the table that belongs there."""
    rows = [f"| `{each.name}` | {_default(each)} | {each.meaning} |" for each in variables()]
    table = "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows, "\n"])
    return _TABLE.sub(lambda _: table, PAGE.read_text(encoding="utf-8"), count=1)


def _default(setting: Setting[Any]) -> str:
    default = setting.default
    if setting.shown or default is None:
        return setting.shown or "none"
    if isinstance(default, bool):
        return f"`{default:d}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


if __name__ == "__main__":
    PAGE.write_text(expected(), encoding="utf-8")
