"""Calls and rollups made anew from the raw spans, without the spans that were stored more than once.

The raw spans go through the same schema in a database beside this one, a day at a time, and are settled there. Spans that
arrive meanwhile are noted. Then, for the moment of the swap, the store takes no spans (whoever sends them tries again),
what was noted is added, and each table gets the new one's partitions in place of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files

from otel_sessions.base.errors import StoreError, StoreUnavailableError
from otel_sessions.store import rows
from otel_sessions.store.connection import Connection
from otel_sessions.store.migrate import DATA_TABLES, migrate
from otel_sessions.store.settling import Settling

_SUFFIX = "_rebuild"
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.05
# Many spans per insert, because planning the views costs the same for few; not all, because what the views make of a
# span takes more memory than the span.
_FILL_SETTINGS = {
    "async_insert": "0",
    "max_insert_threads": "1",
    "max_block_size": "65536",
    "min_insert_block_size_rows": "65536",
    "min_insert_block_size_bytes": "0",
    "throw_on_max_partitions_per_insert_block": "0",
    "optimize_aggregation_in_order": "1",
}
# A table that has more parts than allowed refuses inserts with an error that everybody takes for a passing one.
_CLOSE = "MODIFY SETTING parts_to_throw_insert = 1, max_avg_part_size_for_too_many_parts = 0"
_OPEN = "RESET SETTING parts_to_throw_insert, max_avg_part_size_for_too_many_parts"
_CLOSED_TABLES = ("otel_traces", "settling")
_INSERTING = "SELECT query_id FROM system.processes WHERE query_kind = 'Insert' AND position(query, 'otel_traces') > 0"
_SETTLING = "SELECT max(round) AS last FROM settling HAVING last > (SELECT max(round) FROM settlements)"
_PARTITIONS = """
SELECT DISTINCT partition_id FROM system.parts
WHERE database = {database:String} AND table = {table:String} AND active AND rows > 0 ORDER BY partition_id
"""
_DAYS = "SELECT DISTINCT toDate(Timestamp, 'UTC') AS day FROM otel_traces ORDER BY day"
_SPANS = "SELECT count(), (SELECT sum(surplus) FROM duplicate_spans) FROM otel_traces"
_CALLS = "SELECT count(), sum(cost_usd) FROM llm_calls"
_ENGINE = "SELECT engine FROM system.tables WHERE database = currentDatabase() AND name = 'otel_traces'"
_KNOWN = """
SELECT toYYYYMM(started_at) AS month, uniqExact(sipHash64(trace_id, span_id))
FROM (SELECT started_at, trace_id, span_id FROM llm_calls UNION ALL SELECT started_at, trace_id, span_id FROM suppressed_calls)
GROUP BY month
"""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found and made; the numbers after are None where nothing was written."""

    spans: int
    duplicates: int
    calls_before: int
    cost_before_usd: Decimal | None
    calls_after: int | None = None
    cost_after_usd: Decimal | None = None


def look(connection: Connection) -> Rebuilt:
    """How many spans there are, and how many of them twice; writes nothing."""
    [(spans, duplicates)] = connection.query(_SPANS).result_rows
    return Rebuilt(spans, duplicates or 0, *_calls(connection))


def rebuild(connection: Connection, settling: Settling, report: Callable[[str], object], *, force: bool) -> Rebuilt:
    """See :meth:`otel_sessions.store.Store.rebuild`."""
    _check(connection)
    # A rebuild that was killed in its last moment left the store closed.
    _open(connection)
    settling.settle()
    found, known = look(connection), _known(connection)
    with _beside(connection) as new:
        report("noting what arrives")
        _wait_for(connection, _INSERTING, "inserts")
        for day in [row[0] for row in connection.query(_DAYS).result_rows]:
            report(f"{day:%Y-%m-%d}")
            _fill(connection, new, day)
        if not force:
            _check_complete(connection, known, _known(new))
        report("swapping")
        with _closed(connection):
            _wait_for(connection, _INSERTING, "inserts")
            _wait_for(connection, _SETTLING, "settling")
            _fill_late(new)
            calls = _calls(new)
            for table in DATA_TABLES:
                _swap(connection, new, table)
            _drop(connection, new.target.database)
    return replace(found, calls_after=calls[0], cost_after_usd=calls[1])


def _check(connection: Connection) -> None:
    engine = connection.query(_ENGINE).result_rows
    if engine and str(engine[0][0]).startswith("Replicated"):
        raise StoreError(f"{connection.target.shown}: tables of a cluster cannot be rebuilt yet")
    if connection.query("SELECT count() FROM repricing").result_rows[0][0]:
        raise StoreUnavailableError(
            f"{connection.target.shown}: a repricing is not finished. If it does not run any more, finish it: "
            "otel-sessions prices reprice --resume"
        )


def _check_complete(connection: Connection, known: dict[int, int], made: dict[int, int]) -> None:
    """Raw spans may be gone that calls were made of; a rebuild would lose those calls too."""
    missing = {month: calls - made.get(month, 0) for month, calls in known.items()}
    if lost := {month: calls for month, calls in missing.items() if calls > 0}:
        raise StoreError(
            f"{connection.target.shown}: {sum(lost.values())} calls that are there would be missing afterwards (months "
            f"{', '.join(map(str, sorted(lost)))}): otel_traces has no span of them any more. Nothing was changed; "
            "--force rebuilds all the same."
        )


def _known(connection: Connection) -> dict[int, int]:
    """By month, how many spans count as calls or were left out."""
    return {int(month): int(calls) for month, calls in connection.query(_KNOWN).result_rows}


@contextmanager
def _beside(connection: Connection) -> Iterator[Connection]:
    """A database beside that of ``connection``, with the same schema and prices, that notes what arrives there."""
    name = connection.target.database + _SUFFIX
    _drop(connection, name)
    new = Connection(replace(connection.target, database=name))
    try:
        migrate(new, 0, lambda _: None)
        there, here = _quoted(connection.target.database), _quoted(name)
        columns = ", ".join(_quoted(column) for column in rows.COLUMNS)
        new.command(f"INSERT INTO model_prices SELECT * FROM {there}.model_prices")  # noqa: S608 - names of ours
        new.command(f"CREATE TABLE arrivals AS {there}.otel_traces ENGINE = MergeTree ORDER BY tuple()")
        new.command(
            f"CREATE MATERIALIZED VIEW arrivals_mv TO {here}.arrivals AS SELECT {columns} FROM {there}.otel_traces"  # noqa: S608 - names of ours
        )
        yield new
    finally:
        with suppress(StoreError):
            _drop(connection, name)
        new.close()


def _fill(connection: Connection, new: Connection, day: date) -> None:
    source = f"{_quoted(connection.target.database)}.otel_traces"
    new.command(_statement("rebuild_fill", source), {"day": day}, settings=_FILL_SETTINGS)
    Settling(new).settle()
    new.command(_statement("rebuild_arrived"))


def _fill_late(new: Connection) -> None:
    new.command(_statement("rebuild_late"), settings=_FILL_SETTINGS)
    Settling(new).settle()


@contextmanager
def _closed(connection: Connection) -> Iterator[None]:
    """Nothing is inserted and nothing settled in the time of the block."""
    connection.command("INSERT INTO settling (round) VALUES (0)")
    try:
        for table in _CLOSED_TABLES:
            connection.command(f"ALTER TABLE {table} {_CLOSE}")
        yield
    finally:
        _open(connection)


def _open(connection: Connection) -> None:
    for table in _CLOSED_TABLES:
        connection.command(f"ALTER TABLE {table} {_OPEN}")
    connection.command("DELETE FROM settling WHERE round = 0")


def _wait_for(connection: Connection, query: str, what: str) -> None:
    """Return when what ``query`` finds now is not there any more."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    running = set(connection.query(query).result_rows)
    while running:
        if time.monotonic() > deadline:
            raise StoreUnavailableError(f"{connection.target.shown}: {what} did not end in {_PATIENCE_SECONDS:.0f} s")
        time.sleep(_PAUSE_SECONDS)
        running &= set(connection.query(query).result_rows)


def _swap(connection: Connection, new: Connection, table: str) -> None:
    made, there = _partitions(new, table), _partitions(connection, table)
    source = f"{_quoted(new.target.database)}.{table}"
    for partition in made:
        connection.command(f"ALTER TABLE {table} REPLACE PARTITION ID '{partition}' FROM {source}")
    for partition in there - made:
        connection.command(f"ALTER TABLE {table} DROP PARTITION ID '{partition}'")


def _partitions(connection: Connection, table: str) -> set[str]:
    found = connection.query(_PARTITIONS, {"database": connection.target.database, "table": table})
    return {str(partition) for (partition,) in found.result_rows}


def _calls(connection: Connection) -> tuple[int, Decimal | None]:
    [(calls, cost)] = connection.query(_CALLS).result_rows
    return calls, cost


def _drop(connection: Connection, database: str) -> None:
    connection.command(f"DROP DATABASE IF EXISTS {_quoted(database)} SYNC", in_database=False)


def _quoted(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


@lru_cache(maxsize=8)
def _statement(name: str, source: str = "") -> str:
    text = files("otel_sessions.store").joinpath("queries", f"{name}.sql").read_text("utf-8")
    columns = ", ".join(_quoted(column) for column in rows.COLUMNS)
    # The driver looks at the first word to tell what comes back.
    return text.partition("\n")[2].replace("/*columns*/", columns).replace("/*source*/", source)
