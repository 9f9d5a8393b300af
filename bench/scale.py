"""How long a reader waits at scale: `python -m bench.scale [--calls 10_000_000] [--folder DIR] [--random-ids]`.

Makes 30 days of LLM calls by SQL, day by day, through the same tables and materialized views as the exporter's spans,
into a chDB store in a temporary folder (about 1.5 GB per 10 million calls); then the median time of each query, each
time for another day, session or name, through the reader and its Python rows. `--folder` keeps the store: the next run
with it measures again and fills nothing, also if the schema has changed since (then as it was when it was filled).
`--random-ids` uses session ids that say nothing of the time, the worst case for a look-up by time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from otel_sessions.base.errors import SchemaError
from otel_sessions.store import Store, open_store

DAYS = 30
FIRST_DAY = datetime(2026, 6, 1, tzinfo=UTC)
CALLS_PER_SESSION = 12
REST_SECONDS = 300
CHECKS_AT_REST = 6
TARGETS_MS = {"sessions of a day by cost": 50, "session_steps": 20, "session_calls": 20, "path_templates": 200}


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds: median and best on the clock, and the median of the CPU's work, which others on the machine change less."""

    median: float
    best: float
    work: float


def fill(store: Store, calls: int, *, random_ids: bool) -> None:
    """``calls`` calls in ``calls / 12`` sessions over the 30 days."""
    sql = Path(__file__).with_suffix(".sql").read_text("utf-8")
    sessions = calls // CALLS_PER_SESSION // DAYS
    began = time.perf_counter()
    for day in range(DAYS):
        start = FIRST_DAY + timedelta(days=day)
        store._connection.command(
            sql,
            {
                "day": day,
                "sessions": sessions,
                "start": start.strftime("%Y-%m-%d %H:%M:%S"),
                "random_ids": random_ids,
            },
        )
        print(f"\rday {day + 1} of {DAYS}, {time.perf_counter() - began:.0f} s", end="", flush=True)
    print()


def measure(store: Store, rounds: int) -> dict[str, Times]:
    """How long each query takes."""
    reader = store.reader()
    days = [FIRST_DAY + timedelta(days=number * 7 % DAYS) for number in range(rounds)]
    ids = [reader.sessions(since=day, until=day + timedelta(hours=1), limit=1)[0].session_id for day in days]

    def top_of(day: datetime) -> object:
        return reader.sessions(since=day, until=day + timedelta(days=1), order_by="cost_usd")

    def top_in_sql_of(day: datetime) -> object:
        return reader.query(
            "SELECT session_id, session_name, cost_usd, calls, total_tokens FROM sessions "
            f"WHERE started_at >= '{day:%Y-%m-%d}' AND started_at < '{day + timedelta(days=1):%Y-%m-%d}' "
            "ORDER BY cost_usd DESC LIMIT 50"
        )

    def steps_in_sql_of(session_id: str) -> object:
        return store._connection.query(f"SELECT * FROM session_steps WHERE session_id = '{session_id}'")

    def templates_of(number: int) -> object:
        return reader.query(f"SELECT * FROM path_templates WHERE session_name = 'workflow-{number % 10}'")

    return {
        "sessions of a day by cost": times_of(top_of, days),
        "  the same as plain SQL on the view": times_of(top_in_sql_of, days),
        "sessions, one": times_of(reader.session, ids),
        "session_steps": times_of(reader.steps, ids),
        "  the same as plain SQL": times_of(steps_in_sql_of, ids),
        "session_calls": times_of(reader.calls, ids),
        "path_templates": times_of(templates_of, list(range(rounds))),
        "session_names": times_of(lambda _: reader.query("SELECT * FROM session_names"), list(range(3))),
        "model_usage": times_of(lambda _: reader.query("SELECT * FROM model_usage"), list(range(3))),
    }


def times_of(query: Callable[[Any], object], keys: list[Any]) -> Times:
    """How long ``query`` takes over ``keys``, after one call that does not count."""
    query(keys[0])
    taken = [timed(query, key) for key in keys]
    waited, worked = zip(*taken, strict=True)
    return Times(statistics.median(waited), min(waited), statistics.median(worked))


def timed(query: Callable[[Any], object], key: object) -> tuple[float, float]:
    """Milliseconds of one call: on the clock, and of all the process's threads."""
    began, worked = time.perf_counter(), time.process_time()
    query(key)
    return (time.perf_counter() - began) * 1000, (time.process_time() - worked) * 1000


def come_to_rest(store: Store) -> None:
    """Wait until the engine has merged what it is merging: the queries are to be measured, not its background work."""
    began = time.perf_counter()
    quiet = 0
    while quiet < CHECKS_AT_REST and time.perf_counter() - began < REST_SECONDS:
        [(merges,)] = store.reader().query("SELECT count() FROM system.merges").rows
        quiet = 0 if merges else quiet + 1
        time.sleep(0.5)
    print(f"waited {time.perf_counter() - began:.0f} s for merges")


def describe(store: Store, folder: Path) -> None:
    """Rows, parts and bytes of each table."""
    table = store.reader().query(
        "SELECT table, sum(rows), count(), formatReadableSize(sum(bytes_on_disk)) FROM system.parts "
        "WHERE database = currentDatabase() AND active GROUP BY table ORDER BY sum(bytes_on_disk) DESC"
    )
    for name, count, parts, size in table.rows:
        print(f"  {name:20} {count:>12,} rows {parts:>4} parts {size:>12}")
    print(f"  {folder}: {sum(sizes(folder)) / 1e9:.2f} GB")


def sizes(folder: Path) -> Iterator[int]:
    """Bytes of each file; the engine may delete some meanwhile."""
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                yield (Path(place) / name).stat().st_size


def ready(store: Store, calls: int, *, random_ids: bool) -> None:
    """Fill the store, unless it was filled before."""
    try:
        if store.migrate():
            fill(store, calls, random_ids=random_ids)
    except SchemaError as error:
        print(f"measured as it was filled: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="keep the store here; filled only if it is empty")
    parser.add_argument("--random-ids", action="store_true")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = stack.enter_context(open_store(f"chdb://{folder.resolve()}"))
        ready(store, given.calls, random_ids=given.random_ids)
        come_to_rest(store)
        describe(store, folder)
        print(f"{'milliseconds':36} {'median':>8} {'best':>8} {'CPU':>8}   load {os.getloadavg()[0]:.1f}")
        for name, times in measure(store, given.rounds).items():
            target = f"target {TARGETS_MS[name]}" if name in TARGETS_MS else ""
            print(f"{name:36} {times.median:8.1f} {times.best:8.1f} {times.work:8.1f}   {target}")


if __name__ == "__main__":
    main()
