"""Spans that come through a real OpenTelemetry Collector: the same numbers as ours, and each exchange once.

The Collector is that of ``collector/builder.yaml`` with the configuration ``collector/config.yaml``, writing over HTTP as
the ClickHouse exporter does. OTEL_SESSIONS_COLLECTOR names its binary; ``.ci/run`` builds it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
from breaking_proxy import AFTER, PASS, breaking
from clickhouse_server import Server, running
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from recorded_spans import call, span

from otel_sessions.prices import book_version, rows_for
from otel_sessions.store import Store, open_store

COLLECTOR = os.environ.get("OTEL_SESSIONS_COLLECTOR", "")
CONFIG = Path(__file__).parent.parent / "collector" / "config.yaml"
AGENT = Path(__file__).with_name("collected_agent.py")
BOOK = [*rows_for("openai", "gpt-4o-2024-08-06"), *rows_for("openai", "gpt-4o")]
# The stand-in for a server knows no native compression; a test does not wait seconds for a batch; tests run side by side;
# the log says what was written.
FOR_TESTS = (
    "exporters::clickhouse::compress: none",
    "exporters::clickhouse::sending_queue::batch::flush_timeout: 50ms",
    "exporters::clickhouse::retry_on_failure::initial_interval: 100ms",
    "service::telemetry::metrics::level: none",
    "service::telemetry::logs::level: debug",
    "service::telemetry::logs::encoding: json",
)
VIEWS = {
    "sessions": "SELECT * FROM sessions ORDER BY session_id",
    "session_steps": "SELECT * FROM session_steps ORDER BY session_id, path",
    "session_calls": "SELECT * FROM session_calls ORDER BY trace_id, span_id",
    "suppressed_spans": "SELECT * FROM suppressed_spans ORDER BY trace_id, span_id",
    "path_templates": "SELECT * FROM path_templates ORDER BY session_name, path",
    "model_usage": "SELECT * FROM model_usage ORDER BY hour, provider, model",
}

pytestmark = pytest.mark.skipif(
    not COLLECTOR, reason="needs a Collector: OTEL_SESSIONS_COLLECTOR names the binary made from collector/builder.yaml"
)


@dataclass
class Collector:
    """A Collector that runs; ``endpoint`` takes OTLP over HTTP."""

    process: subprocess.Popen[str]
    endpoint: str

    def send(self, spans: Sequence[ReadableSpan]) -> None:
        """Hand over ``spans`` in one request and wait until the store has them."""
        assert OTLPSpanExporter(endpoint=f"{self.endpoint}/v1/traces").export(spans) is SpanExportResult.SUCCESS
        self.wait_for(len(spans))

    def wait_for(self, spans: int) -> None:
        """Return once as many more spans were written."""
        while spans > 0:
            entry = self.next("insert traces")
            spans -= entry["records"]

    def next(self, message: str) -> dict[str, Any]:
        """The next entry of the log that says ``message``."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            entry: dict[str, Any] = json.loads(line)
            if message in entry["msg"]:
                return entry
        raise AssertionError("the Collector ended")


@contextmanager
def collecting(port: int, database: str, folder: Path) -> Iterator[Collector]:
    """A Collector that writes to ``database`` of the server at ``port``, for the time of the block."""
    grpc, http = free_port(), free_port()
    environment = {
        **os.environ,
        "CLICKHOUSE_ENDPOINT": f"http://127.0.0.1:{port}",
        "CLICKHOUSE_DATABASE": database,
        "QUEUE_FOLDER": str(folder / "queue"),
        "OTLP_GRPC_ENDPOINT": f"127.0.0.1:{grpc}",
        "OTLP_HTTP_ENDPOINT": f"127.0.0.1:{http}",
    }
    options = chain.from_iterable(("--config", f"yaml:{option}") for option in FOR_TESTS)
    command = [COLLECTOR, "--config", str(CONFIG), *options]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            collector = Collector(process, f"http://127.0.0.1:{http}")
            collector.next("Everything is ready")
            yield collector
        finally:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server") / "data") as started:
        yield started


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    with prepared(server) as opened:
        yield opened


@pytest.fixture
def collector(server: Server, store: Store, tmp_path: Path) -> Iterator[Collector]:
    """A Collector that writes into ``store``."""
    with collecting(server.port, store._target.database, tmp_path) as started:
        yield started


@contextmanager
def prepared(server: Server) -> Iterator[Store]:
    with open_store(server.dsn(f"t{uuid.uuid4().hex}")) as opened:
        opened.migrate()
        opened.add_prices(BOOK, book_version())
        yield opened


def other(number: int, scope: str, **rest: Any) -> ReadableSpan:
    return call(number, scope=InstrumentationScope(scope, "1"), **rest)


def told() -> list[ReadableSpan]:
    """Two sessions: certain calls, nested ones of two instrumentations, one that has its session from the root."""
    named = {"session.id": "s2", "session.name": "support", "session.path": "/Größe%2F/ b/"}
    return [
        call(1, "s1", "/a", start=1, more={"gen_ai.response.finish_reasons": ("stop", "length")}),
        call(2, "s1", "//a/b/", start=2, cost="0.25"),
        other(11, "framework", start=3, seconds=5, trace=7),
        other(12, "sdk", start=4, seconds=2, trace=7, parent=11),
        span(21, named, start=1, seconds=9, trace=8),
        other(22, "sdk", session="", path="", start=2, trace=8, parent=21, input_tokens=2**40),
        call(23, "s2", "/c", input_tokens=None, output_tokens=None, start=3, trace=8, parent=21),
    ]


def test_the_collector_and_our_exporter_give_the_same_numbers(
    server: Server, store: Store, collector: Collector
) -> None:
    """All views say the same of the same spans, priced, and counted once after settling."""
    collector.send(told())
    store.settle()
    with prepared(server) as direct:
        direct.insert(told(), "a")
        for view, query in VIEWS.items():
            found = store.reader().query(query).rows
            assert found, view
            assert found == direct.reader().query(query).rows, view
    assert store.reader().query("SELECT sum(calls) FROM sessions").rows == [(5,)]
    assert store.reader().query("SELECT span_id, reason FROM suppressed_spans").rows == [
        ("000000000000000b", "wrapper")
    ]


def test_every_stock_column_is_what_our_exporter_writes(server: Server, store: Store, collector: Collector) -> None:
    """A tool that reads `otel_traces` sees no difference."""
    spans = [each for each in told() if each.context and each.context.span_id in {1, 2, 21}]
    collector.send(spans)
    query = "SELECT *, SessionId, SessionPath FROM otel_traces ORDER BY SpanId"
    with prepared(server) as direct:
        direct.insert(spans, "a")
        assert store.reader().query(query).rows == direct.reader().query(query).rows


@pytest.mark.parametrize(
    "active", ["ours", "openinference", "openinference genai", "ours openinference", "ours openinference genai"]
)
def test_a_program_that_exports_by_otlp_is_counted_once(store: Store, collector: Collector, active: str) -> None:
    """With and without this package in the program, whoever describes the call: one call, in its session, priced."""
    command = [sys.executable, str(AGENT), collector.endpoint, "s1", *active.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    described = len(set(active.split()))
    collector.wait_for(described + (2 if "ours" in active else 1))
    store.settle()
    [row] = (
        store.reader()
        .query(
            "SELECT session_name, calls, input_tokens, cached_input_tokens, output_tokens, toFloat64(cost_usd), cost_status FROM sessions WHERE session_id = 's1'"
        )
        .rows
    )
    assert row == ("support", 1, 100, 40, 20, 0.0004, "complete")
    assert store.reader().query("SELECT path, own_calls FROM session_steps WHERE own_calls > 0").rows == [
        ("/triage", 1)
    ]


def test_a_batch_whose_reply_is_lost_counts_once(server: Server, store: Store, tmp_path: Path) -> None:
    """The Collector sends it again, without any token: the same rows in one block are known by their hash."""
    decisions = chain([AFTER, AFTER], repeat(PASS))
    with (
        breaking(server.port, lambda: next(decisions)) as proxy,
        collecting(proxy.port, store._target.database, tmp_path) as collector,
    ):
        collector.send(told())
        assert proxy.seen[AFTER] == 2
        assert proxy.seen[PASS] == 1
    assert store.reader().query("SELECT count() FROM otel_traces").rows == [(7,)]
    assert store.reader().query("SELECT sum(calls), sum(input_tokens) FROM sessions").rows == [(5, 300 + 2**40)]


def test_what_the_store_did_not_take_outlives_the_collector(server: Server, store: Store, tmp_path: Path) -> None:
    """The queue is on disk: a Collector that is killed while ClickHouse is away sends it after its next start."""
    with (
        breaking(server.port, lambda: PASS) as proxy,
        collecting(proxy.port, store._target.database, tmp_path) as collector,
    ):
        proxy.away = True
        sent = OTLPSpanExporter(endpoint=f"{collector.endpoint}/v1/traces").export(told())
        assert sent is SpanExportResult.SUCCESS
        collector.next("Exporting failed. Will retry")
    with collecting(server.port, store._target.database, tmp_path) as collector:
        collector.wait_for(7)
    assert store.reader().query("SELECT sum(calls) FROM sessions").rows == [(5,)]


def test_what_the_collector_delivers_in_other_batches_is_found_and_put_right(
    store: Store, collector: Collector
) -> None:
    """Rows that arrive again in another block are not known by their hash: the view has them, a rebuild removes them."""
    collector.send(told())
    once = {view: store.reader().query(query).rows for view, query in VIEWS.items()}
    collector.send(told()[:3])
    assert {view: store.reader().query(query).rows for view, query in VIEWS.items()} != once
    assert store.reader().query("SELECT span_id, copies FROM duplicate_spans ORDER BY span_id").rows == [
        ("0000000000000001", 2),
        ("0000000000000002", 2),
        ("000000000000000b", 2),
    ]
    store.rebuild()
    assert {view: store.reader().query(query).rows for view, query in VIEWS.items()} == once
    collector.send([call(99, "s9")])
    assert store.reader().query("SELECT calls FROM sessions WHERE session_id = 's9'").rows == [(1,)]
