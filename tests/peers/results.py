"""The page of what came of the frameworks' own tests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from tests.peers.running import OUR_TESTS, Outcome
from tests.peers.source import Distribution

_HEAD: Final = """\
# The frameworks' own tests

Written by `make peers`. It runs those tests in the newest source distribution of each framework
that keep something, with Backscroll in the place of the framework's own stores: embedded, in the
process of the tests, and over the queue, with a worker. Of frameworks whose source distribution has
no tests of a store, it runs ours, which ask for what the framework's documentation says; those of
LlamaIndex also compare each call with its `SQLAlchemyChatStore`. `make test` runs ours, and a part
of the frameworks' own, in the versions that we are tested with.

| framework | version | tests | history | passed | failed | not applicable |
|---|---|---|---|---|---|---|
"""
_NOTES: Final = """
Of the frameworks' own tests, those that keep nothing and those that the framework skips itself are
not counted.
Those of the OpenAI Agents SDK on its `EncryptedSession` are run with `BackscrollEncryptedSession`.
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
        whose = "ours" if framework.name in OUR_TESTS else "its own"
        cells = [framework.name, framework.version, whose, place, *map(str, numbers)]
        lines.append(f"| {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n" + _NOTES
    for framework in dict.fromkeys(framework for framework, _ in found):
        reasons = _reasons(framework, found)
        text += f"\n## Not applicable: {framework.name}\n\n" if reasons else ""
        for reason, tests in reasons.items():
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
