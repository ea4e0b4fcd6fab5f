"""Other programs at the store's files: backups, tidy administrators, desktops, somebody who looks.

Only what docs/guarantees.md says the worker puts up with; nobody writes into what the store has.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from backscroll.contract.errors import BackscrollError
from backscroll_worker.stores.jsonl.file_names import EDITED_SUFFIX
from backscroll_worker.testing.stores import open_tested

_DAY: Final = 86_400
_LITTER: Final = (".DS_Store", "Thumbs.db", "notes.txt", "old.jsonl.swp")


class Bystanders:
    """Those of the store at `url`."""

    def __init__(self, url: str, rng: random.Random) -> None:
        self._url = url
        self._path = Path(url.partition("://")[2])
        self._random = rng
        self._is_jsonl = self._path.is_dir() or url.startswith("jsonl")

    @contextmanager
    def interfering(self) -> Iterator[str]:
        """Somebody does something while a worker works, and has done it afterwards; what it is."""
        if self._random.random() < 0.2:
            moved = self._path.with_name("moved")
            self._path.rename(moved)
            try:
                yield "store moved and brought back"
            finally:
                moved.rename(self._path)
        else:
            yield self._do((self._touch, self._chmod, self._unlock, self._read, self._litter))

    def interfere_with_nobody(self) -> str:
        """The same, with no worker there."""
        return self._do((self._touch, self._chmod, self._unlock, self._copy_anew))

    def remove_what_was_set_aside(self) -> int:
        """What a worker had to remove and kept, as its time was another; how many files."""
        kept = sorted(self._path.glob(f"*{EDITED_SUFFIX}"))
        for path in kept:
            path.unlink()
        return len(kept)

    def _do(self, choices: tuple[Callable[[], str], ...]) -> str:
        return self._random.choice(choices)()

    def _files(self) -> list[Path]:
        if self._is_jsonl:
            return sorted(self._path.glob("*.jsonl"))
        return [path for path in self._path.parent.glob(f"{self._path.name}*") if path.is_file()]

    def _touch(self) -> str:
        for path in self._files():
            moment = time.time() + self._random.choice((-400, -2, 0, 2, 400)) * _DAY
            with suppress(FileNotFoundError):  # a worker may take a file away at any moment
                os.utime(path, (moment, moment))
        return "files touched"

    def _chmod(self) -> str:
        for path in self._files():
            mode = self._random.choice((0o600, 0o640, 0o644))
            with suppress(FileNotFoundError):
                path.chmod(mode)
        return "files given other permissions"

    def _unlock(self) -> str:
        inside, beside = self._path / ".lock", self._path.with_name(f"{self._path.name}.lock")
        (inside if self._is_jsonl else beside).unlink(missing_ok=True)
        return "lock file removed"

    def _read(self) -> str:
        """Somebody looks at everything; what changes meanwhile may be an error."""
        try:
            with open_tested(self._url, read_only=True) as store:
                for info in store.sessions(limit=1_000).sessions:
                    store.load(info.key)
        except BackscrollError as error:
            return f"store read by somebody else: {type(error).__name__}"
        return "store read by somebody else"

    def _litter(self) -> str:
        place = self._path if self._is_jsonl else self._path.parent
        (place / self._random.choice(_LITTER)).write_bytes(b"\0litter\n")
        return "files of others put beside"

    def _copy_anew(self) -> str:
        """As a restored backup has it: the same content in other files, with times of now."""
        for path in self._files() if self._is_jsonl else ():
            copy = path.with_name(f"{path.name}.copy")
            shutil.copyfile(path, copy)
            copy.rename(path)
        return "files copied anew"
