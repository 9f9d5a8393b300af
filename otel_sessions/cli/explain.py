"""``explain``: what a span says, which of it was read, and what became of the span."""

from __future__ import annotations

import click
from rich.text import Text

from otel_sessions.base.errors import StoreError
from otel_sessions.cli.app import Run, json_option, program, store_option
from otel_sessions.cli.text import printable
from otel_sessions.cli.views.grid import Column, table
from otel_sessions.store import AttributeRow, Outcome

_STYLES = {"used": "green", "passed over": "yellow"}


@program.command()
@click.argument("span_id", metavar="SPAN_ID")
@json_option
@store_option
@click.pass_obj
def explain(run: Run, *, span_id: str, as_json: bool) -> None:
    """Show which attribute of the span SPAN_ID (16 hex digits) fed which column, and which were ignored."""
    with run.store() as store, run.output.working("reading the span"):
        outcome, rows = store.reader().explain(span_id.strip().lower())
    if not rows and outcome is None:
        raise StoreError(f"no span {span_id!r} with attributes. The ids of calls stand in the view session_calls.")
    if as_json:
        run.output.document(rows)
    else:
        run.output.lines([_became(outcome), "", *_table(rows, run.output.width)])


def _became(outcome: Outcome | None) -> str:
    if outcome is None:
        return "no LLM call: nothing of it is counted"
    session = f" in session {printable(outcome.session_id)}" if outcome.session_id else ", in no session"
    if outcome.outcome == "counted":
        return f"counted{session}" + (f" (from: {outcome.session_source})" if outcome.session_id else "")
    other = f"; {outcome.superseded_by} counts instead" if outcome.superseded_by else ""
    return f"not counted: {outcome.outcome}{other}"


def _table(rows: list[AttributeRow], width: int) -> list[Text]:
    return table(
        [
            Column("COLUMN", [Text(row.column) for row in rows], 90, right=False, cut=12),
            Column("ATTRIBUTE", [Text(printable(row.attribute), "cyan") for row in rows], right=False, fold=20),
            Column("VALUE", [Text(printable(row.value)) for row in rows], 60, right=False, cut=16),
            Column("", [Text(row.outcome, _STYLES.get(row.outcome, "dim")) for row in rows], 95, right=False),
        ],
        width,
    )
