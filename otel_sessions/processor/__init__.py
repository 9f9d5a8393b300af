"""Stamps every span that starts in a session, derives its parent from the path, and exports the step spans.

A span that starts in a session

1. keeps a parent that lies in the session trace;
2. becomes a child of its path's step span if it has no parent;
3. keeps a parent in another trace, and is linked with its step span in both directions.

stamp  attributes and parent of one span
steps  which steps are in use, and when each is ready to be exported
"""

from __future__ import annotations

import atexit
import os
import time
from collections import deque
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from typing import Any
from weakref import ReferenceType, WeakMethod, WeakSet, ref

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from otel_sessions.base import names
from otel_sessions.base.context import (
    BlockListener,
    active_session,
    add_listener,
    follow_sampler,
    remove_listener,
    step_context,
)
from otel_sessions.base.guard import caught, guarded
from otel_sessions.base.paths import ROOT, lineage, segment_name
from otel_sessions.base.threads import Bell, give_way, start_thread
from otel_sessions.base.values import Session
from otel_sessions.processor.stamp import settle, stamp
from otel_sessions.processor.steps import Origin, SpanStart, Step, StepLedger

__all__ = ["SessionSpanProcessor"]

_LOCK_SECONDS = 1.0
_POLL_SECONDS = 0.001
_HOLDER = "holder"
_TOGETHER = 64
"""Events that are applied in one go, unless one of them may make a step ready."""


class SessionSpanProcessor(SpanProcessor):
    """Put it into any SDK tracer provider, before the processors that export: ``provider.add_span_processor(...)``.

    ``step_idle_seconds``: a step span is exported after that long without activity at or below its path, if no
    block ended it before. ``max_sessions``: sessions whose steps are remembered at once; the longest unused is
    exported first. ``tracer_provider``: with it, steps in which no span was recorded are exported too.
    ``clock``: Unix nanoseconds.

    Thread-safe. No method raises or does I/O of its own, and only flush and shutdown wait for another thread.
    """

    def __init__(
        self,
        *,
        step_idle_seconds: float = 30.0,
        max_sessions: int = 4096,
        tracer_provider: TracerProvider | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._idle_seconds = step_idle_seconds
        self._clock = clock
        self._ledger = StepLedger(max(1, max_sessions), _origin_of(tracer_provider))
        self._events: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._holder: dict[str, object] = {}
        self._stopped = False
        self._end_watch = Bell()
        self._watched = False
        self._sampler: object = None
        self._follow(getattr(tracer_provider, "sampler", None))
        self._listener = _weak_listener(self)
        add_listener(self._listener)
        _scope()  # reads a file, which must not wait for the first step
        # runs before the provider's own exit handler, which is older: all exporters are still open
        self._at_exit = atexit.register(partial(_flush, ref(self)))
        _processors.add(self)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Stamp ``span`` and settle its parent, if a session is active in ``parent_context``."""
        try:
            session = active_session(parent_context)
            if session is not None:
                position = stamp(span, session)
                if position is not None:
                    self._started(span, position)
        except Exception:  # noqa: BLE001 - telemetry must not break its host
            caught("processor.start")

    def on_end(self, span: ReadableSpan) -> None:
        """Note that ``span`` ended; export the steps that waited for it."""
        try:
            context = span.context
            # an event that waits may be this span's start
            if self._events or self._ledger.knows(_key(context)):
                self._note(_span_ended, context, span.end_time, time.monotonic())
        except Exception:  # noqa: BLE001 - telemetry must not break its host
            caught("processor.end")

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export the steps that have no open block or span. False if another thread was in the way for too long."""
        with guarded("processor.flush"):
            return self._settle(StepLedger.retire_unused, min(timeout_millis / 1000, _LOCK_SECONDS))
        return False

    def shutdown(self) -> None:
        """Export all steps that are left, and stop. Spans are still stamped afterwards."""
        with guarded("processor.shutdown"):
            self._stopped = True
            self._end_watch.ring()
            remove_listener(self._listener)
            atexit.unregister(self._at_exit)
            self._settle(StepLedger.retire_all, _LOCK_SECONDS)

    def _started(self, span: Span, session: Session) -> None:
        link = settle(span, session)
        context = span.get_span_context()
        if not context.trace_flags & TraceFlags.SAMPLED or self._stopped:
            return
        sampler, processor = getattr(span, "_sampler", None), getattr(span, "_span_processor", None)
        if sampler is not self._sampler:
            self._follow(sampler)
        self._note(
            _span_started, session, context, span.start_time or self._clock(), processor, span.resource, link,
            time.monotonic(),
        )  # fmt: skip

    def _on_block(self, session: Session, opened: bool) -> None:  # noqa: FBT001 - a listener's signature
        if step_context(session.id, session.path).trace_flags.sampled:
            event = StepLedger.block_opened if opened else StepLedger.block_closed
            self._post(event, session, self._clock(), time.monotonic())

    def _note(self, event: Callable[..., None], *arguments: Any) -> None:
        """Post an event that by itself makes no step ready: it may wait for others, which halves its cost."""
        if self._watched and len(self._events) < _TOGETHER and not self._ledger.closed:
            self._events.append((event, arguments))
        else:
            self._post(event, *arguments)

    def _post(self, event: Callable[..., None], *arguments: Any) -> None:
        self._events.append((event, arguments))
        self._drain()
        if not self._watched and not self._stopped:
            self._watch()

    def _drain(self) -> None:
        """Apply the events that wait and export what became ready, unless another thread is at it.

        Who finds another at it leaves its event to that one. So nobody waits on the request path, and a span
        that the garbage collector ends while we are in here does no harm.
        """
        while self._events and self._apply_and_export():
            pass

    def _settle(self, act: Callable[[StepLedger], None], wait_seconds: float) -> bool:
        """Do ``act`` and export what it makes ready in this thread, which may wait; it can be a lot."""
        for _ in range(1 + int(wait_seconds / _POLL_SECONDS)):
            if self._apply_and_export(act):
                self._drain()
                return True
            give_way(_POLL_SECONDS)
        return False

    def _apply_and_export(self, act: Callable[[StepLedger], None] | None = None) -> bool:
        """Apply what waits, unless another thread is at it; that is over before anything is exported.

        No lock: who is interrupted between taking it and ``try``, by Ctrl-C, would hold it for ever. And in ``finally``
        nothing is called, since an interrupt comes with a call.
        """
        holder, me = self._holder, object()
        try:
            if holder.setdefault(_HOLDER, me) is not me:
                return False
            while self._events:
                event, arguments = self._events[0]
                with guarded("processor.steps"):
                    event(self._ledger, *arguments)
                self._events.popleft()  # only now: see on_end
            if act is not None:
                act(self._ledger)
            ready = self._ledger.take_ready()
        finally:
            if _HOLDER in holder and holder[_HOLDER] is me:
                del holder[_HOLDER]
        for step in ready:
            _export(step)
        return True

    def _follow(self, sampler: Any) -> None:
        if sampler is not None:
            self._sampler = sampler
            follow_sampler(sampler)

    def _watch(self) -> None:
        """Start the thread that exports idle steps, for programs that use headers only and so never close a block."""
        self._watched = True  # for other threads that come here meanwhile
        watch = partial(_watch, ref(self), self._end_watch, self._idle_seconds / 4)
        self._watched = start_thread(watch, "otel-sessions-steps") is not None

    def _retire_idle(self) -> None:
        now = time.monotonic()
        self._settle(lambda ledger: ledger.retire_idle(now - self._idle_seconds, now), _LOCK_SECONDS)

    def _after_fork(self) -> None:
        self._holder = {}
        self._events.clear()
        self._ledger = self._ledger.forked()
        self._end_watch = Bell()
        self._watched = False  # threads do not survive a fork


_processors: WeakSet[SessionSpanProcessor] = WeakSet()


def _children_start_afresh() -> None:
    for processor in tuple(_processors):
        processor._after_fork()  # noqa: SLF001 - a method of this module's class


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_children_start_afresh)


def _watch(processor: ReferenceType[SessionSpanProcessor], end: Bell, interval: float) -> None:
    while not end.wait(interval):
        alive = processor()
        if alive is None:
            return
        with guarded("processor.idle"):
            alive._retire_idle()  # noqa: SLF001 - a method of this module's class
        del alive  # else it could not be collected while we wait


def _flush(processor: ReferenceType[SessionSpanProcessor]) -> None:
    alive = processor()
    if alive is not None:
        alive.force_flush()


def _weak_listener(processor: SessionSpanProcessor) -> BlockListener:
    method = WeakMethod(processor._on_block)  # noqa: SLF001 - a method of this module's class

    def listener(session: Session, opened: bool) -> None:  # noqa: FBT001 - a listener's signature
        call = method()
        if call is None:
            remove_listener(listener)
        else:
            call(session, opened)

    return listener


def _span_started(  # noqa: PLR0913, PLR0917 - what was noted of a span, put into shape only when its turn has come
    ledger: StepLedger,
    session: Session,
    context: SpanContext,
    start: int,
    processor: SpanProcessor | None,
    resource: Resource,
    link: SpanContext | None,
    now: float,
) -> None:
    origin = None if processor is None else Origin(processor, resource)
    ledger.span_started(SpanStart(session, _key(context), start, origin, link), now)


def _span_ended(ledger: StepLedger, context: SpanContext, end: int, now: float) -> None:
    ledger.span_ended(_key(context), end, now)


def _key(context: SpanContext) -> tuple[int, int]:
    return context.trace_id, context.span_id


def _origin_of(provider: TracerProvider | None) -> Origin | None:
    processor = getattr(provider, "_active_span_processor", None)
    return None if provider is None or processor is None else Origin(processor, provider.resource)


def _export(step: Step) -> None:
    """Hand the step's span to all processors of the provider that its spans came from."""
    with guarded("processor.export"):
        if step.origin is not None:
            step.origin.processor.on_end(_step_span(step, step.origin))


def _step_span(step: Step, origin: Origin) -> ReadableSpan:
    session = step.session
    position = Session(session.id, session.name, step.path, session.user_id, session.properties, step.kind)
    context = step_context(session.id, step.path)
    above = lineage(step.path)[-2:-1]
    return ReadableSpan(
        name=segment_name(step.path) if step.path != ROOT else session.name or "session",
        context=SpanContext(context.trace_id, context.span_id, is_remote=False, trace_flags=_SAMPLED),
        parent=step_context(session.id, above[0]) if above else None,
        resource=origin.resource,
        attributes={**position.attributes, names.STEP: True},
        links=step.links or (),
        start_time=step.start,
        end_time=step.end,
        instrumentation_scope=_scope(),
    )


_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


@cache
def _scope() -> InstrumentationScope:
    return InstrumentationScope(names.SCOPE, version("otel-sessions"))
