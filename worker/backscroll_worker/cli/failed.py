"""`backscroll failed`: lists, requeues and discards jobs that failed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click
import redis
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.registry import FailedJobRegistry

from backscroll.contract.codec import mark_spooled
from backscroll.contract.errors import InvalidInputError, OperationRefusedError
from backscroll.contract.messages import from_micros
from backscroll.transport.rq_protocol import OrjsonSerializer, job_key, parse_result, results_key
from backscroll_worker.cli.access import open_connection
from backscroll_worker.cli.output import (
    cell,
    console,
    counted,
    json_option,
    local_time,
    note,
    print_json,
)
from backscroll_worker.cli.sending import confirm, yes_option
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings

_ids_argument = click.argument("ids", metavar="[ID]...", nargs=-1)
_all_option = click.option("--all", "take_all", is_flag=True, help="All of them.")


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job in RQ's failed registry, with the last line of its error."""

    id: str
    operation: str
    error: str
    failed_at: datetime | None


@click.group()
def failed() -> None:
    """List, requeue or discard failed jobs.

    \b
    Example:
      backscroll failed list
    """


@failed.command("list")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Maximum number of results.",
)
@json_option
@click.pass_obj
def list_failed(settings: Settings, limit: int, as_json: bool) -> None:
    """Show failed jobs, the newest last.

    \b
    Example:
      backscroll failed list --limit 10
    """
    with open_connection(settings) as connection:
        registry = _registry(settings, connection)
        total = registry.get_job_count(cleanup=False)
        jobs = _describe(connection, registry.get_job_ids(-limit, -1, cleanup=False))
    if as_json:
        print_json(jobs)
        return
    out = console()
    for job in jobs:
        out.print(
            cell(job.id, "bold"),
            cell(job.operation),
            cell(local_time(job.failed_at), "dim"),
            soft_wrap=True,
        )
        out.print(cell(f"  {job.error}", "red"), soft_wrap=True)
    shown = f", the newest {len(jobs):,} shown" if len(jobs) < total else ""
    note(f"{counted(total, 'failed job')}{shown}")


@failed.command()
@_ids_argument
@_all_option
@click.pass_obj
def requeue(settings: Settings, ids: tuple[str, ...], take_all: bool) -> None:
    """Put failed jobs back at the end of the queue.

    \b
    Example:
      backscroll failed requeue 0193e1f2a3b47c5d8e9f0a1b2c3d4e5f
      backscroll failed requeue --all
    """
    with open_connection(settings) as connection:
        registry = _registry(settings, connection)
        chosen = _choose(registry, ids, take_all)
        lost = 0
        for job_id in chosen:
            try:
                _mark_late(connection, job_id)
                registry.requeue(job_id)
            except (NoSuchJobError, InvalidJobOperation, ValueError):
                lost += 1
                note(f"job {job_id} cannot be requeued: it is missing or damaged; discard it")
    click.echo(f"requeued {counted(len(chosen) - lost, 'job')}")
    if lost:
        raise click.exceptions.Exit(ExitCode.FAILED)


@failed.command()
@_ids_argument
@_all_option
@yes_option
@click.pass_obj
def discard(settings: Settings, ids: tuple[str, ...], take_all: bool, yes: bool) -> None:
    """Delete failed jobs permanently.

    \b
    Example:
      backscroll failed discard --yes 0193e1f2a3b47c5d8e9f0a1b2c3d4e5f
      backscroll failed discard --all
    """
    with open_connection(settings) as connection:
        registry = _registry(settings, connection)
        chosen = _choose(registry, ids, take_all)
        if chosen:
            confirm(f"Delete {counted(len(chosen), 'failed job')} permanently?", yes)
            with connection.pipeline() as pipeline:
                pipeline.zrem(registry.key, *chosen)
                for job_id in chosen:
                    pipeline.delete(job_key(job_id), results_key(job_id))
                pipeline.execute()
    click.echo(f"discarded {counted(len(chosen), 'job')}")


COMMANDS = (failed,)


def _mark_late(connection: redis.Redis, job_id: str) -> None:
    """Have a job not bring back what was deleted since it was sent."""
    payload: Any = connection.hget(job_key(job_id), "data")
    if payload is not None and payload.startswith(b"["):  # or RQ has compressed it, with the mark
        connection.hset(job_key(job_id), "data", mark_spooled(payload))


def _registry(settings: Settings, connection: redis.Redis) -> FailedJobRegistry:
    return FailedJobRegistry(settings.queue, connection=connection, serializer=OrjsonSerializer)


def _choose(registry: FailedJobRegistry, ids: tuple[str, ...], take_all: bool) -> list[str]:
    """The jobs named, or all, in the order in which they failed.

    Raises `click.UsageError` when neither is given, `InvalidInputError` for an unknown id.
    """
    if take_all == bool(ids):
        raise click.UsageError("name the jobs, or give --all")
    known = registry.get_job_ids(cleanup=False)
    for job_id in ids:
        if job_id not in known:
            raise InvalidInputError(
                "ID", f"{job_id[:100]!r} is not a failed job; 'backscroll failed list' shows them"
            )
    return known if take_all else list(dict.fromkeys(ids))


def _describe(connection: redis.Redis, ids: list[str]) -> list[FailedJob]:
    with connection.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hget(job_key(job_id), "description")
            pipeline.xrevrange(results_key(job_id), count=1)
        answers = pipeline.execute()
    return [
        _failed_job(job_id, description, results)
        for job_id, description, results in zip(ids, answers[::2], answers[1::2], strict=True)
    ]


def _failed_job(job_id: str, description: bytes | None, results: list[Any]) -> FailedJob:
    operation = (description or b"unknown").decode(errors="replace")
    if not results:
        return FailedJob(job_id, operation, "the error is no longer recorded", None)
    entry_id, fields = results[0]
    failed_at = from_micros(int(entry_id.partition(b"-")[0]) * 1000)
    try:
        parse_result(fields)
    except OperationRefusedError as error:
        return FailedJob(job_id, operation, str(error), failed_at)
    return FailedJob(job_id, operation, "it has succeeded since", failed_at)
