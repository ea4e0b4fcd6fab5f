"""Real conversations in 28 languages, from the package `chatterbot-corpus`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from backscroll.contract.errors import InvalidSettingError

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML has it

CHANNELS: Final = ("telegram", "slack", "discord")


@dataclass(frozen=True, slots=True)
class Session:
    """One topic in one language on one channel, as a conversation."""

    key: str
    channel: str
    language: str
    topic: str
    conversations: tuple[tuple[str, ...], ...]

    @property
    def exchanges(self) -> int:
        """The number of messages with their answers."""
        return sum(len(conversation) - 1 for conversation in self.conversations)


def load_sessions() -> list[Session]:
    """Every topic of the corpus as a session, distributed over the three channels."""
    try:
        from chatterbot_corpus.corpus import DATA_DIRECTORY  # noqa: PLC0415 - extra 'demo'
    except ImportError:
        raise InvalidSettingError(
            "the demo replays the package chatterbot-corpus: pip install 'backscroll[demo]'"
        ) from None
    files = sorted(Path(DATA_DIRECTORY).glob("*/*.yml"))
    return [_read(path, CHANNELS[index % len(CHANNELS)]) for index, path in enumerate(files)]


def _read(path: Path, channel: str) -> Session:
    with path.open(encoding="utf-8") as file:
        content = yaml.load(file, Loader=_LOADER)  # noqa: S506 - one of the two safe ones
    language, topic = path.parent.name, path.stem
    conversations = tuple(tuple(map(str, said)) for said in content["conversations"])
    return Session(f"{channel}/{language}:{topic}", channel, language, topic, conversations)
