"""One session while maintenance and erasures work on it, and what is left of it then."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from backscroll.contract.messages import from_micros
from backscroll.contract.validation import FORKED
from backscroll_worker.contract.clock import Cutoff
from backscroll_worker.contract.platform_ids import platform_digest
from backscroll_worker.contract.tombstones import Tombstones
from backscroll_worker.stores.jsonl.fields import OURS
from backscroll_worker.stores.jsonl.lines import (
    Line,
    drop_old,
    may_quote,
    note_platform_ids,
)
from backscroll_worker.stores.jsonl.sidecar import Sidecar
from backscroll_worker.stores.jsonl.stored_session import StoredSession
from backscroll_worker.stores.jsonl.transcript import Damage, Transcript

MARK: Final = "~"  # never in an op id
GONE: Final = f"{MARK}platform "


class MaintainedSession(StoredSession):
    """A session, with what removes parts of it that no operation names."""

    def _note_gone(self, lines: Iterable[Line]) -> None:
        """Record the platform ids of removed messages, which are not stored again."""
        platform_ids = self._cached_session().platform_ids
        for line in lines if platform_ids else ():
            platform_id = line.message.platform_id
            if platform_id is not None:
                platform_ids.pop(platform_id, None)
                self._note(gone_mark(platform_id), 0)

    def _bring_back(self, lines: Iterable[Line]) -> None:
        """The opposite, also of what was recorded before a fork or a merge brought them here."""
        for line in lines:
            mark = gone_mark(line.message.platform_id or "")
            self._cached_session().known.pop(mark, None)
            self._notes.pop(mark, None)

    def used_blobs(self) -> set[str]:
        """The SHA-256 of all that is attached to its messages."""
        attached = (each for line in self.lines for each in line.message.attachments)
        return {each.sha256 for each in attached if each.sha256 is not None}

    def leave(self) -> None:
        """Remove the session, but keep its op ids; a later operation begins a new one."""
        cached = self._cached_session()
        cached.platform_ids.clear()
        for mark in [name for name in cached.known if name.startswith(GONE)]:
            del cached.known[mark]
        self._transcript = Transcript(records=self._records({}))
        self._sidecar = Sidecar(self.key, self._now)
        self._pending, self._read, self._notes = [], 0, {}
        cached.count = 0
        self.last_activity = self._now
        self.exists = self._is_described = self._is_touched = False
        self._is_rewritten = True

    def drop(self, gone: Iterable[Line]) -> None:
        """Remove messages that a rule no longer keeps, which does not count as activity."""
        places = {id(line) for line in gone}
        self._note_gone([line for line in self.lines if id(line) in places])
        lines = self._rewrite()
        lines[:] = [line for line in lines if id(line) not in places]
        self._cached_session().count = len(lines)

    def said_by(self, author: str) -> list[Line]:
        """The lines of one author's messages."""
        return [line for line in self.lines if line.message.author == author]

    def erase(self) -> None:
        """Remove every trace of the session, including op ids."""
        self.leave()
        self._transcript = Transcript()
        self._cached_session().known.clear()
        self._has_gone = self._is_erased = True

    def erase_author(self, author: str) -> None:
        """Delete an author's messages, which is no activity, and damage that names the author.

        So go those that pops removed.

        Op ids are kept: others' messages may have come with them. Only another program's op id is
        deleted with the only message it brought, as it may contain the author's name.
        """
        self._is_described |= self.sidecar.has_popped(author)
        self.sidecar.forget_popped(author)
        gone = self.said_by(author)
        damage = self.transcript.damage
        damage[:] = [each for each in damage if not may_quote(each.raw, author)]
        places = set(map(id, gone))
        self._note_gone(gone)
        lines = self._rewrite()
        lines[:] = [line for line in lines if id(line) not in places]
        cached = self._cached_session()
        cached.count, cached.platform_ids = len(lines), note_platform_ids(lines, {})
        for line in gone:
            if self.is_own_of_author(line):
                cached.known.pop(line.op_id, None)

    def is_own_of_author(self, line: Line) -> bool:
        """Whether an erasure of the line's author deletes its op id, too."""
        is_foreign = OURS.fullmatch(line.op_id) is None
        return is_foreign and self.known.get(line.op_id) == 1

    def erase_until(self, moment: int) -> None:
        """Erase the messages sent until `moment`, and the session if those are all it has."""
        if not self.exists:
            return
        latest = from_micros(moment)
        self._is_described |= bool(self.sidecar.popped)  # which may be as old
        self.sidecar.popped.clear()
        kept = [line for line in self.lines if (line.message.created_at or latest) > latest]
        if not kept:
            self.erase()
        elif len(kept) < len(self.lines):
            self._touch()
            self._rewrite()[:] = kept
            self.transcript.damage.clear()  # it may be as old
            cached = self._cached_session()
            cached.count, cached.platform_ids = len(kept), note_platform_ids(kept, {})

    def repeated(self) -> list[Line]:
        """The lines with the message id of an earlier line."""
        first = {line.message.message_id: line for line in reversed(self.lines)}
        return [line for line in self.lines if first[line.message.message_id] is not line]

    def drop_damage(self) -> None:
        """Set unreadable and repeated lines aside, which does not count as activity."""
        repeated = self.repeated()
        ids = set(map(id, repeated))
        lines = self._rewrite()
        lines[:] = [line for line in lines if id(line) not in ids]
        self.transcript.damage += [Damage(0, line.raw, "repeated") for line in repeated]
        self._cached_session().count = len(lines)

    def forget_attributes(self) -> None:
        """Reset the sidecar to the time of creation, as far as it is known."""
        self._sidecar = Sidecar(self.key, self.sidecar.created_at)
        self._is_described = True

    def forget_origin(self, tombstones: Tombstones) -> None:
        """Forget of which session this is a fork, if that was erased afterwards."""
        origin = self.sidecar.attributes.get("forked_from")
        if origin is not None and tombstones.of("key", origin).noted_at >= self.sidecar.created_at:
            for name in FORKED:
                self.sidecar.attributes.pop(name, None)
            self._is_described = True

    def compact(self, old: Cutoff, waited: Cutoff) -> tuple[int, int]:
        """Drop expired records and set damage aside; returns the number of both.

        What pops removed goes earlier: by `waited`.
        """
        if self._is_rewritten:  # by an erasure just now; the next compaction finds it as written
            return 0, 0
        transcript = self.transcript
        damaged = len(transcript.damage)
        purged = drop_old(transcript.records, old)
        described = drop_old(self.sidecar.applied, old)
        self._is_rewritten = purged > 0 or damaged > 0
        popped = self.sidecar.popped
        forgotten = [op_id for op_id, (at, _) in popped.items() if waited.is_past(at)]
        for op_id in forgotten:
            del popped[op_id]
        self._is_described = described > 0 or bool(forgotten)
        self._cached = self._read_known()
        return purged + described, damaged


def gone_mark(platform_id: str) -> str:
    return GONE + platform_digest(platform_id).hex()
