"""The model: what was acknowledged to which writer, in which order, and so what must be stored.

An operation whose acknowledgement was lost may have been applied or not. Whether it was is for the
store to say; everything else follows from the journals alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from backscroll.contract.codec import decode
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Append, Erase, Replace, Write
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.testing.model import Model
from tests.crash.conversations import is_group


@dataclass(slots=True)
class WriterRecord:
    """What one writer asked for, in its order, each operation once."""

    name: str
    asked: list[Write] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)
    erased: dict[str, int] = field(default_factory=dict)
    """Until when each session was erased; none of these is ever named in a description."""
    erased_authors: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, journal: Path) -> WriterRecord:
        """The record of the writer whose journal this is."""
        record = cls(journal.stem)
        known: set[str] = set()
        for line in journal.read_bytes().splitlines():
            mark, _, rest = line.partition(b" ")
            op_id, _, payload = rest.partition(b" ")
            if mark == b"!":
                record.complaints.append(rest.decode())
            elif mark == b"+":
                record.acknowledged.add(op_id.decode())
            elif op_id.decode() not in known:
                known.add(op_id.decode())
                operation = decode(op_id.decode(), payload)
                if isinstance(operation, Erase) and operation.key is not None:
                    record.erased[operation.key] = operation.at
                elif isinstance(operation, Erase) and operation.author is not None:
                    record.erased_authors[operation.author] = operation.at
                else:
                    assert isinstance(operation, Write)
                    record.asked.append(operation)
        return record

    def is_erased(self, operation: Write) -> bool:
        """Whether it was asked for before its session was erased, and so has left nothing."""
        return operation.at <= self.erased.get(getattr(operation, "key", ""), -1)

    def erased_messages(self, operation: Write) -> list[ChatMessage]:
        """Those of its messages whose author was erased after it was asked for."""
        said = operation.messages if isinstance(operation, Append) else ()
        until = self.erased_authors
        return [each for each in said if operation.at <= until.get(each.author or "", -1)]

    def erased_texts(self) -> Iterator[tuple[str, ChatMessage]]:
        """What erasures must not leave anywhere: said, or said instead, with its session's key."""
        authors: dict[tuple[str, str | None], str | None] = {}
        for operation in self.asked:
            if isinstance(operation, Append):
                key, gone = operation.key, self.erased_messages(operation)
                for message in operation.messages if self.is_erased(operation) else gone:
                    yield key, message
                authors |= {(key, each.platform_id): each.author for each in operation.messages}
            elif isinstance(operation, Replace) and is_group(operation):
                author = authors.get((operation.key, operation.platform_id))
                if operation.at <= self.erased_authors.get(author or "", -1):
                    yield operation.key, operation.message

    def spared(self, operation: Write) -> Write:
        """The operation without what the erasure of an author has taken."""
        gone = self.erased_messages(operation)
        if not gone or not isinstance(operation, Append):
            return operation
        return operation.only([i for i, m in enumerate(operation.messages) if m not in gone])

    @property
    def unsure(self) -> list[Write]:
        """What was asked for and never acknowledged."""
        return [each for each in self.asked if each.op_id not in self.acknowledged]

    def model(self, applied: set[str]) -> tuple[Model, dict[str, int]]:
        """This writer's part of the store, and what each operation touched.

        `applied` are the op ids of those that were not acknowledged and applied all the same.
        """
        model = Model()
        done = [
            self.spared(each)
            for each in self.asked
            if each.op_id in self.acknowledged | applied and not self.is_erased(each)
        ]
        model.apply(done, now=1)
        said = {
            each.op_id for each in done if not (is_group(each) and self.erased_authors)
        }  # what the others touched is known no more
        return model, {op_id: n for op_id, n in model.applied.items() if op_id in said}


@dataclass(slots=True)
class Ledger:
    """All writers, and what a cleanup has to take away or to leave alone, or was restored."""

    writers: list[WriterRecord]
    idle: list[ImportSession] = field(default_factory=list)
    pinned: list[ImportSession] = field(default_factory=list)
    restored: list[ImportSession] = field(default_factory=list)

    @classmethod
    def read(cls, journals: Iterable[Path]) -> Ledger:
        """The ledger these journals amount to."""
        return cls([WriterRecord.read(journal) for journal in sorted(journals)])

    def without_acknowledgements(self) -> Ledger:
        """As if nobody had heard anything: of each operation the store has to say what became."""
        writers = [
            WriterRecord(
                writer.name,
                writer.asked,
                erased=writer.erased,
                erased_authors=writer.erased_authors,
            )
            for writer in self.writers
        ]
        return Ledger(writers, self.idle, self.pinned, self.restored)

    @property
    def operations(self) -> int:
        """How many operations were acknowledged."""
        return sum(len(writer.acknowledged) for writer in self.writers)

    @property
    def unsure(self) -> list[Write]:
        """Of all writers."""
        return [each for writer in self.writers for each in writer.unsure]

    def writer_of(self) -> dict[str, str]:
        """Who asked for an operation, by op id."""
        return {each.op_id: writer.name for writer in self.writers for each in writer.asked}
