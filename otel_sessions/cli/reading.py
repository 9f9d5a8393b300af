"""``list``, ``show`` and ``sql``: what the store knows."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime

import click
from rich.text import Text

from otel_sessions.base.errors import NotFoundError, OtelSessionsError
from otel_sessions.cli import text
from otel_sessions.cli.app import Run, json_option, program, store_option
from otel_sessions.cli.document import records
from otel_sessions.cli.spool import note_backlog
from otel_sessions.cli.views.listing import head, listing
from otel_sessions.cli.views.result import result, to_csv
from otel_sessions.cli.views.tree import tree
from otel_sessions.store import Reader, SessionRow

_ORDERS = {
    "started": "started_at",
    "cost": "cost_usd",
    "errors": "errors",
    "tokens": "total_tokens",
    "wall": "wall_seconds",
    "calls": "calls",
}
_FEW_CALLS = 40
STEPS_QUERY = "SELECT path, calls, cost_usd FROM path_templates"
"""What each kind of step cost so far: the query that the commands propose."""


class Moment(click.ParamType[datetime]):
    """An age or a time, see :func:`otel_sessions.cli.text.parse_moment`."""

    name = "when"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time that ``value`` names."""
        try:
            return value if isinstance(value, datetime) else text.parse_moment(str(value), datetime.now(UTC))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@program.command("list")
@click.option("--since", type=Moment(), help="Started at or after: 30m, 2h, 1d, 1w ago, or an ISO 8601 time (UTC).")
@click.option("--until", type=Moment(), help="Started before; as --since.")
@click.option("--name", help="Only sessions of this name.")
@click.option("--user", help="Only sessions of this user.")
@click.option("--order", type=click.Choice(list(_ORDERS)), default="started", show_default=True, help="Largest first.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many sessions.")
@json_option
@store_option
@click.pass_obj
def list_sessions(  # noqa: PLR0913 - one parameter per option
    run: Run,
    *,
    since: datetime | None,
    until: datetime | None,
    name: str | None,
    user: str | None,
    order: str,
    limit: int,
    as_json: bool,
) -> None:
    """List sessions, newest first."""
    with run.store() as store, run.output.working("reading sessions"):
        rows = store.reader().sessions(
            since=since, until=until, name=name, user_id=user, order_by=_ORDERS[order], limit=limit
        )
    if as_json:
        run.output.document(rows)
    elif rows:
        run.output.lines(listing(rows, datetime.now(UTC), run.output.width))
        if run.output.on_terminal:
            run.say_next(
                f"show {shlex.quote(rows[0].session_id)}", *(["list --limit 500"] if len(rows) == limit else [])
            )
    else:
        filters = any(value is not None for value in (since, until, name, user))
        run.output.note("no sessions match" if filters else f"no sessions yet; try: {run.again('demo')}")
    if not as_json:
        note_backlog(run)


@program.command()
@click.argument("session_id", metavar="ID")
@click.option("--calls/--no-calls", default=None, help=f"Show the calls. Default: up to {_FEW_CALLS} of them.")
@json_option
@store_option
@click.pass_obj
def show(run: Run, *, session_id: str, calls: bool | None, as_json: bool) -> None:
    """Show one session: its tree with cost, tokens, time, errors.

    Numbers of a step are those of its calls and of
    all below; OWN COST is that of its own calls. WALL is last end - first start, LLM the sum of the calls' durations.
    """
    with run.store() as store:
        if as_json:
            with run.output.working("reading the session"):
                run.output.document(document(store.reader(), session_id))
            return
        try:
            show_session(run, store.reader(), session_id, with_calls=calls)
        finally:
            note_backlog(run)
    if run.output.on_terminal:
        run.say_next("list", f'sql "{STEPS_QUERY}"')


def find(reader: Reader, session_id: str) -> SessionRow:
    """The session of that id. Raises :class:`NotFoundError` with the closest ids, or else names the newest."""
    try:
        return reader.session(session_id)
    except NotFoundError as error:
        if error.closest or not (newest := reader.sessions(limit=3)):
            raise
        named = ", ".join(row.session_id for row in newest)
        raise OtelSessionsError(f"{error} The newest: {named}.") from error


def document(reader: Reader, session_id: str) -> dict[str, object]:
    """The session, its steps and its calls."""
    session = find(reader, session_id)
    return {
        "session": session,
        "steps": reader.steps(session.session_id),
        "calls": reader.calls(session.session_id),
    }


def show_session(run: Run, reader: Reader, session_id: str, *, with_calls: bool | None = None) -> None:
    """Write head and tree of a session; its calls too if ``with_calls``, or if they are few and it is None."""
    with run.output.working("reading the session"):
        session = find(reader, session_id)
        steps = reader.steps(session.session_id)
        wanted = session.calls <= _FEW_CALLS if with_calls is None else with_calls
        calls = reader.calls(session.session_id) if wanted else []
        unbilled = reader.unbilled_calls(session.session_id) if session.no_usage_calls else 0
    for label, value in head(session, unbilled, datetime.now(UTC)):
        run.output.entry(Text(f"{label:<9}", "dim"), value)
    run.output.lines(["", *tree(session, steps, calls, run.output.width)])
    if with_calls is None and not wanted:
        run.output.note(f"{session.calls:,} calls; --calls shows each")


@program.command()
@click.argument("query", metavar="QUERY")
@click.option("--csv", "as_csv", is_flag=True, help="CSV with a header line on stdout.")
@click.option("--limit", type=click.IntRange(1), help="At most so many rows.")
@json_option
@store_option
@click.pass_obj
def sql(run: Run, *, query: str, as_csv: bool, limit: int | None, as_json: bool) -> None:
    """Run a read-only QUERY; - reads it from standard input.

    The views: sessions, session_steps, session_calls, session_names, path_templates, model_usage, unpriced_models.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other.")
    statement = sys.stdin.read() if query == "-" else query
    if not statement.strip():
        raise click.UsageError("The query is empty.")
    with run.store() as store, run.output.working("running the query"):
        found = store.reader().query(statement, limit=limit, nanoseconds=True)
    if as_json:
        run.output.document(records(found.columns, found.rows))
    elif as_csv:
        run.output.raw(to_csv(found))
    else:
        run.output.lines(result(found, run.output.width))
