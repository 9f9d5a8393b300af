"""Spans per second into chDB: `python -m bench.export [--spans N] [--batch N] [--kind calls|steps|others]`.

Spans with 20 attributes, made by the SDK, go several ways that take turns in one process, so that each sees the same
state of the machine. They are LLM calls in sessions (`calls`), spans in sessions that are none (`steps`: tools,
databases), or spans outside sessions (`others`). Ways:

- OTLP: what the OTLP exporter does before it sends anything (encode_spans and SerializeToString)
- exporter: ClickHouseSpanExporter.export and at the end force_flush, with all that it does: cut, price, encode, spool,
  insert into the store with all its views; until the rows are acknowledged
- exporter 512: the same with the 512 spans at a time that the SDK's batch processor exports
- rows: our encoding alone
- bare, all: an encoded batch into an otel_traces without any materialized view, and into the store as it is

Printed are medians over the rounds, and the ratios.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AnyValue

from otel_sessions import ClickHouseSpanExporter
from otel_sessions.store import Store, open_store

ATTRIBUTES = 20
CALLS_PER_SESSION = 12
PATHS = ("/triage", "/triage/classify", "/research", "/research/search", "/research/read", "/respond")


def spans_of(kind: str, count: int) -> tuple[ReadableSpan, ...]:
    """Spans with 20 attributes each; in sessions of 12 at 6 paths, unless they are ``others``."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("otel_sessions" if kind == "calls" else "app", "0.1.0")
    name = "chat gpt-4o-mini" if kind == "calls" else "query"
    for number in range(count):
        own = call(number) if kind == "calls" else {}
        session = {} if kind == "others" else session_of(number)
        missing = ATTRIBUTES - len(own) - len(session)
        fillers: dict[str, AnyValue] = {f"app.attribute.{key}": f"value {number * key % 977}" for key in range(missing)}
        tracer.start_span(name, kind=SpanKind.CLIENT, attributes={**own, **fillers, **session}).end()
    return memory.get_finished_spans()


def call(number: int) -> dict[str, AnyValue]:
    """What capture says of an LLM call."""
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.2,
        "gen_ai.request.max_tokens": 1024,
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.id": f"chatcmpl-{number:024x}",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 700 + number % 900,
        "gen_ai.usage.output_tokens": 30 + number % 200,
        "gen_ai.usage.cache_read.input_tokens": number % 512,
        "gen_ai.usage.reasoning.output_tokens": number % 30,
        "gen_ai.response.time_to_first_chunk": 0.25 + number % 100 / 1000,
        "server.address": "api.openai.com",
        "server.port": 443,
        "http.response.status_code": 200,
    }


def session_of(number: int) -> dict[str, AnyValue]:
    """What the processor says of the session."""
    session, step = divmod(number, CALLS_PER_SESSION)
    return {
        "session.id": f"0199a4c2-7d1e-7000-8000-{session:012x}",
        "session.name": "support-triage",
        "session.path": PATHS[step % len(PATHS)],
        "user.id": f"user-{session % 97}",
    }


def measure(
    store: Store, bare: Store, exporter: SpanExporter, spans: Sequence[ReadableSpan], given: Namespace
) -> dict[str, float]:
    """Median seconds per way for all of ``spans``."""
    batches = [spans[start : start + given.batch] for start in range(0, len(spans), given.batch)]
    blocks = list(map(store.encode, batches))
    token = map(str, itertools.count())
    ways: dict[str, Callable[[], object]] = {
        "OTLP": lambda: [encode_spans(part).SerializeToString() for part in batches],
        "exporter": lambda: exported(exporter, batches),
        "exporter 512": lambda: exported(exporter, [spans[start : start + 512] for start in range(0, len(spans), 512)]),
        "rows": lambda: [store.encode(part) for part in batches],
        "bare": lambda: inserted(bare, blocks, token),
        "all": lambda: inserted(store, blocks, token),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def exported(exporter: SpanExporter, batches: Iterable[Sequence[ReadableSpan]]) -> None:
    """Export until all has arrived, and stop the benchmark if that failed."""
    taken = {exporter.export(part) for part in batches}
    if not exporter.force_flush(600_000) or taken != {SpanExportResult.SUCCESS}:
        raise SystemExit("the exporter did not take the spans")


def inserted(store: Store, blocks: Iterable[bytes], token: Iterator[str]) -> None:
    """Insert encoded batches, each under a new token."""
    for block in blocks:
        store.insert_encoded([block], next(token))


def without_views(store: Store) -> None:
    """Leave nothing of the schema that an insert into otel_traces would fill."""
    views = store.reader().query("SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'MaterializedView'")  # fmt: skip
    for (name,) in views.rows:
        store._connection.command(f"DROP VIEW {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--spans", type=int, default=262_144)
    parser.add_argument("--batch", type=int, default=32_768)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", choices=("calls", "steps", "others"), default="calls")
    given = parser.parse_args()
    spans = spans_of(given.kind, given.spans)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder).resolve()
        with open_store(f"chdb://{path}") as store, open_store(f"chdb://{path}?database=bare") as bare:
            store.migrate()
            bare.migrate()
            without_views(bare)
            exporter = ClickHouseSpanExporter(f"chdb://{path}")
            seconds = measure(store, bare, exporter, spans, given)
            exporter.shutdown()
    rates = {name: len(spans) / value for name, value in seconds.items()}
    print(f"{len(spans):,} spans ({given.kind}) of {ATTRIBUTES} attributes in batches of {given.batch:,}")
    print(f"OTLP encoding alone          {rates['OTLP']:10,.0f} spans/s")
    print(
        f"the exporter, into the store {rates['exporter']:10,.0f} spans/s   {rates['exporter'] / rates['OTLP']:.1f} x OTLP (target 5)"
    )
    print(
        f"  512 spans at a time        {rates['exporter 512']:10,.0f} spans/s   {rates['exporter 512'] / rates['OTLP']:.1f} x OTLP"
    )
    print(f"our encoding alone           {rates['rows']:10,.0f} spans/s   {rates['rows'] / rates['OTLP']:.1f} x OTLP")
    print(f"insert, bare otel_traces     {rates['bare']:10,.0f} spans/s   {rates['bare'] / rates['OTLP']:.1f} x OTLP")
    print(f"insert, all views            {rates['all']:10,.0f} spans/s   {rates['all'] / rates['OTLP']:.1f} x OTLP")
    both = {name: 1 / (1 / rates["rows"] + 1 / rates[name]) for name in ("bare", "all")}
    print(f"insert, all views : bare     {rates['all'] / rates['bare']:10.2f}")
    print(
        f"spans to rows, all : bare    {both['all'] / both['bare']:10.2f}             (encoded and inserted; target 0.5)"
    )


if __name__ == "__main__":
    main()
