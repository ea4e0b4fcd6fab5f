"""Files are private, and replaced as a whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from backscroll.private_files import read_holder, replacing, try_lock, write_all, write_holder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_a_replaced_file_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    path, temporary = tmp_path / "f", tmp_path / ".f"
    before = os.umask(umask)
    try:
        with replacing(path, temporary) as descriptor:
            write_all(descriptor, b"new")
    finally:
        os.umask(before)
    assert (path.read_bytes(), mode(path), temporary.exists()) == (b"new", 0o600, False)


def write_half(path: Path, temporary: Path, error: type[BaseException]) -> None:
    with replacing(path, temporary) as descriptor:
        write_all(descriptor, b"half")
        raise error


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_replacement_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path, temporary = tmp_path / "f", tmp_path / ".f"
    path.write_bytes(b"old")
    with pytest.raises(error):
        write_half(path, temporary, error)
    assert (path.read_bytes(), temporary.exists()) == (b"old", False)


@pytest.mark.parametrize("kind", ["link", "open to all"])
def test_what_lies_at_the_temporary_name_is_not_written_to(tmp_path: Path, kind: str) -> None:
    path, temporary, other = tmp_path / "f", tmp_path / ".f", tmp_path / "other"
    other.write_bytes(b"precious")
    if kind == "link":
        temporary.symlink_to(other)
    else:
        other.chmod(0o666)
        temporary.hardlink_to(other)
    with replacing(path, temporary) as descriptor:
        write_all(descriptor, b"new")
    assert (path.read_bytes(), mode(path), path.is_symlink()) == (b"new", 0o600, False)
    assert other.read_bytes() == b"precious"


def test_a_lock_file_names_its_holder_to_who_cannot_have_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("an older and longer text\n")
    with path.open("r+") as first, path.open("r+") as second:
        assert try_lock(first.fileno())
        write_holder(first.fileno())
        assert not try_lock(second.fileno())
        assert read_holder(second.fileno()) == str(os.getpid())
