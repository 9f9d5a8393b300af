"""``settle`` and ``rebuild`` as someone types them who runs Collectors and reads with SQL alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from clickhouse_server import running
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from recorded_spans import call

from otel_sessions.base.group import grouped
from otel_sessions.cli.app import program
from otel_sessions.store import Store, open_store, rows

SUMS = "SELECT calls, input_tokens FROM sessions WHERE session_id = 's1'"


def other(number: int, scope: str, **rest: Any) -> ReadableSpan:
    return call(number, scope=InstrumentationScope(scope, "1"), **rest)


NESTED = (other(1, "framework", seconds=4), other(2, "sdk", start=1, parent=1))


def arrive(store: Store, *spans: ReadableSpan) -> None:
    """As from a Collector: nothing but an INSERT."""
    store._connection.insert("otel_traces", rows.COLUMNS, [rows.encode(grouped(spans))], {"async_insert": "0"})


def read(store: Store) -> list[tuple[int, int]]:
    """As from Grafana: nothing but a SELECT."""
    return [(calls, tokens) for calls, tokens in store._connection.query(SUMS).result_rows]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(program, arguments)


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    return f"chdb://{tmp_path}/store"


@pytest.fixture
def store(dsn: str) -> Iterator[Store]:
    with open_store(dsn) as opened:
        opened.migrate()
        yield opened


def test_settle_counts_once_what_two_instrumentations_describe(dsn: str, store: Store) -> None:
    """Plain SQL counts twice until then; the command says what it changed, and the second time that there is nothing."""
    arrive(store, *NESTED)
    assert read(store) == [(2, 200)]
    assert json.loads(invoke("settle", "--json", "--store", dsn).stdout) == {"left_out": 1, "moved": 0, "put_back": 0}
    assert read(store) == [(1, 100)]
    assert invoke("settle", "--store", dsn).stdout == "nothing to change\n"


def test_settle_every_goes_on_until_it_is_stopped(tmp_path: Path) -> None:
    """A line per round that changed something, as JSON for machines; what arrives later is settled; SIGTERM ends it."""
    with running(tmp_path / "data") as server, open_store(server.dsn("otel")) as store:
        store.migrate()
        arrive(store, *NESTED)
        command = [
            sys.executable,
            "-m",
            "otel_sessions.cli",
            "settle",
            "--every",
            "0.1",
            "--json",
            "--store",
            server.dsn("otel"),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["left_out"] == 1
            arrive(store, other(3, "inner", start=1.5, seconds=0.5, parent=2))
            assert json.loads(process.stdout.readline())["left_out"] == 1
            process.terminate()
            assert process.wait(30) == 0
            assert process.stdout.read() == ""
        assert read(store) == [(1, 100)]


def test_rebuild_says_what_it_found_and_made(dsn: str, store: Store) -> None:
    """``--dry-run`` only counts; the rebuild leaves each span once, and says the numbers before and after."""
    for _ in range(2):
        arrive(store, call(1, cost="0.5"), call(2, cost="0.25"))
        arrive(store, call(3, "s2", cost="1"))
    arrive(store, call(2, cost="0.25"))
    expected = {"spans": 4, "duplicates": 1, "calls_before": 4, "cost_before_usd": 2}
    only_looked = json.loads(invoke("rebuild", "--dry-run", "--json", "--store", dsn).stdout)
    assert only_looked == {**expected, "calls_after": None, "cost_after_usd": None}
    assert read(store) == [(3, 300)]
    done = invoke("rebuild", "--store", dsn)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "4 spans, 1 of them stored again",
        "4 calls, $2.000000 before",
        "3 calls, $1.750000 after",
    ]
    assert read(store) == [(2, 200)]


def test_rebuild_of_a_store_that_is_not_there_exits_1(tmp_path: Path) -> None:
    """Nothing is made by it."""
    assert invoke("rebuild", "--store", f"chdb://{tmp_path}/nowhere").exit_code == 1
    assert not (tmp_path / "nowhere").exists()
