"""Source distributions of the frameworks, whose tests are in them: got by pip, never committed."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
PEERS: Final = ROOT / "build" / "peers"
_SECONDS: Final = 120


class UnavailableError(Exception):
    """A distribution cannot be had; the text says why."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """One version of a framework; without `sha256`, whatever the index has is taken."""

    name: str
    version: str
    sha256: str | None = None

    @property
    def requirement(self) -> str:
        """As pip reads it."""
        pinned = f" --hash=sha256:{self.sha256}" if self.sha256 else ""
        return f"{self.name}=={self.version}{pinned}"


PINNED: Final = (
    Distribution(
        "openai-agents",
        "0.24.0",
        "4b4b285f4fed81fdf1b4ac426a9101658d9cd29b4fb1aaeee18f639b77e704e3",
    ),
    Distribution(
        "strands-agents",
        "1.62.0",
        "8732c87f9c1ceb6ef4c5c4bd6d96b4cdf1bbfde095f1537ec2ac6fddb8d5a066",
    ),
)


def source(of: Distribution) -> Path:
    """The directory with its files, unpacked in build/peers, where it is looked for first.

    Raises `UnavailableError`, and `ValueError` where the checksum is another one.
    """
    PEERS.mkdir(parents=True, exist_ok=True)
    place = PEERS / f"{of.name}-{of.version}"
    with (PEERS / f"{of.name}.lock").open("w") as lock:  # several may run the tests here
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            _get(of, place)
    return place


def _get(of: Distribution, place: Path) -> None:
    work = place.with_suffix(".part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    (work / "wanted.txt").write_text(of.requirement)
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--no-build-isolation", "--no-binary", of.name, "--dest", str(work),
        "--requirement", str(work / "wanted.txt"),
    ]  # fmt: skip
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"pip did not get {of.name} within {_SECONDS} s") from None
    if ended.returncode != 0:
        lines = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")]
        if any("HASHES" in line for line in lines):
            raise ValueError(f"{of.name} {of.version} is not what it was when it was pinned")
        raise UnavailableError(f"pip did not get {of.name}: {' '.join(lines[-1:])}")
    (archive,) = work.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(work / "files", filter="data")
    (unpacked,) = (work / "files").iterdir()
    unpacked.rename(place)
    shutil.rmtree(work)
