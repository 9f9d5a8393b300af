"""``migrate`` and ``doctor``: the schema, and whether everything is in its place."""

from __future__ import annotations

import click
from rich.text import Text

from otel_sessions.base.settings import masked
from otel_sessions.cli.app import Run, json_option, program, store_option
from otel_sessions.cli.checks import checks
from otel_sessions.cli.text import printable

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
