"""Settings: read once, checked first, and all of them documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backscroll import InvalidSettingError
from backscroll.transport.connection import hide_password
from backscroll_worker.settings import Settings, variables
from tests.settings_page import PAGE, expected

ROOT = Path(__file__).parent.parent


def test_without_any_variable_everything_has_a_default() -> None:
    settings = Settings.from_environment({"XDG_DATA_HOME": "/data"})
    assert settings.redis_url is None
    assert settings.store == "sqlite:///data/backscroll/backscroll.db"
    assert settings.queue == "backscroll"
    assert settings.ttl_hours == 0
    assert settings.dashboard_host == "127.0.0.1"


def test_our_variable_comes_before_redis_url() -> None:
    environ = {"REDIS_URL": "redis://b", "BACKSCROLL_REDIS_URL": "rediss://a"}
    assert Settings.from_environment(environ).redis_url == "rediss://a"
    assert Settings.from_environment({"REDIS_URL": "redis://b"}).redis_url == "redis://b"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BACKSCROLL_REDIS_URL", "http://host"),
        ("BACKSCROLL_STORE", "mysql://host/db"),
        ("BACKSCROLL_STORE", "sqlite://"),
        ("BACKSCROLL_QUEUE", "a:b"),
        ("BACKSCROLL_QUEUE", "x" * 101),
        ("BACKSCROLL_MAX_QUEUE_DEPTH", "0"),
        ("BACKSCROLL_MAX_QUEUE_DEPTH", "many"),
        ("BACKSCROLL_MAX_MESSAGE_BYTES", "99999999999"),
        ("BACKSCROLL_GROUP_SIZE", "-1"),
        ("BACKSCROLL_NICE", "20"),
        ("BACKSCROLL_NICE", "-1"),
        ("BACKSCROLL_TTL_HOURS", "soon"),
        ("BACKSCROLL_TTL_HOURS", "-1"),
        ("BACKSCROLL_TTL_HOURS", "nan"),
        ("BACKSCROLL_OP_IDS_HOURS", "inf"),
        ("BACKSCROLL_CLEANUP_CRON", "every day"),
        ("BACKSCROLL_COMPACT_CRON", "61 * * * *"),
        ("BACKSCROLL_COMPACT_CRON", "R * * * *"),
        ("BACKSCROLL_COMPACT_CRON", "0 0 1 1 * 0 2030"),
        ("BACKSCROLL_DASHBOARD_PORT", "70000"),
        ("BACKSCROLL_LOG_LEVEL", "LOUD"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_it(name: str, value: str) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        Settings.from_environment({name: value})
    said = str(caught.value)
    assert name.removeprefix("BACKSCROLL_").split("_")[0].lower() in said.lower()
    assert "\n" not in said


def test_options_of_the_command_line_come_first_and_are_checked_too() -> None:
    settings = Settings.from_environment({"BACKSCROLL_QUEUE": "a"})
    assert settings.with_options(queue="b", store=None).queue == "b"
    with pytest.raises(InvalidSettingError):
        settings.with_options(redis_url="http://x")
    with pytest.raises(InvalidSettingError):
        settings.with_options(store="nowhere")


def test_docs_settings_lists_every_variable_with_its_default_and_meaning() -> None:
    assert PAGE.read_text(encoding="utf-8") == expected(), "run python -m tests.settings_page"


def test_no_variable_is_read_that_is_not_declared() -> None:
    declared = {setting.name for setting in variables()}
    for folder in ("producer", "worker"):
        for path in (ROOT / folder).rglob("*.py"):
            named = set(re.findall(r"\bBACKSCROLL_[A-Z_]+[A-Z]\b", path.read_text()))
            assert named <= declared, path


def test_another_process_reads_the_same_settings_from_its_environment() -> None:
    environ = {
        "BACKSCROLL_REDIS_URL": "redis://h:1/2",
        "BACKSCROLL_DATA_DIR": "/data",
        "BACKSCROLL_STORE": "jsonl:///sessions",
        "BACKSCROLL_QUEUE": "q",
        "BACKSCROLL_MAX_QUEUE_DEPTH": "11",
        "BACKSCROLL_MAX_MESSAGE_BYTES": "12",
        "BACKSCROLL_REDACT": "1",
        "BACKSCROLL_GROUP_SIZE": "13",
        "BACKSCROLL_GROUP_WAIT_MS": "14",
        "BACKSCROLL_TAILS_MIB": "15",
        "BACKSCROLL_NICE": "17",
        "BACKSCROLL_TTL_HOURS": "1.5",
        "BACKSCROLL_RETENTION": "/rules.toml",
        "BACKSCROLL_ARCHIVE": "/archive",
        "BACKSCROLL_OP_IDS_HOURS": "16",
        "BACKSCROLL_KEEP_EDITS": "1",
        "BACKSCROLL_ACCEPT_STORE": "an id",
        "BACKSCROLL_CLEANUP_CRON": "@daily",
        "BACKSCROLL_COMPACT_CRON": "1 2 3 4 5",
        "BACKSCROLL_DASHBOARD_HOST": "::1",
        "BACKSCROLL_DASHBOARD_PORT": "19",
        "BACKSCROLL_DASHBOARD_USERNAME": "u",
        "BACKSCROLL_DASHBOARD_PASSWORD": " p ",
        "BACKSCROLL_LOG_LEVEL": "debug",
    }
    others = {"REDIS_URL", "BACKSCROLL_ALLOW_FILESYSTEM"}
    assert set(environ) == {setting.name for setting in variables()} - others
    settings = Settings.from_environment(environ)
    plain = Settings.from_environment({})
    assert all(getattr(settings, name) != getattr(plain, name) for name in Settings.__slots__)
    assert settings.dashboard_password == " p "
    assert Settings.from_environment(settings.environment()) == settings
    assert Settings.from_environment(plain.environment()) == plain


def test_passwords_are_hidden_wherever_a_url_may_carry_one() -> None:
    assert hide_password("redis://u:p@h:1/0") == "redis://u:***@h:1/0"
    assert hide_password("redis://:p@h") == "redis://:***@h"
    assert hide_password("redis://u:a:b@h") == "redis://u:***@h"
    assert hide_password("unix:///s.sock?db=0&password=p&x=1") == (
        "unix:///s.sock?db=0&password=***&x=1"
    )
    assert hide_password("redis://h:1") == "redis://h:1"
