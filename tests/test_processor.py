"""SessionSpanProcessor in a real SDK provider. Traces are literals: times are given, step ids follow from the formula."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import itertools
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased

from otel_sessions.base import context as base_context
from otel_sessions.base.context import enter
from otel_sessions.base.guard import counters
from otel_sessions.base.paths import step_span_id
from otel_sessions.base.values import Session
from otel_sessions.processor import SessionSpanProcessor, steps
from otel_sessions.sessions import session, step

SECOND = 1_000_000_000
PATHS = ("/triage", "/triage/classify", "/triage/respond")


def trace_id(session_id: str) -> int:
    return int.from_bytes(hashlib.sha256(session_id.encode()).digest()[:16], "big")


def step_id(session_id: str, path: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{session_id}\n{path}".encode()).digest()[:8], "big")


class Counting(IdGenerator):
    """Span ids 1, 2, 3, ... and trace ids 0xA000, 0xA001, ..."""

    def __init__(self) -> None:
        self._spans, self._traces = itertools.count(1), itertools.count(0xA000)

    def generate_span_id(self) -> int:
        return next(self._spans)

    def generate_trace_id(self) -> int:
        return next(self._traces)


class Clock:
    """Unix nanoseconds; each call is a second later."""

    def __init__(self) -> None:
        self.seconds = itertools.count(100)

    def __call__(self) -> int:
        return next(self.seconds) * SECOND


class Rig:
    """A provider of its own with the processor in front of an in-memory exporter."""

    def __init__(self, **settings: Any) -> None:
        sampler = settings.pop("sampler", None)
        resource = Resource({"service.name": "agent"})
        self.provider = TracerProvider(
            sampler=sampler, resource=resource, id_generator=Counting(), shutdown_on_exit=False
        )
        if settings.pop("joined", False):
            settings["tracer_provider"] = self.provider
        self.processor = SessionSpanProcessor(clock=Clock(), **settings)
        self.exporter = InMemorySpanExporter()
        self.provider.add_span_processor(self.processor)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    def call(self, name: str = "chat", start: int = 1, end: int = 2, ctx: Context | None = None) -> None:
        """A span from second ``start`` to second ``end``."""
        self.tracer.start_span(name, context=ctx, start_time=start * SECOND).end(end * SECOND)

    def tagged(self, session_id: str, path: str, start: int = 1, end: int = 2) -> None:
        """A call that knows its session from headers only: no block is open."""
        self.call("chat", start, end, enter(Session(session_id, path=path)))

    @property
    def spans(self) -> tuple[Any, ...]:
        return self.exporter.get_finished_spans()

    @property
    def steps(self) -> dict[str, Any]:
        return {str(span.attributes["session.path"]): span for span in self.spans if is_step(span)}

    def picture(self) -> list[tuple[Any, ...]]:
        return [facts(span) for span in self.spans]


def is_step(span: ReadableSpan) -> bool:
    return bool((span.attributes or {}).get("otel_sessions.step"))


def label(context: trace.SpanContext | None, names: dict[int, str]) -> str | None:
    return None if context is None else names.get(context.span_id, f"{context.span_id}")


def facts(span: Any) -> tuple[Any, ...]:
    """Name, whether it lies in the session's trace, own label, parent's label, path, first and last second."""
    attributes = span.attributes or {}
    session_id = str(attributes.get("session.id", ""))
    labels = {step_id(session_id, path): f"step {path}" for path in ("/", "/a", "/a/b", "/a/b/c", "/b", *PATHS)}
    return (
        span.name,
        span.context.trace_id == trace_id(session_id),
        label(span.context, labels),
        label(span.parent, labels),
        attributes.get("session.path"),
        span.start_time // SECOND,
        span.end_time // SECOND,
    )


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.provider.shutdown()


@pytest.fixture(autouse=True)
def _own_sampling() -> Iterator[None]:
    before = base_context.sample_with(base_context._always)
    yield
    base_context.sample_with(before)


def test_a_span_outside_any_session_is_left_alone(rig: Rig) -> None:
    """Without a session a span keeps its trace, gets no attribute and makes no step."""
    rig.call()
    rig.processor.force_flush()
    (span,) = rig.spans
    assert (span.context.trace_id, span.parent, dict(span.attributes)) == (0xA000, None, {})


def test_blocks_and_calls_make_one_tree_in_the_session_trace(rig: Rig) -> None:
    """Root spans hang below their step; step spans are exported with the outermost block and cover all below."""
    with session("run-1", name="triage run", user_id="ann", properties={"plan": "pro"}):
        with step("a", kind="agent"):
            rig.call("one", 200, 201)
            with step("b"):
                rig.call("two", 202, 250)
        rig.call("three", 251, 252)
        assert rig.steps == {}
    assert rig.picture() == [
        ("one", True, "1", "step /a", "/a", 200, 201),
        ("two", True, "2", "step /a/b", "/a/b", 202, 250),
        ("three", True, "3", "step /", "/", 251, 252),
        ("triage run", True, "step /", None, "/", 100, 252),
        ("a", True, "step /a", "step /", "/a", 101, 250),
        ("b", True, "step /a/b", "step /a", "/a/b", 102, 250),
    ]
    assert dict(rig.steps["/a"].attributes) == {
        "session.id": "run-1",
        "session.path": "/a",
        "session.name": "triage run",
        "user.id": "ann",
        "session.property.plan": "pro",
        "otel_sessions.step.kind": "agent",
        "otel_sessions.step": True,
    }
    assert rig.steps["/a"].resource.attributes["service.name"] == "agent"
    assert rig.steps["/a"].instrumentation_scope.name == "otel_sessions"
    assert rig.steps["/a"].context.trace_flags.sampled
    assert not rig.steps["/a"].context.is_remote


def test_a_span_below_a_span_keeps_its_parent(rig: Rig) -> None:
    """Natural nesting inside the session trace stays, also across a step."""
    with session("run-1"), rig.tracer.start_as_current_span("agent"), step("a"):
        rig.call("chat")
    agent = next(span for span in rig.spans if span.name == "agent")
    chat = next(span for span in rig.spans if span.name == "chat")
    assert chat.parent.span_id == agent.context.span_id
    assert chat.attributes["session.path"] == "/a"
    assert agent.parent.span_id == step_id("run-1", "/")
    assert chat.links == agent.links == ()


def test_a_root_span_that_knows_its_session_joins_it(rig: Rig) -> None:
    """A session received as baggage without traceparent still yields a child of the sender's step, and so do its children."""
    received = extract({"baggage": "session.id=run-1,session.path=%2Fa%2Fb"}, context=Context())
    span = rig.tracer.start_span("work", context=received)
    child = rig.tracer.start_span("child", context=trace.set_span_in_context(span, received))
    child.end()
    span.end()
    rig.processor.shutdown()
    assert [facts(span)[:5] for span in rig.spans] == [
        ("child", True, "2", "1", "/a/b"),
        ("work", True, "1", "step /a/b", "/a/b"),
    ]


def test_a_received_session_leaves_the_senders_steps_to_it(rig: Rig) -> None:
    """With traceparent and baggage from another process only the steps below the received path are exported."""
    sender = Rig()
    headers: dict[str, str] = {}
    with session("run-1", name="n"), step("a"), sender.tracer.start_as_current_span("request"):
        inject(headers)
    token = context.attach(extract(headers, context=Context()))
    with step("b"), step("c"):
        rig.call()
    context.detach(token)
    sender.provider.shutdown()
    rig.provider.shutdown()
    assert set(sender.steps) == {"/", "/a"}
    assert set(rig.steps) == {"/a/b", "/a/b/c"}
    assert rig.spans[0].parent.span_id == 1
    assert rig.spans[0].attributes["session.name"] == "n"
    assert rig.spans[0].context.trace_id == trace_id("run-1")


def test_another_trace_stays_whole_and_is_linked_both_ways(rig: Rig) -> None:
    """A span whose parent lives elsewhere keeps trace and parent; it links to its step and the step links back."""
    with rig.tracer.start_as_current_span("GET /"), session("run-1"), step("a"):
        rig.call("chat")
    chat, *_, server = sorted(rig.spans, key=lambda span: ("chat", "session", "a", "GET /").index(span.name))
    assert chat.context.trace_id == server.context.trace_id == 0xA000
    assert chat.parent.span_id == server.context.span_id
    assert [link.context.span_id for link in chat.links] == [step_id("run-1", "/a")]
    assert [link.context for link in rig.steps["/a"].links] == [chat.context]
    assert rig.steps["/"].links == ()
    assert server.links == ()


def test_a_step_keeps_128_links_and_counts_the_rest(rig: Rig) -> None:
    """The links back are bounded; what was left out is a number on the span."""
    with rig.tracer.start_as_current_span("GET /"), session("run-1"):
        for _ in range(200):
            rig.call()
    assert (len(rig.steps["/"].links), rig.steps["/"].dropped_links) == (128, 72)


def test_what_a_span_says_itself_stands(rig: Rig) -> None:
    """Own session attributes win; a span that names another session is left alone."""
    ctx = enter(Session("run-1", name="ours", path="/a"))
    start = rig.tracer.start_span
    start("own path", context=ctx, attributes={"session.path": "b/", "session.name": "its"}).end()
    start("other", context=ctx, attributes={"session.id": "run-2"}).end()
    rig.processor.shutdown()
    own, other = rig.spans[:2]
    assert dict(own.attributes) == {"session.path": "b/", "session.name": "its", "session.id": "run-1"}
    assert dict(other.attributes) == {"session.id": "run-2"}
    assert set(rig.steps) == {"/", "/b"}


@pytest.mark.parametrize("order", list(itertools.permutations(PATHS)), ids=",".join)
def test_tagged_calls_make_the_same_tree_in_any_order(order: Sequence[str], rig: Rig) -> None:
    """Three calls that know their path from headers only: one trace, steps by the formula, no missing parent."""
    for second, path in enumerate(order, 1):
        rig.tagged("run-1", path, second * 10, second * 10 + 5)
    assert rig.steps == {}
    rig.processor.force_flush()
    first = {path: (order.index(path) + 1) * 10 for path in PATHS}
    last = {path: first[path] + 5 for path in PATHS}
    assert sorted(rig.picture()[3:], key=lambda row: row[4]) == [
        ("session", True, "step /", None, "/", 10, 35),
        ("triage", True, "step /triage", "step /", "/triage", 10, 35),
        ("classify", True, "step /triage/classify", "step /triage", PATHS[1], first[PATHS[1]], last[PATHS[1]]),
        ("respond", True, "step /triage/respond", "step /triage", PATHS[2], first[PATHS[2]], last[PATHS[2]]),
    ]
    ids = {span.context.span_id for span in rig.spans}
    assert all(span.parent.span_id in ids for span in rig.spans if span.parent)


SEPARATE = """
import json, sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otel_sessions.base.context import enter
from otel_sessions.base.paths import step_span_id
from otel_sessions.base.values import Session
from otel_sessions.processor import SessionSpanProcessor
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SessionSpanProcessor())
provider.add_span_processor(SimpleSpanProcessor(exporter))
provider.get_tracer("t").start_span("chat", context=enter(Session(sys.argv[1], path=sys.argv[2]))).end()
provider.shutdown()
print(json.dumps([[s.name, s.context.trace_id, s.context.span_id, s.parent and s.parent.span_id,
                   s.attributes["session.path"]] for s in exporter.get_finished_spans()]))
"""


def test_processes_that_share_only_the_id_agree_on_the_tree() -> None:
    """Three processes, one call each: the union is one trace with the steps of the formula and no missing parent."""
    rows: list[list[Any]] = []
    for path in reversed(PATHS):
        done = subprocess.run(
            [sys.executable, "-c", SEPARATE, "run ✓", path], capture_output=True, text=True, check=True, timeout=60
        )
        rows += json.loads(done.stdout)
    assert {row[1] for row in rows} == {trace_id("run ✓")}
    steps = {(row[2], row[3], row[4]) for row in rows if row[0] != "chat"}
    root, triage = step_id("run ✓", "/"), step_id("run ✓", "/triage")
    assert steps == {
        (root, None, "/"),
        (triage, root, "/triage"),
        (step_id("run ✓", PATHS[1]), triage, PATHS[1]),
        (step_id("run ✓", PATHS[2]), triage, PATHS[2]),
    }
    assert {row[3] for row in rows if row[0] == "chat"} == {step_id("run ✓", path) for path in PATHS}


def test_intermediate_steps_exist(rig: Rig) -> None:
    """One call at /a/b/c: the steps /, /a and /a/b are there too, each over the call's time."""
    rig.tagged("run-1", "/a/b/c", 7, 9)
    rig.processor.force_flush()
    assert rig.picture() == [
        ("chat", True, "1", "step /a/b/c", "/a/b/c", 7, 9),
        ("session", True, "step /", None, "/", 7, 9),
        ("a", True, "step /a", "step /", "/a", 7, 9),
        ("b", True, "step /a/b", "step /a", "/a/b", 7, 9),
        ("c", True, "step /a/b/c", "step /a/b", "/a/b/c", 7, 9),
    ]


def test_a_repeated_path_is_one_step(rig: Rig) -> None:
    """Calls at one path, also at the path of a parent, share one step span from the first start to the last end."""
    rig.tagged("run-1", "/a", 1, 3)
    rig.tagged("run-1", "/a/b", 5, 8)
    rig.tagged("run-1", "/a", 4, 6)
    rig.processor.shutdown()
    assert [row for row in rig.picture() if row[0] != "chat"] == [
        ("session", True, "step /", None, "/", 1, 8),
        ("a", True, "step /a", "step /", "/a", 1, 8),
        ("b", True, "step /a/b", "step /a", "/a/b", 5, 8),
    ]


def test_each_step_is_exported_once(rig: Rig) -> None:
    """Flush, further calls at the same path, a new path, flush, shutdown: no step span twice."""
    rig.tagged("run-1", "/a")
    rig.processor.force_flush()
    rig.tagged("run-1", "/a")
    rig.tagged("run-1", "/b")
    rig.processor.force_flush()
    with session("run-1"), step("a"):
        rig.call()
    rig.provider.shutdown()
    assert sorted(span.attributes["session.path"] for span in rig.spans if is_step(span)) == ["/", "/a", "/b"]


def test_a_step_waits_for_its_open_spans(rig: Rig) -> None:
    """A stream that is read on after its block: its step and those above are exported when it ends, siblings at once."""
    with session("run-1"):
        with step("a"):
            stream = rig.tracer.start_span("stream", start_time=102 * SECOND)
        with step("b"):
            rig.call()
    rig.processor.force_flush()
    assert set(rig.steps) == {"/b"}
    stream.end(500 * SECOND)
    assert {path: span.end_time // SECOND for path, span in rig.steps.items()} == {"/b": 104, "/": 500, "/a": 500}


def test_shutdown_exports_what_is_still_in_use(rig: Rig) -> None:
    """Open blocks and spans do not keep their steps from being exported at the end."""
    with session("run-1"), step("a"):
        rig.tracer.start_span("never ended")
        rig.provider.shutdown()
        assert set(rig.steps) == {"/", "/a"}
    assert len(rig.spans) == 2


def test_after_shutdown_spans_are_still_stamped_but_make_no_step(rig: Rig) -> None:
    """Shutting the processor down ends its state and its listener, not the session attributes."""
    rig.processor.shutdown()
    with session("run-1"):
        rig.call()
    assert [span.attributes["session.id"] for span in rig.spans] == ["run-1"]


class Waiting(SpanExporter):
    """Says when a step span arrived."""

    def __init__(self) -> None:
        self.step = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if any(is_step(span) for span in spans):
            self.step.set()
        return SpanExportResult.SUCCESS


def test_idle_steps_are_exported_without_any_further_call() -> None:
    """A program that only sets headers sees its steps after the idle time, by themselves."""
    rig, waiting = Rig(step_idle_seconds=0.02), Waiting()
    rig.provider.add_span_processor(SimpleSpanProcessor(waiting))
    rig.tagged("run-1", "/a")
    assert waiting.step.wait(10)
    rig.provider.shutdown()
    assert set(rig.steps) == {"/", "/a"}


def test_steps_in_use_are_not_idle() -> None:
    """A step with an open span outlives the idle time; its idle sibling does not."""
    rig, waiting = Rig(step_idle_seconds=0.02), Waiting()
    rig.provider.add_span_processor(SimpleSpanProcessor(waiting))
    stream = rig.tracer.start_span("stream", context=enter(Session("run-1", path="/a")))
    rig.tagged("run-1", "/b")
    assert waiting.step.wait(10)
    assert set(rig.steps) == {"/b"}
    stream.end()
    rig.provider.shutdown()
    assert set(rig.steps) == {"/b", "/", "/a"}


def test_the_longest_unused_session_makes_room() -> None:
    """Beyond max_sessions the steps of the session that was not used for longest are exported and forgotten."""
    rig = Rig(max_sessions=2)
    for session_id in ("one", "two", "one", "three"):
        rig.tagged(session_id, "/")
    rig.processor._drain()  # spans are noted in groups
    assert [span.attributes["session.id"] for span in rig.spans if is_step(span)] == ["two"]
    rig.provider.shutdown()


def test_blocks_without_spans_are_exported_when_the_provider_is_known() -> None:
    """With tracer_provider given a step in which nothing was recorded is a span too; without, there is nobody to tell."""
    joined, alone = Rig(joined=True), Rig()
    with session("run-1"), step("a"):
        pass
    assert joined.picture() == [
        ("session", True, "step /", None, "/", 100, 103),
        ("a", True, "step /a", "step /", "/a", 101, 102),
    ]
    assert alone.spans == ()
    with session("run-1"), step("a"):
        alone.call()
    assert set(alone.steps) == {"/", "/a"}
    joined.provider.shutdown()
    alone.provider.shutdown()


def test_the_sampler_decides_for_the_whole_session() -> None:
    """Under a ratio sampler a session is recorded whole or not at all, and step spans follow."""
    rig = Rig(sampler=ParentBased(TraceIdRatioBased(0.5)), joined=True)
    wanted = {f"run-{n}" for n in range(40) if trace_id(f"run-{n}") & (2**64 - 1) < 2**63}
    for n in range(40):
        with session(f"run-{n}"), step("a"):
            rig.call()
    assert {span.attributes["session.id"] for span in rig.spans} == wanted
    assert len(rig.spans) == 3 * len(wanted)
    rig.provider.shutdown()


def test_nothing_is_exported_when_nothing_is_sampled() -> None:
    """ALWAYS_OFF: no span, no step."""
    rig = Rig(sampler=ALWAYS_OFF, joined=True)
    with session("run-1"), step("a"):
        rig.call()
    rig.provider.shutdown()
    assert rig.spans == ()


def test_asyncio_tasks_keep_their_sessions_apart(rig: Rig) -> None:
    """50 interleaved tasks with a session each: every call and step lies in its own."""

    async def run(name: str, barrier: asyncio.Barrier) -> None:
        async with session(name), step("a"):
            await barrier.wait()
            rig.call(name)
            await barrier.wait()
            async with step("b"):
                rig.call(name)

    async def main() -> None:
        barrier = asyncio.Barrier(50)
        await asyncio.gather(*(run(f"task-{n}", barrier) for n in range(50)))

    asyncio.run(main())
    assert_apart(rig, 50, "task")


def test_threads_keep_their_sessions_apart(rig: Rig) -> None:
    """20 interleaved threads with a session each: every call and step lies in its own."""
    barrier = threading.Barrier(20)

    def run(name: str) -> None:
        with session(name), step("a"):
            barrier.wait(30)
            rig.call(name)
            barrier.wait(30)
            with step("b"):
                rig.call(name)

    with ThreadPoolExecutor(20) as pool:
        for done in [pool.submit(run, f"thread-{n}") for n in range(20)]:
            done.result()
    rig.processor.force_flush()
    assert_apart(rig, 20, "thread")


def assert_apart(rig: Rig, number: int, kind: str) -> None:
    calls = [span for span in rig.spans if not is_step(span)]
    assert sorted((s.name, s.attributes["session.id"], s.attributes["session.path"]) for s in calls) == sorted(
        (f"{kind}-{n}", f"{kind}-{n}", path) for n in range(number) for path in ("/a", "/a/b")
    )
    assert all(span.context.trace_id == trace_id(span.name) for span in calls)
    assert len(rig.spans) == number * 5


def test_memory_is_bounded_whatever_the_number_of_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of sessions that are never closed cost no more than max_sessions of them."""
    monkeypatch.setattr(steps, "MAX_STEPS", 500)
    # its cache of 8,192 ids would need as many sessions to fill
    monkeypatch.setattr(steps, "step_span_id", step_span_id.__wrapped__)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SessionSpanProcessor(max_sessions=100))
    tracer = provider.get_tracer("test")

    def use(first: int, count: int) -> int:
        for n in range(first, first + count):
            tracer.start_span("chat", context=enter(Session(f"run-{n}", path="/a/b"))).end()
        gc.collect()
        ours = tracemalloc.Filter(inclusive=True, filename_pattern="*/otel_sessions/processor/*")
        return sum(item.size for item in tracemalloc.take_snapshot().filter_traces([ours]).statistics("filename"))

    tracemalloc.start()
    try:
        warm = use(0, 1_000)
        assert 20_000 < warm < 1_000_000
        assert use(1_000, 2_000) < warm + 50_000
    finally:
        tracemalloc.stop()
    provider.shutdown()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_the_parents_steps_to_it(rig: Rig) -> None:
    """Steps that the parent has used are not exported by the child; the child's own are."""
    with session("run-1"), step("a"):
        rig.call()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            rig.exporter.clear()
            with step("b"):
                rig.call()
            rig.provider.shutdown()
            os.write(writing, json.dumps(sorted(rig.steps)).encode())
            os._exit(0)
        os.waitpid(child, 0)
    assert json.loads(os.read(reading, 10_000)) == ["/a/b"]
    assert set(rig.steps) == {"/", "/a"}


async def test_calls_inside_a_web_servers_trace(rig: Rig) -> None:
    """A real ASGI app under the ASGI instrumentation: its trace stays whole, links lead to the step and back."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with session("run-1"), step("a"):
            rig.call("chat")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    wrapped = OpenTelemetryMiddleware(app, tracer_provider=rig.provider)
    transport = httpx.ASGITransport(app=wrapped)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        assert (await client.get("/work")).text == "done"
    chat = next(span for span in rig.spans if span.name == "chat")
    server = next(span for span in rig.spans if span.kind is trace.SpanKind.SERVER)
    assert chat.context.trace_id == server.context.trace_id != trace_id("run-1")
    assert chat.parent.span_id == server.context.span_id
    assert [link.context.span_id for link in chat.links] == [step_id("run-1", "/a")]
    assert chat.context in [link.context for link in rig.steps["/a"].links]


async def test_a_web_service_that_receives_a_session(rig: Rig) -> None:
    """Traceparent and baggage into a real ASGI app: one trace over both, and only the steps below the received path."""
    sender = Rig()
    headers: dict[str, str] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with step("b"):
            rig.call("chat")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    with session("run-1", user_id="ann"), step("a"), sender.tracer.start_as_current_span("request") as request:
        inject(headers)
    sender.provider.shutdown()
    transport = httpx.ASGITransport(app=OpenTelemetryMiddleware(app, tracer_provider=rig.provider))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        await client.get("/work", headers=headers)
    rig.provider.shutdown()
    server = next(span for span in rig.spans if span.kind is trace.SpanKind.SERVER)
    chat = next(span for span in rig.spans if span.name == "chat")
    assert {span.context.trace_id for span in rig.spans} == {trace_id("run-1")}
    assert server.parent.span_id == request.get_span_context().span_id
    assert chat.parent.span_id == server.context.span_id
    assert (server.attributes["session.path"], chat.attributes["session.path"]) == ("/a", "/a/b")
    assert {span.attributes["user.id"] for span in rig.spans} == {"ann"}
    assert (set(sender.steps), set(rig.steps)) == ({"/", "/a"}, {"/a/b"})


def test_the_order_of_processors_does_not_lose_steps_at_flush() -> None:
    """Also behind an exporting processor the steps reach it, at the next flush."""
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    provider.add_span_processor(SessionSpanProcessor())
    provider.get_tracer("t").start_span("chat", context=enter(Session("run-1"))).end()
    provider.force_flush()
    provider.force_flush()
    assert [span.name for span in exporter.get_finished_spans()] == ["chat", "session"]
    provider.shutdown()


ORDERED_BADLY = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from otel_sessions.base.context import enter
from otel_sessions.base.paths import step_span_id
from otel_sessions.base.values import Session
from otel_sessions.processor import SessionSpanProcessor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name + "\\n")))
provider.add_span_processor(SessionSpanProcessor())
provider.get_tracer("t").start_span("chat", context=enter(Session("run-1"))).end()
"""


def test_steps_are_exported_at_exit() -> None:
    """A program that just ends, with its processors in the wrong order, still delivers its steps."""
    done = subprocess.run([sys.executable, "-c", ORDERED_BADLY], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["chat", "session"]
    assert done.stderr == ""


class Broken(SpanProcessor):
    """A processor of the host that raises on step spans."""

    def on_end(self, span: ReadableSpan) -> None:
        if is_step(span):
            raise OSError("disk full")


def test_a_broken_exporter_of_the_host_does_not_reach_the_host(rig: Rig) -> None:
    """What raises while a step span is handed on is counted, and the block ends as if nothing had been."""
    rig.provider.add_span_processor(Broken())
    before = counters().get("error.processor.export", 0)
    with session("run-1"):
        rig.call()
    assert counters()["error.processor.export"] == before + 1


class Foreign:
    """A span of another SDK, without the private attributes that a root span is moved with."""

    def __init__(self, span: Span) -> None:
        self.real = span
        self.parent, self.start_time = None, 1
        self.attributes: dict[str, str] = {}
        self.add_link, self.get_span_context = span.add_link, span.get_span_context
        self.set_attributes = span.set_attributes


def test_a_root_span_that_cannot_be_moved_gets_a_link(rig: Rig) -> None:
    """Where the SDK's private attributes are missing a link stands in for the parent."""
    span = rig.tracer.start_span("chat")
    rig.processor.on_start(Foreign(span), enter(Session("run-1")))  # type: ignore[arg-type]
    span.end()
    assert rig.spans[0].context.trace_id == 0xA000
    assert [link.context.trace_id for link in rig.spans[0].links] == [trace_id("run-1")]


def test_a_span_that_the_garbage_collector_ends_does_no_harm(rig: Rig) -> None:
    """A span may end inside our own bookkeeping, on the same thread: no deadlock, and its step is exported."""
    stream = rig.tracer.start_span("stream", context=enter(Session("run-1", path="/a")))
    rig.processor._events.append((lambda _: stream.end(), ()))
    rig.tagged("run-1", "/b")
    rig.processor.force_flush()
    assert set(rig.steps) == {"/", "/a", "/b"}


def test_nobody_waits_on_the_request_path(rig: Rig) -> None:
    """While another thread is in the bookkeeping, spans and blocks go on; what they left behind is done afterwards."""
    entered, leave = threading.Event(), threading.Event()

    def linger(_: object) -> None:
        entered.set()
        leave.wait(5)

    rig.processor._events.append((linger, ()))
    other = threading.Thread(target=rig.processor.force_flush)
    other.start()
    assert entered.wait(5)
    with session("run-1"), step("a"):
        rig.call()
    assert not rig.processor.force_flush(timeout_millis=1)
    assert rig.steps == {}
    leave.set()
    other.join()
    rig.call()
    assert rig.processor.force_flush()
    assert set(rig.steps) == {"/", "/a"}


def test_processors_that_are_dropped_are_collected() -> None:
    """A processor without shutdown leaves no listener behind."""
    before = len(base_context._listeners)
    processor = SessionSpanProcessor()
    assert len(base_context._listeners) == before + 1
    del processor
    gc.collect()
    with session("run-1"):
        pass
    assert len(base_context._listeners) <= before
