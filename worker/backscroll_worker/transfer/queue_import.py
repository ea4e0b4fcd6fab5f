"""`backscroll import --through-queue`: takes histories over beside a running worker.

A conversation of another program adds what is new to its session, see `joining`. Each session of an
export of Backscroll is appended in batches whose ids follow from the whole of it, so that an import
that broke off goes on when it is begun again, and nothing is stored twice. One with other messages
by now is another history: none of its batches is taken for one of before. The first batch begins
the session, or is refused: a history is not put behind another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from backscroll import ChatMessage, Producer
from backscroll.contract.errors import ConflictError, InvalidInputError
from backscroll.contract.ids import message_id
from backscroll.contract.message_checks import Limits, check_messages
from backscroll.contract.splicing import with_summaries
from backscroll.contract.validation import ATTRIBUTES, ORIGINS
from backscroll_worker.contract.takeover import ImportSession, has_another_history
from backscroll_worker.transfer.chats.conversation import Options
from backscroll_worker.transfer.import_files import ImportReport, Observe, incoming_of
from backscroll_worker.transfer.joining import Rehearsal, join, platform_ids, through_queue
from backscroll_worker.transfer.source import Incoming

_BATCH_MESSAGES: Final = 500
_BATCH_CHARS: Final = 1024 * 1024
_GIVEN: Final = tuple(name for name in ATTRIBUTES if name not in ("state", "turn_id", "closed"))
"""What the first batch says of its session: no turn is running that would end."""
_EDITS: Final = "earlier versions of messages"
_ORIGINS: Final = "from which session another one comes"
_TOO_LARGE: Final = "what messages of more than 1 MiB have beside their text"
_STATES: Final = "states of sessions"


def import_through_queue(
    paths: Iterable[Path], producer: Producer, options: Options, observe: Observe
) -> ImportReport:
    """Append every session in these files, and wait until each is stored.

    The sessions' times are those of the import, those of the messages are kept. Files that cannot
    be read are reported as refused. Raises as `Producer.append`, and may be called again then.
    """
    report, fill = ImportReport(), through_queue(producer)
    options = replace(options, held=partial(platform_ids, producer))
    for path in paths:
        try:
            for incoming in incoming_of(path, options, report, observe):
                if incoming.joins:
                    taken = _that_fits(incoming, report)
                    report.count(incoming.where, join(taken, producer, fill))
                    continue
                _append(incoming.where, incoming.operation, producer, report)
        except InvalidInputError as error:
            report.refuse(str(error))
    return report


def look_through_queue(paths: Iterable[Path], options: Options, observe: Observe) -> ImportReport:
    """What `import_through_queue` would do with these files and an empty store."""
    report, rehearsal, seen = ImportReport(), Rehearsal(), dict[str, str]()
    options = replace(options, held=rehearsal.held)
    for path in paths:
        try:
            for incoming in incoming_of(path, options, report, observe):
                taken, where = incoming.operation, incoming.where
                if incoming.joins:
                    report.count(where, rehearsal.join(_that_fits(incoming, report)))
                elif not _may_be_sent(where, taken, report):
                    continue
                elif taken.key not in seen:
                    seen[taken.key] = taken.op_id
                    report.sessions += 1
                    report.messages += len(taken.messages)
                    _note_not_kept(taken, report)
                elif seen[taken.key] == taken.op_id:
                    report.known += 1
                else:
                    report.refuse(f"{where}: {has_another_history(taken.key)}")
        except InvalidInputError as error:
            report.refuse(str(error))
    return report


def _may_be_sent(where: str, taken: ImportSession, report: ImportReport) -> bool:
    """Whether a session of an export has messages, and none that is larger than a job may have."""
    if not taken.messages:
        report.leave_out(f"{where}: has no messages")
        return False
    for batch in _batches(taken.messages):
        try:
            check_messages([replace(each, edits=()) for each in batch], Limits())
        except InvalidInputError as error:
            report.refuse(f"{where}: {error}")
            return False
    return True


def _that_fits(incoming: Incoming, report: ImportReport) -> ImportSession:
    """Without what is larger than a job may have: `extra` beside a text, or the message."""
    said = list[ChatMessage]()
    for message in incoming.operation.messages:
        problem = _problem(message)
        if problem is not None and message.content:
            message = replace(message, extra=None)  # noqa: PLW2901
            if _problem(message) is None:
                report.not_kept[_TOO_LARGE] = report.not_kept.get(_TOO_LARGE, 0) + 1
                problem = None
        if problem is None:
            said.append(message)
        else:
            report.leave_out(f"{incoming.where}: {message.platform_id}: {problem}")
    return replace(incoming.operation, messages=tuple(said))


def _problem(message: ChatMessage) -> InvalidInputError | None:
    """Why an adapter may not send the message, if so."""
    try:
        check_messages([message], Limits())
    except InvalidInputError as error:
        return error
    return None


def _append(where: str, taken: ImportSession, producer: Producer, report: ImportReport) -> None:
    if not _may_be_sent(where, taken, report):
        return
    attributes = {name: taken.attributes[name] for name in _GIVEN if name in taken.attributes}
    stored = 0
    for number, batch in enumerate(_to_be_sent(taken, producer)):
        try:
            receipt = producer.append(
                taken.key,
                *(replace(message, message_id=None, edits=()) for message in batch),
                dedup_key=_dedup_key(taken, number),
                session=attributes or None,
                expect_tail=None if number else "",
                ack="stored",
            )
        except ConflictError:
            report.refuse(f"{where}: {has_another_history(taken.key)}")
            return
        stored += 0 if receipt.duplicate else receipt.affected or 0
    report.messages += stored
    if stored:
        report.sessions += 1
        if taken.attributes.get("closed"):  # nobody could append to it before
            producer.close_session(taken.key, ack="stored")
        _note_not_kept(taken, report)
    else:
        report.known += 1


def _to_be_sent(taken: ImportSession, producer: Producer) -> Iterator[tuple[ChatMessage, ...]]:
    """The batches of a session, with summaries that go up to the messages as they will be."""
    batches = list(_batches(taken.messages))
    ids = [
        message_id(producer.message_id(taken.key, _dedup_key(taken, number)), index)
        for number, batch in enumerate(batches)
        for index in range(len(batch))
    ]
    messages = iter(with_summaries(taken.messages, ids))
    for batch in batches:
        yield tuple(islice(messages, len(batch)))


def _dedup_key(taken: ImportSession, number: int) -> str:
    return f"{taken.op_id} {number}"


def _note_not_kept(taken: ImportSession, report: ImportReport) -> None:
    """What a session of Backscroll has that no append can give it."""
    edits = sum(len(message.edits) for message in taken.messages)
    origins = sum(name in taken.attributes for name in ORIGINS)
    counts = (_EDITS, edits), (_ORIGINS, origins), (_STATES, len(taken.states))
    for what, count in counts:
        if count:
            report.not_kept[what] = report.not_kept.get(what, 0) + count


def _batches(messages: Sequence[ChatMessage]) -> Iterator[list[ChatMessage]]:
    batch, chars = list[ChatMessage](), 0
    for message in messages:
        if batch and (len(batch) == _BATCH_MESSAGES or chars > _BATCH_CHARS):
            yield batch
            batch, chars = [], 0
        batch.append(message)
        chars += len(message.content)
    if batch:
        yield batch
