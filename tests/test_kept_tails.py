"""What a worker keeps as tails, and marks as pending, where jobs come in an unusual order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import redis

from backscroll import ChatMessage
from backscroll.contract.codec import decode
from backscroll.contract.message_checks import Limits
from backscroll.contract.operations import Operation
from backscroll.contract.reads import GetSession
from backscroll.contract.requests import Requests
from backscroll.contract.results import Outcome
from backscroll.transport.pinned_connection import PinnedConnection
from backscroll.transport.rq_protocol import (
    JobWriter,
    in_flight_key,
    job_key,
    own_key,
    queue_key,
)
from backscroll.transport.sender import JobConnection, marked
from backscroll.transport.tails import ANY_SESSION, About
from backscroll_worker.contract.pacing import Unfinished
from backscroll_worker.loop.tails import Tails
from backscroll_worker.settings import Settings
from backscroll_worker.stores import open_store

QUEUE = queue_key("backscroll")
TAILS, PENDING = own_key("backscroll", "tails"), own_key("backscroll", "pending")
READ = GetSession("read", 0, "s")


class Kept:
    """The tails of a worker that has applied what `settle` is given."""

    def __init__(self, tails: Tails, client: redis.Redis) -> None:
        self.tails = tails
        self._client = client

    def settle(
        self,
        *done: Operation,
        answer: object = Outcome(1),
        released: Sequence[bytes] = (),
        is_whole: bool = True,
    ) -> int:
        """Returns the size of what puts the tails right, which is executed."""
        answers = [(operation, answer) for operation in done]
        commands = self.tails.update(answers, released, is_whole=is_whole)
        PinnedConnection(self._client).call(*commands)
        return sum(len(str(part).encode()) for command in commands for part in command)


def releasing(client: redis.Redis) -> Callable[[], None]:
    """Has the server execute what was sent, which releases all that are in flight."""

    def confirm() -> None:
        client.delete(in_flight_key("backscroll"))

    return confirm


@pytest.fixture
def kept(settings: Settings, client: redis.Redis) -> Iterator[Kept]:
    with open_store(settings.store) as store:
        kept = Kept(Tails(client, "backscroll", store, 1024 * 1024, releasing(client)), client)
        kept.settle(READ)
        yield kept


def test_the_first_of_two_equal_jobs_does_not_stand_for_both(
    kept: Kept, client: redis.Redis
) -> None:
    client.rpush(QUEUE, "twice", "between", "twice")
    kept.tails.refresh()
    kept.settle(READ, released=[b"twice"])
    assert client.hexists(PENDING, "")
    client.delete(QUEUE)
    kept.tails.renew()
    kept.tails.refresh()
    assert not client.exists(PENDING)


def test_a_dropped_job_does_not_stand_for_earlier_ones(kept: Kept, client: redis.Redis) -> None:
    client.rpush(QUEUE, "write", "gone")
    kept.tails.refresh()
    kept.settle(READ, released=[b"gone"], is_whole=False)
    assert client.hget(PENDING, "") == b"gone"
    kept.settle(READ, released=[b"write"])
    assert not client.exists(PENDING)


def test_what_a_spool_sent_is_pending_only_until_it_is_done(
    kept: Kept, client: redis.Redis
) -> None:
    kept.tails.refresh()
    writer, requests = JobWriter("backscroll", 100), Requests(Limits(), "backscroll")
    job = marked(writer.job(requests.append("s", (ChatMessage.user("hi"),)), "queued"))
    JobConnection(client, writer).enqueue([job])
    client.rpush(QUEUE, "later")  # so that the queue is never empty
    assert client.hget(PENDING, "") == job[0].encode()
    client.delete(job_key(job[0]))
    kept.settle(decode(job[0], job[-1]))
    assert not client.exists(PENDING)


def test_an_update_of_many_sessions_drops_all_tails_first_and_settles_any_session_last(
    kept: Kept, client: redis.Redis
) -> None:
    """It is several commands, and others may read between them."""
    client.rpush(QUEUE, "waits")
    kept.tails.refresh()
    kept.settle(READ)
    requests = Requests(Limits(), "backscroll")
    said = (ChatMessage.user("hi"),)
    writes: list[Operation] = [requests.append(f"k{n}", said, None) for n in range(120)]
    client.hset(PENDING, mapping={f"k{n}": each.op_id for n, each in enumerate(writes)})
    writes.append(requests.rename_agent("a", "b"))
    answers = [(each, Outcome(1)) for each in writes]
    commands = kept.tails.update(answers, [b"waits"], is_whole=True)
    assert len(commands) == 3
    assert client.hexists(TAILS, "hs")
    for command in commands:
        assert client.hexists(PENDING, "")
        PinnedConnection(client).call(command)
        assert client.hkeys(TAILS) == [b""]
    assert not client.exists(PENDING)


@pytest.mark.parametrize("is_spooled", [False, True])
def test_what_comes_again_before_its_release_does_not_stand_for_the_rest(
    kept: Kept, client: redis.Redis, *, is_spooled: bool
) -> None:
    """Its first job is deleted by then, so that it is queued once more, behind others."""
    kept.tails.refresh()
    writer, requests = JobWriter("backscroll", 100), Requests(Limits(), "backscroll")
    connection = JobConnection(client, writer)

    def send(operation: Operation) -> Operation:
        job, about = writer.job(operation, "queued"), [About.of(operation)]
        if is_spooled:
            job, about = marked(job), [ANY_SESSION]
        connection.enqueue([job], about)
        return decode(job[0], job[-1])

    said = (ChatMessage.user("hi"),)
    first, later = (requests.append("s", said, dedup_key=name) for name in "12")
    send(first)
    client.rename(QUEUE, in_flight_key("backscroll"))
    client.delete(job_key(first.op_id))
    last, done = send(later), send(first)
    kept.settle(done)
    assert client.exists(PENDING)
    client.delete(job_key(first.op_id), job_key(later.op_id))
    kept.settle(last, done)
    assert not client.exists(PENDING)


def test_what_is_read_while_no_tails_are_kept_takes_no_more_memory(
    kept: Kept, client: redis.Redis
) -> None:
    for number in range(5_000):
        kept.settle(GetSession("read", 0, f"{number:0500}"))
    assert len(kept.tails._wanted) < 1_100  # with their keys, a KiB each
    kept.tails.refresh()
    kept.settle(*(GetSession("read", 0, f"{number:0500}") for number in range(4_900, 5_000)))
    assert client.hlen(TAILS) == 1 + 2 * 100
    kept.tails.refresh()
    for number in range(5_000, 7_000):
        kept.settle(GetSession("read", 0, f"{number:0500}"))
    assert client.hlen(TAILS) < 2_200


def test_no_acknowledgement_has_more_than_the_least_a_server_accepts(
    kept: Kept, client: redis.Redis
) -> None:
    kept.tails.refresh()
    keys = [chr(0x4E00 + number) * 500 for number in range(700)]
    assert kept.settle(*(GetSession("read", 0, key) for key in keys)) < 1024 * 1024
    assert not client.exists(TAILS, PENDING)
    kept.tails.refresh()
    kept.settle(READ)
    assert client.hexists(TAILS, "hs")


def test_there_is_none_from_where_an_operation_has_begun_that_is_done_in_slices(
    kept: Kept, client: redis.Redis
) -> None:
    kept.tails.refresh()
    kept.settle(READ)
    client.rpush(QUEUE, "later")
    fork = Requests(Limits(), "backscroll").fork("f", "s", None)
    kept.settle(fork, answer=Unfinished(iter(())))  # type: ignore[arg-type]
    assert not client.exists(TAILS, PENDING)
    kept.settle(READ)  # in the same group, before the first slice
    assert not client.exists(TAILS)
    kept.tails.refresh()
    assert client.hget(PENDING, "") == b"later"


def test_jobs_of_an_acknowledgement_that_is_under_way_do_not_wait(
    kept: Kept, client: redis.Redis
) -> None:
    client.rpush(in_flight_key("backscroll"), "done")
    kept.tails.refresh()
    assert client.exists(TAILS)
    assert not client.exists(PENDING)


def test_tails_begin_anew_where_pending_was_of_another_type(
    kept: Kept, client: redis.Redis
) -> None:
    kept.tails.refresh()
    kept.settle(READ, GetSession("read", 0, "t"))
    client.set(PENDING, "mine")
    requests = Requests(Limits(), "backscroll")
    with pytest.raises(redis.ResponseError):
        kept.settle(*(requests.append(key, (ChatMessage.user("hi"),)) for key in ("s", "t")))
    assert client.hexists(TAILS, "ht")  # and it may be stale, but is not served
    kept.tails._due = 0.0
    kept.tails.refresh()
    assert client.hkeys(TAILS) == [b""]
    assert not client.exists(PENDING)
