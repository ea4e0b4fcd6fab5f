"""Runs all tests of the newest agent frameworks that keep something, in both ways to keep it,
and ours of those that come without such tests.

    python -m tests.peers

What they need is put into build/peers, and what came of them into docs/integrations/results.md.
Ends with 1 if one failed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

import redis

from backscroll_worker.ops.server import running_server
from backscroll_worker.settings import Settings
from tests.peers.results import page
from tests.peers.running import OUR_TESTS, STORAGE_TESTS, Outcome, run_ours, run_tests
from tests.peers.source import PEERS, ROOT, Distribution, source
from tests.processes import running_worker

_RESULTS: Final = ROOT / "docs" / "integrations" / "results.md"


def main() -> int:
    """The exit code."""
    packages, work = PEERS / "newest", PEERS / "work"
    for directory in (packages, work):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    _install(packages)
    found: dict[tuple[Distribution, str], Mapping[str, Outcome]] = {}
    for framework in _installed(packages):
        run = _its_own if framework.name in STORAGE_TESTS else _ours
        for place, outcomes in run(framework, packages, work):
            found[framework, place] = outcomes
            counted = Counter(each["outcome"] for each in outcomes.values())
            print(framework.name, framework.version, place, dict(counted))
            for name, each in outcomes.items():
                if each["outcome"] == "failed":
                    print(f"FAILED {name}\n{each['reason']}\n")
    _RESULTS.write_text(page(found))
    all_outcomes = [each["outcome"] for outcomes in found.values() for each in outcomes.values()]
    return int("failed" in all_outcomes)


def _its_own(
    framework: Distribution, packages: Path, work: Path
) -> Iterator[tuple[str, Mapping[str, Outcome]]]:
    files = source(framework)
    for place, open_at in (("embedded", _embedded), ("queue", _queue)):
        directory = work / f"{framework.name}-{place}"
        directory.mkdir()
        with open_at(directory) as url:
            yield place, run_tests(framework.name, files, url, directory, packages=packages)


def _ours(
    framework: Distribution, packages: Path, work: Path
) -> Iterator[tuple[str, Mapping[str, Outcome]]]:
    directory = work / framework.name
    directory.mkdir()
    places: dict[str, dict[str, Outcome]] = {"embedded": {}, "queue": {}}
    for name, outcome in run_ours(framework.name, directory, packages=packages).items():
        places["queue" if "[queue" in name else "embedded"][name] = outcome
    yield from ((place, outcomes) for place, outcomes in places.items() if outcomes)


def _install(packages: Path) -> None:
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--target", str(packages), *STORAGE_TESTS, *OUR_TESTS,
    ]  # fmt: skip
    subprocess.run(command, check=True)


def _installed(packages: Path) -> Iterator[Distribution]:
    versions = {each.name: each.version for each in distributions(path=[str(packages)])}
    for name in (*STORAGE_TESTS, *OUR_TESTS):
        yield Distribution(name, versions[name])


@contextmanager
def _embedded(directory: Path) -> Iterator[str]:
    yield f"sqlite://{directory}/chat.db"


@contextmanager
def _queue(directory: Path) -> Iterator[str]:
    store = f"sqlite://{directory}/backscroll.db"
    with running_server(Settings(redis_url=None, data_dir=directory, store=store)) as url:
        settings = Settings(redis_url=url, data_dir=directory, store=store)
        with (
            redis.Redis.from_url(url) as client,
            running_worker(settings, client, directory / "worker.log"),
        ):
            yield url


if __name__ == "__main__":
    sys.exit(main())
