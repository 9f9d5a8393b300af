"""``spool``: the batches on this machine's disk that the store does not have yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from logging import WARNING, LogRecord

import click
from rich.text import Text

from otel_sessions.assembly import StoreSender, spool_of
from otel_sessions.base.errors import OtelSessionsError, SpoolError
from otel_sessions.base.guard import logger
from otel_sessions.base.settings import masked
from otel_sessions.cli import text
from otel_sessions.cli.app import Run, json_option, program, store_option
from otel_sessions.delivery import DeadBatch, Spool, SpoolPlace, SpoolStatus, push
from otel_sessions.store import open_store


@dataclass(frozen=True, slots=True)
class Backlog:
    """Spans that the store does not have yet: whose they are, and the command to type. ``is_left``: it takes that to send them."""

    found: str
    command: str
    is_left: bool


def backlog(run: Run) -> Backlog | None:
    """What waits in the spool of the store in force; None if nothing does. Creates nothing.

    Raises :class:`SpoolError` if the spool cannot be read.
    """
    place = spool_of(run.settings)
    try:
        kept = _status(place) if place is not None else None
    except OSError as error:
        raise SpoolError(str(error)) from error
    if kept is None or not kept.spans:
        return None
    waiting = f"{text.count(kept.spans)} spans for this store wait on disk"
    if not kept.orphaned_spans:
        return Backlog(
            f"{waiting}; running processes send them by themselves", run.again("spool status"), is_left=False
        )
    if kept.orphaned_spans < kept.spans:
        ended = f"{text.count(kept.orphaned_spans)} left by ended processes; running ones send the rest by themselves"
        return Backlog(f"{waiting}, {ended}", run.again("spool push"), is_left=True)
    return Backlog(f"{waiting}, left by ended processes", run.again("spool push"), is_left=True)


def note_backlog(run: Run) -> None:
    """One note if spans wait that the answer lacks. A spool that cannot be read is none of the reader's business."""
    with suppress(SpoolError):
        if waiting := backlog(run):
            run.output.note(f"{waiting.found}: {waiting.command}")


@program.group()
def spool() -> None:
    """Look after the batches on disk that the store does not have yet."""


@spool.command()
@json_option
@store_option
@click.pass_obj
def status(run: Run, *, as_json: bool) -> None:
    """Show what waits on disk, whose it is, and what the store refused for good."""
    found = _status(_place(run))
    if as_json:
        run.output.document(found)
        return
    for label, value in _entries(found):
        run.output.entry(Text(f"{label:<9}", "dim"), Text(text.printable(value)))
    if found.orphaned_spans:
        run.output.note(f"send what ended processes left: {run.again('spool push')}")


@spool.command("push")
@store_option
@click.pass_obj
def push_command(run: Run) -> None:
    """Send what ended processes left. Running processes send theirs themselves. Exits 1 if something stays."""
    place = _place(run)
    dsn = run.settings.store_dsn
    with open_store(dsn) as store, _unwarned(), run.output.working(f"sending to {masked(dsn)}") as now:
        sender = StoreSender(store, run.settings)
        result = push(
            place,
            sender.send,
            confirm=sender.confirm,
            report=lambda so_far: now(f"{text.count(so_far.recovered)} spans sent"),
        )
    left = _status(place)
    run.output.lines([f"{result.recovered} spans sent, {left.orphaned_spans} left, {left.dead_spans} refused for good"])
    if left.orphaned_spans:
        raise OtelSessionsError(left.last_error or "the store did not take them")


@contextmanager
def _unwarned() -> Iterator[None]:
    """Without the warnings meant for a host: the command itself says what failed, and does not go on retrying."""
    logger.addFilter(_is_no_warning)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_warning)


def _is_no_warning(record: LogRecord) -> bool:
    return record.levelno > WARNING


@spool.group()
def dead() -> None:
    """Look after batches that the store refused for good."""


@dead.command("list")
@json_option
@store_option
@click.pass_obj
def list_dead(run: Run, *, as_json: bool) -> None:
    """List the batches that were refused, oldest first, with the reason."""
    batches = _dead(run)
    if as_json:
        run.output.document(batches)
        return
    for batch in batches:
        label = f"{batch.id:>6}  {text.count(batch.spans):>6} spans  {text.moment(batch.died)}  "
        run.output.entry(Text(label), Text(text.printable(batch.reason)))
    if not batches:
        run.output.note("no batch was refused")


@dead.command()
@click.argument("ids", nargs=-1, type=int, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Every one of them.")
@store_option
@click.pass_obj
def retry(run: Run, *, ids: Sequence[int], everything: bool) -> None:
    """Put batches back among those to send, after what they were refused for was mended."""
    chosen = _chosen(_dead(run), ids, everything=everything)
    with closing(Spool(_place(run))) as kept:
        for batch in chosen:
            kept.retry(batch)
        kept.release()
    run.output.lines([f"{len(chosen)} batches wait again; send them now: {run.again('spool push')}"])


@dead.command()
@click.argument("ids", nargs=-1, type=int, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Every one of them.")
@store_option
@click.pass_obj
def drop(run: Run, *, ids: Sequence[int], everything: bool) -> None:
    """Delete batches for good."""
    chosen = _chosen(_dead(run), ids, everything=everything)
    with closing(Spool(_place(run))) as kept:
        for batch in chosen:
            kept.drop(batch)
    run.output.lines([f"{sum(batch.spans for batch in chosen)} spans in {len(chosen)} batches deleted"])


def _place(run: Run) -> SpoolPlace:
    place = spool_of(run.settings)
    if place is None:
        shown = masked(run.settings.store_dsn)
        raise OtelSessionsError(
            f"{shown} has no spool: nothing for it waits on disk. OTEL_SESSIONS_SPOOL=on makes one."
        )
    return place


def _status(place: SpoolPlace) -> SpoolStatus:
    with closing(Spool(place)) as kept:
        return kept.status()


def _dead(run: Run) -> tuple[DeadBatch, ...]:
    place = _place(run)
    if not place.path.exists():
        return ()
    with closing(Spool(place)) as kept:
        return kept.dead()


def _chosen(batches: Sequence[DeadBatch], ids: Sequence[int], *, everything: bool) -> list[DeadBatch]:
    if bool(ids) == everything:
        raise click.UsageError("Give ids, or --all.")
    known = {batch.id: batch for batch in batches}
    if unknown := [number for number in ids if number not in known]:
        raise OtelSessionsError(f"no refused batch {unknown[0]}. See: otel-sessions spool dead list")
    return [known[number] for number in ids] if ids else list(batches)


def _entries(found: SpoolStatus) -> list[tuple[str, str]]:
    now = datetime.now(UTC)
    waiting = f"{found.spans:,} spans in {found.batches:,} batches"
    if found.oldest is not None:
        waiting += f", the oldest from {text.ago(found.oldest, now)}"
    entries = [
        ("store", found.store),
        ("file", found.path),
        ("size", f"{found.bytes_used / 1e6:,.1f} of {found.max_bytes / 1e6:,.1f} MB"),
        ("waiting", waiting),
        ("of ended", f"{found.orphaned_spans:,} spans; {found.processes} running processes use the spool"),
        ("refused", f"{found.dead_spans:,} spans in {found.dead_batches:,} batches"),
    ]
    return [*entries, ("failure", found.last_error)] if found.last_error else entries
