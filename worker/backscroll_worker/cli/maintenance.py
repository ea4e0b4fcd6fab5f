"""The command `compact`."""

from __future__ import annotations

import click

from backscroll_worker.cli.output import counted, json_option, note, print_json, size
from backscroll_worker.cli.sending import ask_worker, timeout_option
from backscroll_worker.settings import Settings


@click.command()
@timeout_option
@json_option
@click.pass_obj
def compact(settings: Settings, timeout_seconds: float, as_json: bool) -> None:
    """Compact the store.

    The worker does it: merges the search index and gives free space back.

    \b
    Example:
      backscroll compact
    """
    report = ask_worker(settings, timeout_seconds, "compacting", lambda p: p.compact())
    if as_json:
        print_json(report)
    else:
        click.echo(
            f"compacted in {report.seconds:.1f} s: {size(report.bytes_before)} before, "
            f"{size(report.bytes_after)} after; {counted(report.op_ids_purged, 'op id')} dropped, "
            f"{counted(report.corrupt_lines, 'corrupt line')} set aside"
        )
    if report.log_is_held:
        note(
            "another program reads the store and keeps SQLite's log, so little was given back; "
            "end it ('backscroll check' on the store's host names it), then run "
            "'backscroll compact' again"
        )


COMMANDS = (compact,)
