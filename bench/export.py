"""Spans per second into chDB: `python -m bench.export [--spans N] [--batch N] [--kind others|steps|calls]`.

Spans with 20 attributes, made by the SDK, go several ways that take turns in one process. They begin when the engine is
at rest, so that each sees the same state of the machine, and none the merges of another. The spans are outside sessions
(`others`), in sessions and no LLM calls (`steps`: tools, databases), or LLM calls in sessions (`calls`); without `--kind`
each in turn, in a process and a store of its own. Ways:

- OTLP: what the OTLP exporter does before it sends anything (encode_spans and SerializeToString)
- exporter: ClickHouseSpanExporter.export and at the end force_flush, with all that it does: cut, price, encode, spool,
  insert into the store with all its views; until the rows are acknowledged
- exporter 512: the same with the 512 spans at a time that the SDK's batch processor exports
- rows: our encoding alone
- bare, all: an encoded batch into an otel_traces without any materialized view, and into the store as it is

Printed are medians over the rounds, the ratios, and the CPU time that a span of the exporter's takes in all, until the
engine has merged what it wants to merge.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
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
from otel_sessions.base.group import grouped
from otel_sessions.store import Store, open_store

KINDS = ("others", "steps", "calls")
ATTRIBUTES = 20
FILLERS = tuple(f"app.attribute.{key}" for key in range(ATTRIBUTES))
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
        fillers: dict[str, AnyValue] = {FILLERS[key]: f"value {number * key % 977}" for key in range(missing)}
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
    """Median seconds per way for all of ``spans``, and ``CPU``, the exporter's until the engine is at rest."""
    batches = [spans[start : start + given.batch] for start in range(0, len(spans), given.batch)]
    blocks = [store.encode(grouped(part)) for part in batches]
    token = map(str, itertools.count())
    ways: dict[str, Callable[[], object]] = {
        "OTLP": lambda: each(lambda part: encode_spans(part).SerializeToString(), batches),
        "exporter": lambda: exported(exporter, batches),
        "exporter 512": lambda: exported(exporter, [spans[start : start + 512] for start in range(0, len(spans), 512)]),
        "rows": lambda: each(lambda part: store.encode(grouped(part)), batches),
        "bare": lambda: inserted(bare, blocks, token),
        "all": lambda: inserted(store, blocks, token),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, way in ways.items():
            rest(store)
            began, cpu = time.perf_counter(), time.process_time()
            way()
            taken[name].append(time.perf_counter() - began)
            if name == "exporter":
                rest(store)
                taken.setdefault("CPU", []).append(time.process_time() - cpu)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def each(encode: Callable[[Sequence[ReadableSpan]], bytes], batches: Iterable[Sequence[ReadableSpan]]) -> None:
    """Encode every batch, and keep none."""
    for part in batches:
        encode(part)


def rest(store: Store) -> None:
    """Wait until the engine has nothing to merge."""
    quiet = 0
    while quiet < 3:
        [(merges,)] = store.reader().query("SELECT count() FROM system.merges").rows
        quiet = 0 if merges else quiet + 1
        time.sleep(0.2)


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
    parser.add_argument("--kind", choices=KINDS)
    given = parser.parse_args()
    if given.kind is None:
        for kind in KINDS:
            subprocess.run([sys.executable, "-m", "bench.export", "--kind", kind, *sys.argv[1:]], check=True)
        return
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
    report(given, seconds)


def report(given: Namespace, seconds: dict[str, float]) -> None:
    rates = {name: given.spans / value for name, value in seconds.items()}
    both = {name: 1 / (1 / rates["rows"] + 1 / rates[name]) for name in ("bare", "all")}

    def line(what: str, way: str, note: str = "") -> None:
        print(f"{what:29}{rates[way]:9,.0f} spans/s {rates[way] / rates['OTLP']:5.1f} x OTLP{note}")

    print(f"{given.spans:,} spans ({given.kind}) of {ATTRIBUTES} attributes in batches of {given.batch:,}")
    line("OTLP encoding alone", "OTLP")
    line("the exporter, into the store", "exporter", " (target 5)")
    line("  512 spans at a time", "exporter 512")
    line("our encoding alone", "rows")
    line("insert, bare otel_traces", "bare")
    line("insert, all views", "all")
    print(f"insert, all views : bare     {rates['all'] / rates['bare']:9.2f}")
    print(f"spans to rows, all : bare    {both['all'] / both['bare']:9.2f} (encoded and inserted; target 0.5)")
    print(f"CPU per span, with merges    {seconds['CPU'] / given.spans * 1e6:9.1f} µs", flush=True)


if __name__ == "__main__":
    main()
