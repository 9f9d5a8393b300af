"""``migrate``, ``settle``, ``rebuild`` and ``doctor``: the schema, what counts, and whether everything is in its place."""

from __future__ import annotations

import signal
import sys
import threading
from datetime import UTC, datetime

import click
from rich.text import Text

from otel_sessions.base.errors import StoreUnavailableError
from otel_sessions.base.settings import masked
from otel_sessions.cli.app import Run, json_option, program, store_option
from otel_sessions.cli.checks import checks
from otel_sessions.cli.document import compact
from otel_sessions.cli.text import count, money, printable
from otel_sessions.store import Rebuilt, Settled, Store

_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "bold red")}


@program.command()
@click.option("--dry-run", is_flag=True, help="Only say which files would be applied.")
@store_option
@click.pass_obj
def migrate(run: Run, *, dry_run: bool) -> None:
    """Create the schema or bring it up to date. Running it again changes nothing."""
    where = masked(run.settings.store_dsn)
    with run.store(create=not dry_run) as store:
        if dry_run:
            pending = [entry.file for entry in store.schema_state() if entry.state == "pending"]
            run.output.lines([f"would apply {printable(file)}" for file in pending] or [f"up to date: {where}"])
            return
        with run.output.working(f"migrating {where}"):
            store.migrate(run.settings.retention_days, lambda file: run.output.lines([f"applying {printable(file)}"]))
    run.output.lines([f"up to date: {where}"])


@program.command()
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Go on until stopped, with this pause; says what changed.",
)
@json_option
@store_option
@click.pass_obj
def settle(run: Run, *, every: float | None, as_json: bool) -> None:
    """Decide which spans of other instrumentations count, and in which session.

    Programs with this package do it whenever they write or read. A store that Collectors fill and that is read with
    SQL alone needs it beside them: without, a call that two instrumentations describe counts twice. Running it twice,
    or in several places at once, changes nothing. With --every, --json writes one document per line.
    """
    with run.store() as store:
        if every is None:
            with run.output.working(f"settling {masked(run.settings.store_dsn)}"):
                changed = store.settle()
            if as_json:
                run.output.document(changed)
            else:
                run.output.lines([_settled(changed)])
            return
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        signal.signal(signal.SIGINT, lambda *_: stopped.set())
        _settle_until(run, store, stopped, every, as_json=as_json)


def _settle_until(run: Run, store: Store, stopped: threading.Event, every: float, *, as_json: bool) -> None:
    """Settle again and again. A store that is away is waited for."""
    failed = ""
    while True:
        try:
            if changed := store.settle():
                line = (
                    compact(changed) if as_json else f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  {_settled(changed)}"
                )
                run.output.raw(line)
                sys.stdout.flush()
            failed = ""
        except StoreUnavailableError as error:
            if str(error) != failed:
                failed = str(error)
                run.output.error(failed)
        if stopped.wait(every):
            return


def _settled(changed: Settled) -> str:
    if not changed:
        return "nothing to change"
    return (
        f"calls: {count(changed.left_out)} left out, {count(changed.moved)} moved, {count(changed.put_back)} put back"
    )


@program.command()
@click.option("--dry-run", is_flag=True, help="Only say what there is; write nothing.")
@click.option("--force", is_flag=True, help="Also if calls are lost whose raw spans are gone.")
@json_option
@store_option
@click.pass_obj
def rebuild(run: Run, *, dry_run: bool, force: bool, as_json: bool) -> None:
    """Make calls and rollups anew from the raw spans, without spans that were stored twice.

    A Collector delivers at least once: what it sent again after a restart counts twice until then. The view
    duplicate_spans lists it. Needs room for a second copy of everything; spans may arrive meanwhile. Calls get the
    prices that are in the book now, your own included. What was cut short is simply started again.
    """
    with run.store() as store, run.output.working("looking for duplicates") as now:
        found = store.look_for_duplicates() if dry_run else store.rebuild(now, force=force)
    if as_json:
        run.output.document(found)
    else:
        run.output.lines(_rebuilt(found))


def _rebuilt(found: Rebuilt) -> list[str]:
    lines = [
        f"{count(found.spans)} spans, {count(found.duplicates)} of them stored again",
        f"{count(found.calls_before)} calls, {money(found.cost_before_usd)}",
    ]
    if found.calls_after is None:
        return lines
    lines[1] += " before"
    return [*lines, f"{count(found.calls_after)} calls, {money(found.cost_after_usd)} after"]


@program.command()
@json_option
@store_option
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Check installation, settings, store and schema; say what to mend. Exits 1 if something fails."""
    run: Run = ctx.obj
    with run.output.working("checking"):
        found = checks(run)
    if as_json:
        run.output.document(found)
    else:
        for check in found:
            run.output.entry(Text.assemble(_MARKS[check.state], f" {check.name:<15}"), Text(printable(check.found)))
            if check.fix:
                run.output.entry(Text(" " * 17), Text(printable(check.fix), "yellow"))
    ctx.exit(1 if any(check.state == "fail" for check in found) else 0)
