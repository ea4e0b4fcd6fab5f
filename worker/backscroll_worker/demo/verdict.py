"""The demo's check: every stored history against what the adapters remember having sent."""

from __future__ import annotations

from dataclasses import dataclass

from backscroll import Producer
from backscroll_worker.demo.adapter import Remembered


@dataclass(slots=True)
class Verdict:
    """The result of the comparison."""

    sessions: int = 0
    messages: int = 0
    missing: int = 0
    doubled: int = 0
    unexpected: int = 0
    misplaced: int = 0
    altered: int = 0

    @property
    def holds(self) -> bool:
        """Whether every session is stored exactly as it was sent."""
        wrong = self.missing + self.doubled + self.unexpected + self.misplaced + self.altered
        return wrong == 0 and self.messages > 0


def compare(producer: Producer, remembered: dict[str, Remembered]) -> Verdict:
    """Load every session and compare it with `remembered`, message by message."""
    verdict = Verdict()
    for key, expected in remembered.items():
        stored = [
            [message.message_id, message.role, message.content, message.extra]
            for message in producer.load(key)
        ]
        _compare_session(verdict, expected, stored)
    verdict.unexpected += len(_stored_keys(producer) - remembered.keys())
    return verdict


def _compare_session(verdict: Verdict, expected: Remembered, stored: Remembered) -> None:
    verdict.sessions += 1
    verdict.messages += len(stored)
    wanted = [message[0] for message in expected]
    found = [message[0] for message in stored]
    verdict.missing += len(set(wanted) - set(found))
    verdict.unexpected += len(set(found) - set(wanted))
    verdict.doubled += len(found) - len(set(found))
    if set(wanted) == set(found) and wanted != found:
        verdict.misplaced += sum(a != b for a, b in zip(wanted, found, strict=False))
    contents = {message[0]: message for message in expected}
    verdict.altered += sum(
        message != contents[message[0]] for message in stored if message[0] in contents
    )


def _stored_keys(producer: Producer) -> set[str]:
    keys, cursor = set[str](), None
    while True:
        page = producer.sessions(agent="demo-assistant", limit=1000, cursor=cursor)
        keys |= {session.key for session in page.sessions}
        if (cursor := page.cursor) is None:
            return keys
