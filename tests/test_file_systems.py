"""File systems that break a store are refused before anything is written to them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backscroll import ChatMessage, InvalidSettingError, StoreUnusableError
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.stores import filesystem
from backscroll_worker.stores.filesystem import (
    ALLOW_FILESYSTEM,
    check_file_system,
    check_names,
    mount_of,
)
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import run

MOUNTINFO = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 22 0:30 / /home rw - btrfs /dev/sdb rw,subvol=/home
31 22 0:31 / /srv/nfs rw,relatime shared:9 master:2 - nfs4 filer:/export rw,vers=4.2
32 31 254:0 /data /srv/nfs/local rw - ext4 /dev/vda rw
33 22 0:33 / /mnt/with\040space rw - cifs //filer/share rw
34 22 0:34 / /mnt/host rw - virtiofs host rw
35 22 0:35 / /mnt/wsl rw - 9p C: rw
36 22 0:36 / /mnt/bucket rw - fuse.s3fs s3fs rw
37 22 0:37 / /mnt/overlay rw - fuse.fuse-overlayfs fuse-overlayfs rw
38 22 0:38 / /mnt/twice rw - tmpfs tmpfs rw
39 38 0:39 / /mnt/twice rw - fuse.sshfs host:/ rw
40 22 0:40 / /mnt/ntfs rw - fuseblk /dev/sdc1 rw
not a line of it
"""


@pytest.mark.parametrize(
    ("path", "kind", "is_shared"),
    [
        ("/var/lib/store.db", "ext4", False),
        ("/home/me/store.db", "btrfs", False),
        ("/homes/store.db", "ext4", False),
        ("/srv/nfs/store.db", "nfs4", True),
        ("/srv/nfs", "nfs4", True),
        ("/srv/nfs/local/store.db", "ext4", False),
        ("/mnt/with space/store.db", "cifs", True),
        ("/mnt/host/store.db", "virtiofs", True),
        ("/mnt/wsl/store.db", "9p", True),
        ("/mnt/bucket/store.db", "fuse.s3fs", True),
        ("/mnt/overlay/store.db", "fuse.fuse-overlayfs", False),
        ("/mnt/twice/store.db", "fuse.sshfs", True),
        ("/mnt/ntfs/store.db", "fuseblk", False),
    ],
)
def test_the_mount_that_a_store_lies_on_decides(path: str, kind: str, is_shared: bool) -> None:
    mount = mount_of(path, MOUNTINFO)
    assert mount is not None
    assert (mount.kind, mount.is_shared) == (kind, is_shared)


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of which the system says that it is a network's."""
    told = tmp_path / "mountinfo"
    place = tmp_path / "net"
    place.mkdir()
    told.write_text(
        f"22 1 254:0 / / rw - ext4 /dev/vda rw\n31 22 0:31 / {place} rw - nfs4 a:/ rw\n"
    )
    monkeypatch.setattr(filesystem, "_MOUNTS", told)
    return place


@pytest.mark.parametrize("scheme", ["sqlite", "jsonl"])
def test_a_store_on_a_network_is_refused_and_nothing_is_created(network: Path, scheme: str) -> None:
    (network.parent / "link").symlink_to(network)
    for place in (network, network.parent / "link"):
        with pytest.raises(
            StoreUnusableError, match=rf"nfs4 \(a:/\).*{ALLOW_FILESYSTEM.name}=nfs4"
        ):
            open_tested(f"{scheme}://{place}/store")
    assert list(network.iterdir()) == []


@pytest.mark.parametrize("scheme", ["sqlite", "jsonl"])
def test_who_knows_better_may_allow_a_file_system(
    network: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ALLOW_FILESYSTEM.name, "cifs,nfs4")
    with open_tested(f"{scheme}://{network}/s") as store:
        store.append("k", ChatMessage.user("a"))
        assert len(store.load("k")) == 1


def test_a_worker_and_a_check_say_in_one_line_what_is_wrong(
    network: Path, settings: Settings
) -> None:
    there = settings.with_options(store=f"sqlite://{network}/store.db")
    worker = run(there, "worker", "--burst")
    assert worker.exit_code == ExitCode.STORE
    assert "nfs4" in worker.stderr
    assert "Traceback" not in worker.stderr
    checked = run(there, "check", "--skip-verify")
    assert "nfs4" in checked.stdout
    assert checked.exit_code == ExitCode.FAILED


def test_where_the_system_does_not_say_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "_MOUNTS", tmp_path / "there is none")
    check_file_system(tmp_path)


def test_local_file_systems_are_taken_and_leave_nothing_behind(tmp_path: Path) -> None:
    check_file_system(tmp_path)
    check_names(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "other", "says"),
    [
        ("case-insensitive", ".backscroll-caf\u00e9", "upper from lower case"),
        ("normalizing", ".backscroll-Cafe\u0301", "normal forms"),
    ],
)
def test_jsonl_is_refused_where_two_keys_would_share_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, other: str, says: str
) -> None:
    """No such file system can be mounted everywhere: a link stands for what it would do."""
    directory = tmp_path / "store"
    directory.mkdir()
    (directory / other).symlink_to(".backscroll-Caf\u00e9")
    with pytest.raises(StoreUnusableError, match=rf"{says}.*{ALLOW_FILESYSTEM.name}={kind}"):
        open_tested(f"jsonl://{directory}")
    assert {path.name for path in directory.iterdir()} - {".lock"} == {other}
    open_tested(f"jsonl://{directory}", read_only=True).close()
    monkeypatch.setenv(ALLOW_FILESYSTEM.name, kind)
    open_tested(f"jsonl://{directory}").close()


@pytest.mark.parametrize("kind", ["pipe", "directory", "device"])
def test_what_can_be_no_database_is_refused_without_being_opened(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "b.db"
    if kind == "pipe":
        os.mkfifo(place)  # to read it would take for ever
    elif kind == "directory":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero")
    for read_only in (True, False):
        with pytest.raises(StoreUnusableError, match="is not a file"):
            open_tested(f"sqlite://{place}", read_only=read_only)


@pytest.mark.parametrize("scheme", ["sqlite", "jsonl"])
def test_a_link_that_leads_to_itself_is_no_store(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in ("loop", "loop/inside"):
        with pytest.raises(InvalidSettingError, match="loop"):
            open_tested(f"{scheme}://{tmp_path}/{path}")
