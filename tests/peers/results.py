"""The page of what came of the frameworks' own tests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from tests.peers.running import Outcome
from tests.peers.source import Distribution

_HEAD: Final = """\
# The frameworks' own tests

Written by `make peers`. It runs those tests in the newest source distribution of each framework
that keep something, with Backscroll in the place of the framework's own stores: embedded, in the
process of the tests, and over the queue, with a worker. `make test` runs a part of them in the
versions that we are tested with.

| framework | version | history | passed | failed | not applicable |
|---|---|---|---|---|---|
"""
_NOTES: Final = """
Tests that keep nothing, and those that the framework skips itself, are not counted.
`EncryptedSession` of the OpenAI Agents SDK checks the key before it pops an item, but only over a
`SQLiteSession`; for its tests, ours has that name.
"""

Found = Mapping[tuple[Distribution, str], Mapping[str, Outcome]]


def page(found: Found) -> str:
    """The page, in Markdown; the same for the same outcomes."""
    lines = [_HEAD.rstrip("\n")]
    for (framework, place), outcomes in found.items():
        numbers = [
            sum(each["outcome"] == kind for each in outcomes.values())
            for kind in ("passed", "failed", "not applicable")
        ]
        cells = [framework.name, framework.version, place, *map(str, numbers)]
        lines.append(f"| {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n" + _NOTES
    for framework in dict.fromkeys(framework for framework, _ in found):
        text += f"\n## Not applicable: {framework.name}\n\n"
        for reason, tests in _reasons(framework, found).items():
            text += f"- It {reason}: {', '.join(f'`{test}`' for test in tests)}\n"
    return text


def _reasons(framework: Distribution, found: Found) -> dict[str, list[str]]:
    """The names of the tests, each once, by why they do not apply."""
    tests = defaultdict[str, dict[str, None]](dict)
    for (of, _), outcomes in found.items():
        if of == framework:
            for name, each in outcomes.items():
                if each["outcome"] == "not applicable":
                    tests[each["reason"]][name.rpartition("::")[2].partition("[")[0]] = None
    return {reason: sorted(names) for reason, names in tests.items()}
