"""The embedded server: found by whoever comes second, stopped by whoever started it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import redis

from worker.server import running_server, socket_path
from worker.settings import Settings


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


def test_a_path_too_long_for_a_socket_gets_a_short_one_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    assert len(str(socket_path(deep))) <= 100
    assert socket_path(deep) != socket_path(deep / "other")
    with running_server(settings_in(deep)) as url, redis.Redis.from_url(url) as client:
        assert client.ping()


def test_it_is_short_also_where_temporary_files_have_a_long_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with running_server(settings_in(deep)) as url, redis.Redis.from_url(url) as client:
        assert client.ping()


def test_a_named_server_is_taken_as_it_is(tmp_path: Path) -> None:
    settings = settings_in(tmp_path).with_options(redis_url="redis://example.invalid")
    with running_server(settings) as url:
        assert url == "redis://example.invalid"
    assert list(tmp_path.iterdir()) == []
