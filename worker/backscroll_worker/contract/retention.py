"""How long sessions are kept and how many of their messages: the rules of a TOML file.

    [default]
    ttl = "30d"

    [[rule]]
    channel = "slack"
    room = "support-*"
    ttl = "1y"
    keep_messages = 5000

Of the rules that match a session, the one with the most literal characters in its patterns applies,
the first of several such. Missing values are those of the default; if that has no ttl,
BACKSCROLL_TTL_HOURS applies. A session's own `ttl_hours` comes before any rule's ttl.

Rules with an `author` are about single messages, and are chosen among themselves in the same way;
`contract.author_retention` says which messages they delete. The user's guide is docs/retention.md.
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from backscroll.contract.errors import InvalidSettingError
from backscroll.contract.messages import LATEST_MICROS, MAX_ATTRIBUTE_CHARS
from backscroll.contract.validation import check_number

_PATTERNS: Final = ("key", "name", "agent", "channel", "room", "sender", "author")
MICROS_PER_HOUR: Final = 3_600_000_000
_MINUTES: Final = {"m": 1, "h": 60, "d": 1_440, "w": 10_080, "y": 525_600}
_DURATION: Final = re.compile(r"([1-9][0-9]{0,5}) ?([mhdwy])")
_FOREVER: Final = ("forever", "none")
_OWN: Final = "own"  # no rule of the file: those have a pattern in their names
_WILDCARD: Final = re.compile(r"\[!?\]?[^\]]*\]|[*?]")


def micros_of(name: str, hours: float) -> int:
    """Hours, zero or below for the past, in microseconds; raises `InvalidInputError` by name."""
    return int(check_number(name, hours, -1e9) * MICROS_PER_HOUR)


@dataclass(frozen=True, slots=True)
class Rule:
    """The limits for the sessions it matches; `ttl_micros` and `keep_messages` None: no limit."""

    name: str
    ttl_micros: int | None = None
    keep_messages: int | None = None
    patterns: tuple[tuple[str, re.Pattern[str]], ...] = ()
    literals: int = 0
    """The number of literal characters in the patterns."""
    has_own_ttl: bool = False
    """Whether `ttl_micros` is that of a single session."""

    def name_of(self, *, is_whole: bool) -> str:
        """What a report says why a session went, or some of its messages."""
        return _OWN if is_whole and self.has_own_ttl else self.name

    def fits(self, attributes: Mapping[str, Any]) -> bool:
        """Whether the rule matches a session with this key and these attributes.

        An attribute that is not set matches no pattern. A rule for authors matches their messages:
        `attributes` has the author, too.
        """
        for name, pattern in self.patterns:
            value = attributes.get(name)
            if value is None or pattern.match(value) is None:
                return False
        return True

    @property
    def is_for_author(self) -> bool:
        """Whether it is about the messages of an author and not about sessions."""
        return "author" in dict(self.patterns)


@dataclass(frozen=True, slots=True)
class Retention:
    """All rules, the most specific first, and the default, which applies where none matches."""

    default: Rule
    rules: tuple[Rule, ...] = ()
    author_rules: tuple[Rule, ...] = ()
    """Those for an author's messages in the sessions they match; for all others none applies."""

    @classmethod
    def of_hours(cls, ttl_hours: float | None) -> Self:
        """One TTL for all sessions; None: they are kept permanently."""
        return cls(Rule("default", _micros(ttl_hours)))

    @classmethod
    def load(cls, path: Path, ttl_hours: float | None, *, overrides: bool = False) -> Self:
        """The rules in a TOML file; the TTL of its default is `ttl_hours` (None: no limit).

        A ttl in the file's default takes precedence, unless `overrides`. Raises
        `InvalidSettingError`, which names the file, the rule and the field.
        """
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise _wrong(path, error.strerror or str(error)) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise _wrong(path, f"is not valid TOML: {error}") from None
        default, rules = _Reader(path, document).read(_micros(ttl_hours), overrides)
        rules.sort(key=lambda rule: -rule.literals)
        of_authors = tuple(rule for rule in rules if rule.is_for_author)
        return cls(default, tuple(rule for rule in rules if not rule.is_for_author), of_authors)

    def shortest_ttl_of(self, author: str) -> int | None:
        """What the author said more recently is kept in any session; None: all of it is."""
        fitting = [
            rule.ttl_micros
            for rule in self.author_rules
            if rule.ttl_micros is not None and dict(rule.patterns)["author"].match(author)
        ]
        return min(fitting, default=None)

    def rule_for_author(self, attributes: Mapping[str, Any], author: str) -> Rule | None:
        """The rule for what the author said in a session with this key and these attributes."""
        said = {**attributes, "author": author}
        return next((rule for rule in self.author_rules if rule.fits(said)), None)

    def rule_for(self, attributes: Mapping[str, Any]) -> Rule:
        """The rule that applies to a session with this key and these attributes.

        Its ttl is the session's `ttl_hours`, if that is set.
        """
        found = next((rule for rule in self.rules if rule.fits(attributes)), self.default)
        hours = attributes.get("ttl_hours")
        if hours is None:
            return found
        return replace(found, ttl_micros=_micros(hours or None), has_own_ttl=True)

    @property
    def shortest_ttl(self) -> int | None:
        """Sessions active more recently are kept under any rule; None: all sessions are kept.

        Except those with a `ttl_hours` of their own.
        """
        ttls = (rule.ttl_micros for rule in self._all())
        return min((ttl for ttl in ttls if ttl is not None), default=None)

    @property
    def smallest_cap(self) -> int | None:
        """A session with at most this many messages keeps them under any rule; None: all do."""
        caps = (rule.keep_messages for rule in self._all())
        return min((cap for cap in caps if cap is not None), default=None)

    def _all(self) -> Iterable[Rule]:
        return (*self.rules, self.default)


class _Reader:
    """Parses a document, and refuses unknown fields and values."""

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self._path = path
        self._document = document

    def read(self, ttl_micros: int | None, overrides: bool) -> tuple[Rule, list[Rule]]:
        default = self._document.pop("default", {})
        tables = self._document.pop("rule", [])
        if self._document:
            raise _wrong(self._path, f"{_first(self._document)} is not [default] or [[rule]]")
        if not isinstance(default, dict) or not isinstance(tables, list):
            raise _wrong(self._path, "write [default] in single and [[rule]] in double brackets")
        fallback = Rule("default", ttl_micros)
        said = self._rule("[default]", default, fallback)
        if overrides:
            said = Rule("default", ttl_micros, said.keep_messages)
        rules = []
        for number, table in enumerate(tables, start=1):
            if not isinstance(table, dict):
                raise _wrong(self._path, f"rule {number} is not a table")
            rules.append(self._patterned(f"rule {number}", dict(table), said))
        return said, rules

    def _patterned(self, place: str, table: dict[str, Any], default: Rule) -> Rule:
        given = {name: table.pop(name) for name in _PATTERNS if name in table}
        if not given:
            raise _wrong(self._path, f"{place}: needs a pattern for {' or '.join(_PATTERNS)}")
        if not table:
            raise _wrong(self._path, f"{place}: needs ttl or keep_messages")
        if "author" in given and "ttl" not in table:
            raise _wrong(self._path, f"{place}: a rule for an author needs a ttl")
        if "author" in given and "keep_messages" in table:
            raise _wrong(self._path, f"{place}: a rule for an author takes no keep_messages")
        name = ", ".join(f"{field}={pattern}" for field, pattern in given.items())
        rule = self._rule(place, table, default)
        patterns = []
        for field, pattern in given.items():
            if not isinstance(pattern, str) or not 0 < len(pattern) <= MAX_ATTRIBUTE_CHARS:
                raise _wrong(self._path, f'{place}, {field}: must be text, such as "support-*"')
            patterns.append((field, re.compile(fnmatch.translate(pattern))))
        literals = sum(len(_WILDCARD.sub("", pattern)) for pattern in given.values())
        return Rule(name, rule.ttl_micros, rule.keep_messages, tuple(patterns), literals)

    def _rule(self, place: str, table: dict[str, Any], default: Rule) -> Rule:
        values = dict(table)
        ttl, keep = default.ttl_micros, default.keep_messages
        if "ttl" in values:
            ttl = self._ttl(place, values.pop("ttl"))
        if "keep_messages" in values:
            keep = self._keep(place, values.pop("keep_messages"))
        if values:
            raise _wrong(self._path, f"{place}: {_first(values)} is not a valid field")
        return Rule(default.name, ttl, keep)

    def _ttl(self, place: str, value: object) -> int | None:
        if value in _FOREVER:
            return None
        micros = duration_micros(value) if isinstance(value, str) else None
        if micros is None:
            raise _wrong(
                self._path,
                f"{place}, ttl: {value!r:.60} is not a valid duration; "
                'write "90m", "12h", "30d", "8w", "1y" or "forever"',
            )
        if micros >= LATEST_MICROS:
            raise _wrong(self._path, f'{place}, ttl: {value!r} is too long; write "forever"')
        return micros

    def _keep(self, place: str, value: object) -> int | None:
        if value == "all":
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1_000_000_000:
            raise _wrong(
                self._path,
                f'{place}, keep_messages: {value!r:.60} is neither a number from 1 nor "all"',
            )
        return value


def duration_micros(text: str) -> int | None:
    """The length of "90m", "12h", "30d", "8w" or "1y"; None for anything else."""
    match = _DURATION.fullmatch(text)
    return None if match is None else int(match[1]) * _MINUTES[match[2]] * MICROS_PER_HOUR // 60


def _micros(hours: float | None) -> int | None:
    return None if hours is None else micros_of("ttl_hours", hours)


def _first(fields: Mapping[str, Any]) -> str:
    return repr(next(iter(fields)))[:60]


def _wrong(path: Path, problem: str) -> InvalidSettingError:
    return InvalidSettingError(f"BACKSCROLL_RETENTION: {path}: {problem}")
