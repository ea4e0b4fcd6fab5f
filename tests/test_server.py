"""The embedded server: found by whoever comes second, stopped by whoever started it."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
import redis

from backscroll.contract.errors import InvalidSettingError, ServerUnavailableError
from backscroll_worker.ops.server import running_server
from backscroll_worker.ops.socket_place import choose_socket, prepare_directory, socket_path
from backscroll_worker.settings import Settings
from tests.cli.command import run


def settings_in(directory: Path) -> Settings:
    return Settings(redis_url=None, data_dir=directory, store=f"sqlite://{directory}/b.db")


def test_it_is_private_append_only_and_evicts_nothing(tmp_path: Path) -> None:
    with running_server(settings_in(tmp_path)) as url, redis.Redis.from_url(url) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("port") == {"port": "0"}
        mode = Path(url.removeprefix("unix://")).stat().st_mode
        assert stat.S_IMODE(mode) == 0o700


def test_a_second_one_finds_the_first_and_does_not_stop_it(tmp_path: Path) -> None:
    with running_server(settings_in(tmp_path)) as url:
        with running_server(settings_in(tmp_path)) as second_url:
            assert second_url == url
        with redis.Redis.from_url(url) as client:
            assert client.ping()


def test_what_it_held_is_there_after_a_restart(tmp_path: Path) -> None:
    with running_server(settings_in(tmp_path)) as url, redis.Redis.from_url(url) as client:
        client.rpush("list", "a")
    with running_server(settings_in(tmp_path)) as url, redis.Redis.from_url(url) as client:
        assert client.lrange("list", 0, -1) == [b"a"]


@pytest.fixture
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory whose path is too long for a socket."""
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path / ("d" * 60) / ("e" * 60)


def test_a_path_too_long_for_a_socket_gets_a_private_one_elsewhere(deep: Path) -> None:
    with running_server(settings_in(deep)) as url, redis.Redis.from_url(url) as client:
        assert client.ping()
        socket = Path(url.removeprefix("unix://"))
        assert len(str(socket)) <= 100
        assert socket == socket_path(deep / "server")
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        with running_server(settings_in(deep)) as second_url:
            assert second_url == url
        with running_server(settings_in(deep / "other")) as other_url:
            assert other_url != url
    with running_server(settings_in(deep)) as again:
        assert again == url, "adapters may know it"
    assert socket.parent.is_dir(), "nobody else can take its name"


def test_it_is_short_also_where_temporary_files_have_a_long_path(
    deep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(deep))
    with running_server(settings_in(deep)) as url, redis.Redis.from_url(url) as client:
        assert client.ping()
    Path(url.removeprefix("unix://")).parent.rmdir()


def test_the_users_own_runtime_directory_is_preferred_if_it_is_private(
    deep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # short enough for a socket
        runtime = Path(name)
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        with running_server(settings_in(deep)) as url:
            assert Path(url.removeprefix("unix://")).parent.parent == runtime
        runtime.chmod(0o755)
        with running_server(settings_in(deep / "other")) as url:
            assert runtime not in Path(url.removeprefix("unix://")).parents


@pytest.mark.parametrize(
    "named", [b"", b"a\0b", b"x/y", b"/" + b"a" * 5_000, b"/etc/passwd", b"/\xff"]
)
def test_a_damaged_note_of_where_the_socket_lies_is_written_anew(named: bytes, deep: Path) -> None:
    note = deep / "server" / "socket-directory"
    note.parent.mkdir(parents=True)
    note.write_bytes(named)
    with running_server(settings_in(deep)) as url, redis.Redis.from_url(url) as client:
        assert client.ping()
    assert note.read_bytes() != named


def test_a_temporary_directory_that_is_open_to_all_is_not_used(
    deep: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)  # without the sticky bit, others could rename what is in it
    monkeypatch.setenv("TMPDIR", str(shared))
    place = choose_socket(prepared(deep / "server")).parent
    assert shared not in place.parents
    place.rmdir()


def prepared(directory: Path) -> Path:
    prepare_directory(directory)
    return directory


NOBODY: Final = 65_534


def listen(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    return server


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make another user's files")
@pytest.mark.parametrize("planted", ["server", "valkey.sock", "as a link", "socket-directory"])
def test_a_socket_that_another_user_put_there_is_not_spoken_to(
    planted: str, deep: Path, tmp_path: Path
) -> None:
    place, theirs = (deep if planted == "socket-directory" else tmp_path), tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    directory = place / "server"
    directory.mkdir(parents=True)
    socket_file = directory / "valkey.sock"
    if planted == "as a link":
        directory.rmdir()
        directory.symlink_to(theirs)
        os.chown(directory, NOBODY, NOBODY, follow_symlinks=False)
    if planted == "socket-directory":
        (directory / "socket-directory").write_text(str(theirs))
        socket_file = theirs / "valkey.sock"
    with closing(listen(socket_file)) as server:
        os.chown(directory if planted == "server" else socket_file, NOBODY, NOBODY)
        server.settimeout(0)
        with (
            pytest.raises(ServerUnavailableError, match=f"belongs to user {NOBODY}"),
            running_server(settings_in(place)),
        ):
            pass
        shown = run(settings_in(place), "append", "k", "user", "quagga")
        assert f"belongs to user {NOBODY}" in shown.stderr
        with pytest.raises(BlockingIOError):
            server.accept()  # nobody came


def test_its_logs_keep_nothing_of_what_was_said(tmp_path: Path) -> None:
    with running_server(settings_in(tmp_path)) as url, redis.Redis.from_url(url) as client:
        client.set("k", b"quagga" + bytes(2 << 20))
        client.get("k")
        client.eval("for i = 1, 2000000 do end return ARGV[1]", 0, "quagga")
        for log in ("large-request", "large-reply", "slow"):
            assert client.execute_command("COMMANDLOG", "GET", "-1", log) == []


def test_a_named_server_is_taken_as_it_is(tmp_path: Path) -> None:
    settings = settings_in(tmp_path).with_options(redis_url="redis://example.invalid")
    with running_server(settings) as url:
        assert url == "redis://example.invalid"
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_a_space_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidSettingError, match="because of the space: choose another directory"),
        running_server(settings_in(tmp_path / "my data")),
    ):
        pass
