"""What you need to test the sessions of your own agent: no store, no network, fixed ids and, if you like, a fixed clock.

>>> provider = FakeProvider("billing", input_tokens=120, output_tokens=3)
>>> client = openai.OpenAI(api_key="test", http_client=httpx2.Client(transport=httpx2.MockTransport(provider)))
>>> with record() as recording:
...     my_agent(client)
>>> recording.tree()
{'/': [{'triage': ['chat gpt-6', {'classify': ['chat gpt-6']}]}]}
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otel_sessions.base import names
from otel_sessions.base.context import sample_with
from otel_sessions.base.paths import ROOT, lineage, segment_name
from otel_sessions.base.settings import load
from otel_sessions.processor import SessionSpanProcessor
from otel_sessions.testing.provider import FakeProvider, Received

__all__ = ["Call", "FakeProvider", "Received", "Recording", "Tree", "record", "ticking"]

Tree = dict[str, list["str | Tree"]]
"""A step's name, and what happened in it in order of time: calls as texts, steps as trees."""


@dataclass(frozen=True, slots=True)
class Call:
    """One LLM call. ``None`` is what the provider did not say; tokens are as in ``session_calls``."""

    session_id: str | None
    path: str | None
    operation: str
    provider: str
    model: str | None
    input_tokens: int | None
    cached_input_tokens: int | None
    output_tokens: int | None
    error_type: str | None


class Recording:
    """What happened so far; complete when the ``with`` of :func:`record` has ended.

    ``provider`` is the tracer provider, for an agent that makes spans of its own.
    """

    def __init__(self, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
        self.provider = provider
        self._exporter = exporter

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """All spans that have ended, by their start; step spans among them."""
        from otel_sessions import capture

        capture.drain()
        return tuple(sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0))

    def calls(self, session_id: str | None = None) -> list[Call]:
        """The LLM calls, of one session or of all; a call that two instrumentations describe counts once."""
        return [_call(span) for span in self._llm_spans(session_id)]

    def tree(self, session_id: str | None = None) -> Tree:
        """The calls of a session by path, as a literal to compare with. ``session_id`` may be left out if there is one.

        ``{"/": ["chat gpt-6", {"classify": ["chat gpt-6"]}]}``: one call at the session itself, one in its step.
        """
        steps: dict[str, list[str | Tree]] = {ROOT: []}
        for span in self._llm_spans(session_id or self._only_session()):
            path = str((span.attributes or {}).get(names.SESSION_PATH, ROOT))
            for above, below in itertools.pairwise(lineage(path)):
                if below not in steps:
                    steps[below] = []
                    steps[above].append({segment_name(below): steps[below]})
            steps[path].append(span.name)
        return {ROOT: steps[ROOT]}

    def _llm_spans(self, session_id: str | None) -> list[ReadableSpan]:
        return [span for span in self.spans if _counts(span.attributes or {}, session_id)]

    def _only_session(self) -> str:
        ids = {call.session_id for call in self.calls()} - {None}
        if len(ids) != 1:
            raise ValueError(f"tree() needs a session_id: the calls are of {sorted(map(str, ids)) or 'no session'}")
        return str(ids.pop())


@contextmanager
def record(*, clock: Callable[[], int] | None = None, **settings: Any) -> Iterator[Recording]:
    """Record everything inside the block in memory, LLM calls over httpx and httpx2 included.

    Span ids are 1, 2, 3, ...; with ``clock`` (Unix nanoseconds, see :func:`ticking`) times are fixed too.
    ``settings`` are those of :func:`otel_sessions.configure` that concern capture; the environment is not read.
    An instrumentation that is in force is replaced while the block lasts.
    """
    from otel_sessions import capture

    provider = TracerProvider(
        sampler=ALWAYS_ON, resource=Resource.get_empty(), id_generator=_Counting(), shutdown_on_exit=False
    )
    exporter = InMemorySpanExporter()
    if clock is not None:
        provider.add_span_processor(_Clocked(clock))
    provider.add_span_processor(SessionSpanProcessor(tracer_provider=provider, clock=clock or time.time_ns))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    checked = load(settings, {})
    sampling = sample_with(lambda _: True)
    before = capture.in_force()
    capture.uninstrument()
    capture.instrument(provider, settings=checked)
    try:
        yield Recording(provider, exporter)
    finally:
        capture.uninstrument()
        if before is not None:
            capture.instrument(before.tracer_provider, settings=before.settings)
        sample_with(sampling)
        provider.shutdown()


def ticking(start: int = 1_767_225_600_000_000_000, step: int = 1_000_000_000) -> Callable[[], int]:
    """A clock that says ``start`` (default: 1 January 2026), then ``step`` nanoseconds more at each look."""
    return itertools.count(start, step).__next__


class _Counting(IdGenerator):
    def __init__(self) -> None:
        self._spans, self._traces = itertools.count(1), itertools.count(1)

    def generate_span_id(self) -> int:
        return next(self._spans)

    def generate_trace_id(self) -> int:
        return next(self._traces)


class _Clocked(SpanProcessor):
    """Spans start and end by ``clock``, whatever times they were given. The SDK has no public way to do this."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - the SDK's signature
        span._start_time = self._clock()  # noqa: SLF001

    def _on_ending(self, span: Span) -> None:
        span._end_time = self._clock()  # noqa: SLF001


def _counts(attributes: Any, session_id: str | None) -> bool:
    wanted = session_id is None or attributes.get(names.SESSION_ID) == session_id
    return wanted and names.OPERATION in attributes and attributes.get(names.BILLABLE) is not False


def _call(span: ReadableSpan) -> Call:
    said: Any = span.attributes or {}
    return Call(
        session_id=said.get(names.SESSION_ID),
        path=said.get(names.SESSION_PATH),
        operation=said[names.OPERATION],
        provider=said.get(names.PROVIDER, ""),
        model=said.get(names.REQUEST_MODEL),
        input_tokens=said.get(names.INPUT_TOKENS),
        cached_input_tokens=said.get(names.CACHE_READ_TOKENS),
        output_tokens=said.get(names.OUTPUT_TOKENS),
        error_type=said.get(names.ERROR_TYPE),
    )
