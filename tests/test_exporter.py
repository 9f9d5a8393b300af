"""ClickHouseSpanExporter in anyone's own tracer provider, with the SDK's own processors, on a real engine."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import pytest
from breaking_proxy import BreakingProxy, breaking
from clickhouse_server import Server, running
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from recorded_spans import call

from otel_sessions import ClickHouseSpanExporter
from otel_sessions.base.guard import counters
from otel_sessions.store import Store, open_store

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def proxy(server: Server) -> Iterator[BreakingProxy]:
    with breaking(server.port, lambda: "pass") as proxy:
        yield proxy


@pytest.fixture
def direct(server: Server) -> str:
    """A database of the test's own."""
    return server.dsn()


@pytest.fixture
def store(direct: str) -> Iterator[Store]:
    """The store past the proxy."""
    with open_store(direct) as store:
        store.migrate()
        yield store


@pytest.fixture
def dsn(direct: str, server: Server, proxy: BreakingProxy) -> str:
    """The store through the proxy."""
    return direct.replace(str(server.port), str(proxy.port))


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SESSIONS_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("OTEL_SESSIONS_BATCH_AGE_SECONDS", "0.05")


def spans(number: int) -> list[ReadableSpan]:
    return [call(one, session=str(one)) for one in range(number)]


def stored(store: Store) -> int:
    [(rows,)] = store.reader().query("SELECT count() FROM llm_calls").rows
    return int(rows)


def test_what_was_exported_while_the_store_is_away_is_safe_and_arrives(
    dsn: str, proxy: BreakingProxy, store: Store
) -> None:
    """SUCCESS means on disk: an exporter that ends without the store loses nothing, the next one sends it."""
    proxy.away = True
    exporter = ClickHouseSpanExporter(dsn)
    assert exporter.export(spans(20)) is SUCCESS
    assert exporter.force_flush(200) is False
    exporter.shutdown()
    assert stored(store) == 0
    proxy.away = False
    later = ClickHouseSpanExporter(dsn)
    assert later.export(spans(30)[20:]) is SUCCESS
    assert later.force_flush(30_000)
    # A flush is about its own spans: those of the exporter that ended may come after them.
    until = time.monotonic() + 30
    while later._delivery.result().recovered < 20 and time.monotonic() < until:
        later.force_flush(100)
    later.shutdown()
    assert stored(store) == 30


def test_many_exports_are_few_inserts(
    dsn: str, proxy: BreakingProxy, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's batch processor exports 512 spans at a time; the store gets what gathers as one insert."""
    monkeypatch.setenv("OTEL_SESSIONS_BATCH_AGE_SECONDS", "5")
    exporter = ClickHouseSpanExporter(dsn)
    all_spans = spans(300)
    for start in range(0, 300, 10):
        assert exporter.export(all_spans[start : start + 10]) is SUCCESS
    assert exporter.force_flush(30_000)
    exporter.shutdown()
    assert stored(store) == 300
    assert proxy.seen["pass"] <= 4


def test_a_reader_of_the_same_process_sees_what_was_exported() -> None:
    """Right after export, through the stock processors."""
    dsn = f"chdb://memory?database=t{uuid.uuid4().hex}"
    exporter = ClickHouseSpanExporter(dsn)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with open_store(dsn) as store:
        for number in range(3):
            provider.get_tracer("tests").start_span("x").end()
            assert store.reader().query("SELECT count() FROM otel_traces").rows[0] == (number + 1,)
        provider.shutdown()


def test_a_reader_does_not_wait_for_a_store_that_takes_nothing(dsn: str, proxy: BreakingProxy, store: Store) -> None:
    """What is on the way stays there; the reader sees what has arrived."""
    exporter = ClickHouseSpanExporter(dsn)
    store.expect(exporter._delivery.arrive)
    assert exporter.export(spans(1)) is SUCCESS
    assert stored(store) == 1
    proxy.away = True
    assert exporter.export(spans(2)[1:]) is SUCCESS
    assert stored(store) == 1
    assert exporter._delivery.result().pending_disk == 1
    proxy.away = False
    exporter.shutdown()


def test_an_export_by_itself_is_in_a_local_store_when_it_returns(tmp_path: Path) -> None:
    """Whoever reads it, with whatever client."""
    exporter = ClickHouseSpanExporter(f"chdb://{tmp_path}/store")
    assert exporter.export(spans(3)) is SUCCESS
    client = clickhouse_connect.get_client(interface="chdb", path=f"{tmp_path}/store")
    assert client.query("SELECT count() FROM otel.llm_calls").result_rows == [(3,)]
    client.close()
    exporter.shutdown()


@pytest.mark.parametrize("ending", ["force_flush", "shutdown"])
def test_after_a_flush_plain_sql_sees_each_exchange_once(tmp_path: Path, ending: str) -> None:
    """Two instrumentations describe one request, in exports that are too close together to settle after each."""
    exporter = ClickHouseSpanExporter(f"chdb://{tmp_path}/store")
    for number, scope in enumerate(("openinference", "traceloop"), start=1):
        more = {"gen_ai.response.id": "r1"}
        told = call(number, start=number / 10, more=more, scope=InstrumentationScope(scope))
        assert exporter.export([told]) is SUCCESS
    getattr(exporter, ending)()
    client = clickhouse_connect.get_client(interface="chdb", path=f"{tmp_path}/store")
    assert client.query("SELECT count() FROM otel.otel_traces").result_rows == [(2,)]
    assert client.query("SELECT count() FROM otel.session_calls").result_rows == [(1,)]
    assert client.query("SELECT calls, input_tokens FROM otel.sessions").result_rows == [(1, 100)]
    client.close()
    exporter.shutdown()


SHORT = """
import sys
sys.path.insert(0, {tests!r})
from recorded_spans import call
from otel_sessions import ClickHouseSpanExporter
exporter = ClickHouseSpanExporter({dsn!r})
for number in range(1, 4):
    exporter.export([call(number)])
"""


def test_a_local_store_has_the_spans_of_a_program_that_just_ends(tmp_path: Path) -> None:
    """Nobody flushed and nobody shut down: the next process finds them in the store."""
    dsn = f"chdb://{tmp_path}/store"
    program = SHORT.format(tests=str(Path(__file__).parent), dsn=dsn)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    count = "from otel_sessions.store import open_store; print(open_store({!r}).reader().query({!r}).rows)"
    reading = count.format(dsn, "SELECT count() FROM llm_calls")
    read = subprocess.run([sys.executable, "-c", reading], check=True, timeout=60, capture_output=True, text=True)
    assert read.stdout == "[(3,)]\n"


def test_many_exports_into_a_local_store_are_few_inserts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's batch processor exports 512 spans at a time, which a planned insert of its own each would make slow."""
    monkeypatch.setenv("OTEL_SESSIONS_BATCH_AGE_SECONDS", "5")
    dsn = f"chdb://memory?database=t{uuid.uuid4().hex}"
    exporter = ClickHouseSpanExporter(dsn)
    for number in range(1, 201):
        assert exporter.export([call(number)]) is SUCCESS
    with open_store(dsn) as store:
        [(rows, parts)] = store.reader().query("SELECT sum(rows), count() FROM system.parts WHERE database = currentDatabase() AND table = 'otel_traces' AND level = 0").rows  # fmt: skip
        assert (rows, parts < 20) == (200, True)
        exporter.shutdown()


def test_without_a_spool_failure_means_lost(dsn: str, proxy: BreakingProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing keeps the spans: export waits for the store a while, then says FAILURE and counts them."""
    monkeypatch.setenv("OTEL_SESSIONS_SPOOL", "off")
    monkeypatch.setattr("otel_sessions.delivery.delivery._PATIENCE_SECONDS", 0.3)
    exporter = ClickHouseSpanExporter(dsn)
    assert exporter.export(spans(2)) is SUCCESS
    proxy.away = True
    before = counters().get("dropped.export", 0)
    assert exporter.export(spans(5)) is FAILURE
    assert counters()["dropped.export"] == before + 1
    exporter.shutdown()
    assert exporter.export(spans(1)) is FAILURE


def test_a_refusal_without_a_spool_is_a_failure(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that will never take the spans is not waited for."""
    monkeypatch.setenv("OTEL_SESSIONS_SPOOL", "off")
    monkeypatch.setenv("OTEL_SESSIONS_MIGRATE", "false")
    exporter = ClickHouseSpanExporter(server.dsn())
    assert exporter.export(spans(1)) is FAILURE
    exporter.shutdown()


def test_a_store_in_memory_that_refuses_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export by itself knows what became of its spans."""
    monkeypatch.setenv("OTEL_SESSIONS_MIGRATE", "false")
    exporter = ClickHouseSpanExporter(f"chdb://memory?database=t{uuid.uuid4().hex}")
    assert exporter.export(spans(1)) is FAILURE
    exporter.shutdown()


def test_an_empty_export_and_odd_spans_do_no_harm(dsn: str, store: Store) -> None:
    """Nothing to do is SUCCESS; a span that cannot be encoded costs itself alone and is told."""
    exporter = ClickHouseSpanExporter(dsn)
    assert exporter.export([]) is SUCCESS
    odd = ReadableSpan("odd", start_time="yesterday")  # type: ignore[arg-type]
    assert exporter.export([odd, *spans(2)]) is FAILURE
    assert exporter.force_flush(30_000)
    exporter.shutdown()
    assert stored(store) == 2


def test_the_batch_processor_delivers_a_thousand_spans_once(dsn: str, store: Store) -> None:
    """With the stock BatchSpanProcessor and its defaults, everything that fits its queue is stored once."""
    exporter = ClickHouseSpanExporter(dsn)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    for number in range(1500):
        provider.get_tracer("tests").start_span(str(number)).end()
    provider.shutdown()
    rows = store.reader().query("SELECT count(), uniqExact(SpanName) FROM otel_traces").rows
    assert [tuple(row) for row in rows] == [(1500, 1500)]
