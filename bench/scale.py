"""How long a reader waits at scale: `python -m bench.scale [--calls 10_000_000] [--folder DIR] [--random-ids]`.

Makes 30 days of LLM calls by SQL, day by day, through the same tables and materialized views as the exporter's spans,
into a chDB store in a temporary folder (about 1.1 GB per 10 million calls); then the median time of each query, each
time for another day, session or name, through the reader and its Python rows. `--folder` keeps the store for the next
run; `--random-ids` uses session ids that say nothing of the time, the worst case for a look-up by time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from otel_sessions.store import Store, open_store

DAYS = 30
FIRST_DAY = datetime(2026, 6, 1, tzinfo=UTC)
CALLS_PER_SESSION = 12
TARGETS_MS = {"sessions of a day by cost": 50, "session_steps": 20, "session_calls": 20, "path_templates": 200}


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


def measure(store: Store, rounds: int) -> dict[str, float]:
    """Median milliseconds of each query."""
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

    def templates_of(number: int) -> object:
        return reader.query(f"SELECT * FROM path_templates WHERE session_name = 'workflow-{number % 10}'")

    return {
        "sessions of a day by cost": median(top_of, days),
        "  the same as plain SQL on the view": median(top_in_sql_of, days),
        "sessions, one": median(reader.session, ids),
        "session_steps": median(reader.steps, ids),
        "session_calls": median(reader.calls, ids),
        "path_templates": median(templates_of, list(range(rounds))),
        "session_names": median(lambda _: reader.query("SELECT * FROM session_names"), list(range(3))),
        "model_usage": median(lambda _: reader.query("SELECT * FROM model_usage"), list(range(3))),
    }


def median(query: Callable[[Any], object], keys: list[Any]) -> float:
    """Median milliseconds of ``query`` over ``keys``, after one call that does not count."""
    query(keys[0])
    return statistics.median(timed(query, key) for key in keys)


def timed(query: Callable[[Any], object], key: object) -> float:
    """Milliseconds of one call."""
    began = time.perf_counter()
    query(key)
    return (time.perf_counter() - began) * 1000


def describe(store: Store, folder: Path) -> None:
    """Rows, parts and bytes of each table."""
    table = store.reader().query(
        "SELECT table, sum(rows), count(), formatReadableSize(sum(bytes_on_disk)) FROM system.parts "
        "WHERE database = currentDatabase() AND active GROUP BY table ORDER BY sum(bytes_on_disk) DESC"
    )
    for name, count, parts, size in table.rows:
        print(f"  {name:20} {count:>12,} rows {parts:>4} parts {size:>12}")
    used = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"  {folder}: {used / 1e9:.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="keep the store here; filled if it is empty")
    parser.add_argument("--random-ids", action="store_true")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = stack.enter_context(open_store(f"chdb://{folder.resolve()}"))
        if store.migrate():
            fill(store, given.calls, random_ids=given.random_ids)
        describe(store, folder)
        for name, milliseconds in measure(store, given.rounds).items():
            target = f"target {TARGETS_MS[name]} ms" if name in TARGETS_MS else ""
            print(f"{name:38} {milliseconds:8.1f} ms  {target}")


if __name__ == "__main__":
    main()
