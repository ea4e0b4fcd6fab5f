"""Where the embedded server's socket lies: in a directory that only its owner can write to.

Beside the server's files, unless their path is too long for a socket. Then it is in a directory of
a random name, which a file beside them names; it is used again and never given up, as adapters may
know its path. Who connects looks first whose directory and socket these are: else another user of
this machine could put a socket of his own there, and be sent what is said.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from backscroll.contract.errors import ServerUnavailableError
from backscroll.private_files import DIRECTORY, make_private_directory, replacing, write_all

# The kernel's limit for a socket's path is 108 bytes with the closing NUL.
_MAX_SOCKET_PATH: Final = 100
_SOCKET: Final = "valkey.sock"
_POINTER: Final = "socket-directory"


def socket_path(directory: Path) -> Path:
    """Where the embedded server for `directory` listens, if it runs."""
    if _fits(directory):
        return directory / _SOCKET
    return (_other_place(directory) or directory) / _SOCKET


def prepare_directory(directory: Path) -> None:
    """Make the server's directory, for its owner only; raises `OSError`."""
    make_private_directory(directory)
    if directory.stat().st_uid == os.geteuid():
        directory.chmod(DIRECTORY)  # an earlier version went by the umask


def choose_socket(directory: Path) -> Path:
    """Where the server is to listen, for the one process that starts it; raises `OSError`."""
    if _fits(directory):
        return directory / _SOCKET
    place = _other_place(directory)
    if place is None or not _is_private(place):
        place = Path(tempfile.mkdtemp(prefix="backscroll-", dir=_short_place()))
        _write(directory / _POINTER, place)
    return place / _SOCKET


def refuse_foreign(directory: Path) -> None:
    """Raise `ServerUnavailableError` when another user may have put the socket there."""
    place = socket_path(directory)
    for path in (directory.parent, directory, place.parent, place):
        with suppress(FileNotFoundError, NotADirectoryError):
            status = path.lstat() if path != directory.parent else path.stat()
            if status.st_uid not in _trusted(directory) or _is_open_to_all(status):
                raise ServerUnavailableError(
                    f"the embedded server is not used: {path} belongs to user {status.st_uid} "
                    "or can be written by others, who could read along. Remove it, or name "
                    "another --data-dir"
                )
            if path == place and not stat.S_ISSOCK(status.st_mode):
                raise ServerUnavailableError(
                    f"the embedded server is not used: {path} is not a socket"
                )


def _is_open_to_all(status: os.stat_result) -> bool:
    """Whether others may put something into a directory, in the place of what is there."""
    is_sticky = status.st_mode & stat.S_ISVTX and status.st_uid == 0
    is_writable = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_IWOTH
    return bool(is_writable and not is_sticky)


def _trusted(directory: Path) -> set[int]:
    """Whose socket may be spoken to; root may look at what the data directory's owner runs."""
    trusted = {0, os.geteuid()}
    if os.geteuid() == 0:
        with suppress(FileNotFoundError):
            trusted.add(directory.parent.stat().st_uid)
    return trusted


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory / _SOCKET)) <= _MAX_SOCKET_PATH


def _other_place(directory: Path) -> Path | None:
    """The directory that the file names; None when it names none that a socket can be in."""
    try:
        place = Path(os.fsdecode((directory / _POINTER).read_bytes()))
    except OSError:
        return None
    return place if place.is_absolute() and "\0" not in str(place) and _fits(place) else None


def _is_private(directory: Path) -> bool:
    try:
        status = directory.lstat()
    except OSError:
        return False
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return is_ours and stat.S_IMODE(status.st_mode) == DIRECTORY


def _short_place() -> Path:
    longest_name = Path("backscroll-12345678")
    fitting = [place for place in _places() if _fits(place / longest_name)]
    return min(fitting, key=lambda place: _is_open_to_all(place.stat()))


def _places() -> Iterator[Path]:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and _is_private(Path(runtime)):
        yield Path(runtime)
    yield Path(tempfile.gettempdir())
    yield Path("/tmp")  # noqa: S108 - the directory made in it has a random name


def _write(path: Path, place: Path) -> None:
    with replacing(path, path.with_name(f"{path.name}.new")) as descriptor:
        write_all(descriptor, os.fsencode(place))
