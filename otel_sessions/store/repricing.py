"""Calls that are in the store, priced anew: by the same view that prices them when they arrive.

``llm_calls`` is updated in place; the rollups get the differences as corrections, which add up like everything else.
What is to change is written down first, so that a run that was cut short can be finished.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.resources import files

from otel_sessions.base.errors import StoreUnavailableError
from otel_sessions.store.connection import Connection
from otel_sessions.store.migrate import schema_files
from otel_sessions.store.records import PriceChange

_PLACE = "/*calls priced again*/"
_PRICING = "008_model_prices.sql"
_KEY = "reinterpretAsUInt128(sipHash128(session_id, trace_id, span_id, started_at))"
_MONTHS = """
SELECT DISTINCT toDateTime(toStartOfMonth(started_at, 'UTC'), 'UTC') AS month FROM llm_calls
WHERE started_at >= {since:DateTime64(9, 'UTC')} AND started_at < {until:DateTime64(9, 'UTC')}
    AND ({session_id:Nullable(String)} IS NULL OR session_id = {session_id:Nullable(String)})
ORDER BY month
"""
_UNFINISHED = "SELECT DISTINCT run FROM repricing ORDER BY run"
_LOOK_UP = "INSERT INTO repriced SELECT key, cost_usd, cost_status, cost_source FROM repricing WHERE run = {run:String}"
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Which calls to price again, and how.

    Calls of ``session_id`` (None: all) that start in [``since``, ``until``), at the prices of their own time, or at
    those of ``at``, or as if ``provider`` had answered with ``model``. A cost that the response carried stands, unless
    the question is what it would be elsewhere or at another time.
    """

    session_id: str | None = None
    since: datetime = _FIRST
    until: datetime = _LAST
    at: datetime | None = None
    provider: str = ""
    model: str = ""
    unpriced: bool = False
    """Only calls that have no price so far."""

    @property
    def hypothetical(self) -> bool:
        """The question is what the calls would cost, not what they did cost."""
        return self.at is not None or bool(self.model)

    @property
    def parameters(self) -> dict[str, object]:
        """Of the query that reads the calls."""
        return {
            "session_id": self.session_id,
            "since": self.since,
            "until": self.until,
            "at": self.at,
            "provider": self.provider,
            "model": self.model,
            "keep": not self.hypothetical,
            "unpriced": self.unpriced,
        }


def compare(connection: Connection, again: Again) -> list[PriceChange]:
    """What each model's calls cost and would cost; writes nothing."""
    result = connection.query(_statement("reprice_compare"), again.parameters)
    return [PriceChange(*row) for row in result.result_rows]


def reprice(connection: Connection, again: Again, report: Callable[[str], object], *, resume: bool) -> None:
    """Write the new costs, month by month."""
    _finish_earlier(connection, resume=resume)
    months = connection.query(_MONTHS, again.parameters).result_rows
    for (month,) in months:
        report(f"{month:%Y-%m}")
        following = (month + timedelta(days=32)).replace(day=1)
        window = {"since": max(again.since, month), "until": min(again.until, following)}
        run = f"{time.time_ns()}-{uuid.uuid4().hex}"
        connection.command(_statement("reprice_stage"), {**again.parameters, **window, "run": run})
        _finish(connection, run)


def _finish_earlier(connection: Connection, *, resume: bool) -> None:
    unfinished = [run for (run,) in connection.query(_UNFINISHED).result_rows]
    if unfinished and not resume:
        began = datetime.fromtimestamp(int(unfinished[0].partition("-")[0]) / 1e9, UTC)
        raise StoreUnavailableError(
            f"{connection.target.shown}: a repricing that began at {began:%Y-%m-%d %H:%M:%S} UTC is not finished. If it "
            "does not run any more, finish it: otel-sessions prices reprice --resume"
        )
    for run in unfinished:
        _finish(connection, run)


def _finish(connection: Connection, run: str) -> None:
    """Apply what ``run`` staged. Doing it twice changes nothing more."""
    database = connection.target.database.replace("\\", "\\\\").replace("'", "\\'")
    connection.command("TRUNCATE TABLE repriced")
    connection.command(_LOOK_UP, {"run": run})
    assignments = ", ".join(
        f"{column} = joinGet('{database}.repriced', '{column}', {_KEY})"
        for column in ("cost_usd", "cost_status", "cost_source")
    )
    # The ids of the sessions find the parts of the table; the key finds the calls.
    connection.command(
        f"ALTER TABLE llm_calls UPDATE {assignments} WHERE session_id IN (SELECT session_id FROM repricing) "  # noqa: S608 - names of ours
        f"AND {_KEY} IN (SELECT key FROM repriced) SETTINGS mutations_sync = 2"
    )
    connection.command(
        _statement("reprice_correct"),
        {"run": run},
        settings={
            "insert_deduplication_token": f"reprice-{run}",
            "deduplicate_blocks_in_dependent_materialized_views": "1",
            "async_insert": "0",
        },
    )
    connection.command("TRUNCATE TABLE repriced")
    connection.command("DELETE FROM repricing WHERE run = {run:String}", {"run": run})


@lru_cache(maxsize=8)
def _statement(name: str) -> str:
    folder = files("otel_sessions.store").joinpath("queries")
    calls = folder.joinpath("calls_again.sql").read_text("utf-8")
    priced = _pricing().replace("FROM read_spans\n", f"FROM\n(\n{calls}\n)\n")
    statement = folder.joinpath(f"{name}.sql").read_text("utf-8").replace(_PLACE, priced)
    # The driver looks at the first word to tell what comes back.
    return re.sub(r"^(--[^\n]*\n)+", "", statement)


def _pricing() -> str:
    """The query of the view that prices spans: the one place where that is done."""
    [file] = [file for file in schema_files() if file.name == _PRICING]
    [view] = [statement for statement in file.statements if " TO typed_spans AS\n" in statement]
    return view.partition(" TO typed_spans AS\n")[2]
