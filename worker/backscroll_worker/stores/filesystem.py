"""File systems on which a store would break, found before anything is written to one.

Network and shared file systems lack what a store relies on: locks and shared memory that all see
(https://www.sqlite.org/wal.html, "all processes must be on the same host"), and an fsync that means
it. Others take two names for one, by case or by Unicode's normal forms, so that two sessions of a
JSONL store would share a file.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from backscroll.contract.errors import StoreUnusableError
from backscroll.settings import Setting

ALLOW_FILESYSTEM: Final = Setting[frozenset[str]](
    "BACKSCROLL_ALLOW_FILESYSTEM",
    frozenset(),
    lambda _, text: frozenset(text.replace(",", " ").split()),
    "File systems that a store may lie on though they are refused, separated by spaces: their "
    "types, as `nfs4`, or `case-insensitive`, `normalizing` (JSONL).",
    shown="none",
)
CASE_INSENSITIVE: Final = "case-insensitive"
NORMALIZING: Final = "normalizing"

_MOUNTS: Final = Path("/proc/self/mountinfo")
_SHARED: Final = frozenset(
    (
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "ncpfs",
        "9p",
        "virtiofs",
        "drvfs",
        "afs",
        "ceph",
        "coda",
        "glusterfs",
        "lustre",
        "beegfs",
        "gpfs",
        "orangefs",
        "pvfs2",
        "acfs",
        "davfs",
        "prl_fs",
        "vboxsf",
        "vmhgfs",
    )
)
_LOCAL_FUSE: Final = frozenset(("fuse.fuse-overlayfs", "fuse.ntfs-3g", "fuse.lxcfs"))
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
_PROBE: Final = ".backscroll-Caf\u00e9"  # no key's file begins with a dot


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo, as far as it matters."""

    point: str
    kind: str
    source: str

    @property
    def is_shared(self) -> bool:
        """Whether another machine, or the host of this one, may write there too."""
        if self.kind.startswith("fuse."):
            return self.kind not in _LOCAL_FUSE
        return self.kind in _SHARED


def mount_of(path: str, mountinfo: str) -> Mount | None:
    """The mount that the absolute `path` lies on, by the text of mountinfo (proc(5))."""
    found = None
    for line in mountinfo.splitlines():
        mount = _parsed(line)
        # Of two on one place, the later one hides the other.
        is_nearer = mount and (found is None or len(mount.point) >= len(found.point))
        if mount and is_nearer and _lies_on(path, mount.point):
            found = mount
    return found


def mount_here(path: Path) -> Mount | None:
    """The mount that `path` lies on or would; None where the system does not say."""
    try:
        text = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    return mount_of(str(path.resolve()), text)


def check_file_system(path: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Raise `StoreUnusableError` when a store at `path` would break, unless that is allowed."""
    mount = mount_here(path)
    if mount is not None and mount.is_shared and mount.kind not in ALLOW_FILESYSTEM.of(environ):
        raise StoreUnusableError(
            f"{path} lies on {mount.point}, which is {mount.kind} ({mount.source}): other machines "
            "may write there, and locks, shared memory and fsync are not reliable. "
            f"Put the store on a disk of this machine, or set {ALLOW_FILESYSTEM.name}={mount.kind} "
            "if you know that it works"
        )


def check_file(path: Path) -> None:
    """Raise `StoreUnusableError` for what cannot be a database, and for one mounted by itself.

    Its log would lie beside the mount, where whoever opens the file by its own name misses it; in a
    container it would go with the container.
    """
    if not path.is_file():
        if path.exists():  # a pipe would be waited for
            raise StoreUnusableError(f"{path} is not a file; name another in BACKSCROLL_STORE")
        return
    mount = mount_here(path)
    if mount is not None and mount.point == str(path.resolve()):
        raise StoreUnusableError(
            f"{path} is a file mounted by itself, and what is committed lies in a log beside it. "
            "Mount its directory instead"
        )


def check_names(directory: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Raise `StoreUnusableError` when the directory takes two names for one.

    Does nothing where no file can be created; that is reported when the store is opened.
    """
    probe = directory / _PROBE
    with suppress(OSError):
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            is_same = os.fstat(descriptor)
            confused = [
                (kind, what)
                for kind, what, name in _OTHER_NAMES
                if _leads_to(directory / name, is_same)
            ]
        finally:
            os.close(descriptor)
            probe.unlink(missing_ok=True)
        for kind, what in confused:
            if kind not in ALLOW_FILESYSTEM.of(environ):
                raise StoreUnusableError(
                    f"the file system of {directory} {what}, so that two sessions could share a "
                    "file. Use a SQLite store, or a directory elsewhere; or set "
                    f"{ALLOW_FILESYSTEM.name}={kind} if no two keys ever differ in that alone"
                )


_OTHER_NAMES: Final = (
    (CASE_INSENSITIVE, "does not tell upper from lower case", _PROBE.lower()),
    (
        NORMALIZING,
        "does not tell Unicode's normal forms apart",
        unicodedata.normalize("NFD", _PROBE),
    ),
)


def _leads_to(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), status)
    except OSError:
        return False


def _parsed(line: str) -> Mount | None:
    fields, separator, rest = line.partition(" - ")
    before, after = fields.split(), rest.split()
    if not separator or len(before) < 5 or len(after) < 2:
        return None
    return Mount(_unescaped(before[4]), after[0], _unescaped(after[1]))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)


def _lies_on(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")
