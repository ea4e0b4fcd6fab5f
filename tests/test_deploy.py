"""What deploy/ and the Procfile say must be true of the program they start."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from configparser import RawConfigParser
from pathlib import Path
from typing import Any, Final

import click
import pytest
import yaml
from honcho.environ import parse_procfile

from backscroll_worker.cli import main
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings

ROOT: Final = Path(__file__).parent.parent
DEPLOY: Final = ROOT / "deploy"
SERVICES: Final = ("worker", "scheduler", "dashboard")


class ReadVariables(dict[str, str]):
    """An environment that knows which of its variables were asked for."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def unit(service: str) -> dict[str, dict[str, str]]:
    parser = RawConfigParser(strict=False)  # systemd lets a key stand twice
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read(DEPLOY / "systemd" / f"backscroll-{service}.service")
    return {name: dict(section) for name, section in parser.items()}


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


def environment_file(*, with_comments: bool) -> dict[str, str]:
    text = (DEPLOY / "backscroll.env.example").read_text()
    pattern = r"^#?([A-Z_]+)=(.*)$" if with_comments else r"^([A-Z_]+)=(.*)$"
    return dict(re.findall(pattern, text, re.MULTILINE))


def known_variables() -> set[str]:
    environ = ReadVariables()
    Settings.from_environment(environ)
    return environ.asked


def assert_command_exists(command: str) -> None:
    program, name, *options = command.split()
    assert Path(program).name == "backscroll"
    assert isinstance(main, click.Group)
    found = main.get_command(click.Context(main), name)
    assert found is not None, f"there is no `backscroll {name}`"
    found.make_context(name, options)


def test_the_procfile_starts_the_three_services() -> None:
    processes = parse_procfile((ROOT / "Procfile").read_text()).processes
    assert tuple(processes) == SERVICES
    for command in processes.values():
        assert_command_exists(command)


@pytest.mark.parametrize("service", SERVICES)
def test_a_unit_starts_its_service_restarts_it_always_and_stops_it_warmly(service: str) -> None:
    options = unit(service)["Service"]
    assert_command_exists(options["ExecStart"])
    assert options["ExecStart"].split()[1] == service
    assert options["Type"] == "simple"
    assert options["Restart"] == "always"
    assert options["KillSignal"] == "SIGTERM"
    assert int(options["TimeoutStopSec"]) >= 30
    assert options["EnvironmentFile"] == "/etc/backscroll/backscroll.env"
    assert unit(service)["Unit"]["StartLimitIntervalSec"] == "0"
    assert options.get("RestartPreventExitStatus") in (None, str(ExitCode.USAGE.value))


@pytest.mark.parametrize("service", SERVICES)
def test_a_unit_may_do_no_more_than_it_needs(service: str) -> None:
    options = unit(service)["Service"]
    assert options["User"] == "backscroll"
    assert options["NoNewPrivileges"] == "yes"
    assert options["ProtectSystem"] == "strict"
    assert options["CapabilityBoundingSet"] == ""
    assert options.get("StateDirectory") == ("backscroll" if service == "worker" else None)


@pytest.mark.parametrize("service", SERVICES)
def test_systemd_understands_every_line_of_a_unit(service: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here; the tests above still read the units")
    program = tmp_path / "backscroll"
    program.touch()
    program.chmod(stat.S_IRWXU)
    name = f"backscroll-{service}.service"
    text = (DEPLOY / "systemd" / name).read_text()
    (tmp_path / name).write_text(text.replace("/opt/backscroll/bin/backscroll", str(program)))
    verified = subprocess.run(
        [analyze, "verify", "--man=no", tmp_path / name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr
    assert name not in verified.stderr, verified.stderr


def test_the_environment_file_has_known_settings_and_works_as_it_is() -> None:
    assert set(environment_file(with_comments=True)) <= known_variables()
    settings = Settings.from_environment(environment_file(with_comments=False))
    assert settings.redis_url == "redis://localhost:6379/0"
    state = unit("worker")["Service"]["StateDirectory"]
    assert settings.data_dir == Path("/var/lib") / state


def test_what_the_environment_file_has_commented_out_is_the_default() -> None:
    plain = environment_file(with_comments=False)
    everything = environment_file(with_comments=True)
    assert len(everything) > len(plain)
    assert Settings.from_environment(everything) == Settings.from_environment(plain)


def test_compose_starts_the_three_services_on_a_durable_server() -> None:
    services = compose()["services"]
    assert set(services) == {"valkey", *SERVICES}
    for service in SERVICES:
        assert services[service]["command"] == service
        assert_command_exists(f"backscroll {services[service]['command']}")
        assert set(services[service]["environment"]) <= known_variables()
    server = services["valkey"]["command"]
    assert "--appendonly yes" in server
    assert "--maxmemory-policy noeviction" in server
    assert services["valkey"]["volumes"] == ["queue:/data"]
    assert services["worker"]["volumes"] == ["store:/data"]
    assert set(compose()["volumes"]) == {"queue", "store"}


def test_compose_publishes_only_a_local_dashboard_with_a_password() -> None:
    services = compose()["services"]
    published = {name: of["ports"] for name, of in services.items() if "ports" in of}
    assert published == {"dashboard": ["127.0.0.1:9181:9181"]}
    # `:?` makes compose refuse to start without one.
    password = services["dashboard"]["environment"]["BACKSCROLL_DASHBOARD_PASSWORD"]
    assert password.startswith("${BACKSCROLL_DASHBOARD_PASSWORD:?")


def test_the_image_runs_as_a_user_keeps_its_data_and_checks_itself() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    instructions = re.findall(r"^([A-Z]+) (.+)$", text.replace("\\\n", " "), re.MULTILINE)
    last = dict(instructions)  # a later one overrides an earlier one
    assert last["USER"] == "backscroll"
    assert "uid 10001" in last["RUN"]
    assert last["VOLUME"] == "/data"
    assert "BACKSCROLL_DATA_DIR=/data" in last["ENV"]
    assert last["ENTRYPOINT"] == '["backscroll"]'
    assert_command_exists(f"backscroll {yaml.safe_load(last['CMD'])[0]}")
    check = last["HEALTHCHECK"].partition("CMD ")[2]
    assert_command_exists(" ".join(yaml.safe_load(check)))


def test_the_image_gets_what_the_distribution_is_built_from() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert ignored[0] == "*"
    assert kept == {"pyproject.toml", "README.md", "LICENSE", "producer", "worker"}
    assert all((ROOT / name).exists() for name in kept)


PASSWORD_ON_A_COMMAND_LINE: Final = re.compile(
    r"--(?:redis-)?url[ =]+\S*:\S*@|(?:redis|valkey)-cli\b.*\s(?:-a\b|-u\s+\S*:\S*@|--pass\b)"
    r"|--(?:dashboard-)?password[ =]|--requirepass\b|AUTH [a-z]+ "
)


def documented_commands() -> list[tuple[str, str]]:
    """Each line of a block in the docs, and all of what deploy/ runs."""
    commands: list[tuple[str, str]] = []
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *DEPLOY.rglob("*")]:
        if path.is_file():
            text = path.read_text()
            blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
            shown = "\n".join(blocks) if path.suffix == ".md" else text
            commands += [(str(path.relative_to(ROOT)), line) for line in shown.splitlines()]
    return commands


def test_no_documented_command_puts_a_password_where_ps_shows_it() -> None:
    commands = documented_commands()
    assert len(commands) > 300
    assert [each for each in commands if PASSWORD_ON_A_COMMAND_LINE.search(each[1])] == []


@pytest.mark.parametrize(
    "command",
    [
        "rq worker --url redis://worker:secret@host",
        "backscroll --redis-url=redis://:secret@host stats",
        "redis-cli --user admin -a secret ping",
        "valkey-cli -u redis://admin:secret@host ping",
        "redis-server --requirepass secret",
    ],
)
def test_a_command_line_with_a_password_would_be_found(command: str) -> None:
    assert PASSWORD_ON_A_COMMAND_LINE.search(command)
