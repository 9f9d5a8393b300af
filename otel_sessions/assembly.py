"""The one place where the stages are put together: ``configure()`` and the entry points of OpenTelemetry.

::

    capture ──▶ SessionSpanProcessor ──▶ Delivery(cut → price → spool → store)
                                    └──▶ Delivery(cut → price → OTLP)
"""

from __future__ import annotations

import os
import re
import threading
import time
import uuid
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.environment_variables import OTEL_LOGS_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_TRACES_EXPORTER
from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined] # an untyped module
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined] # an untyped module
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk.resources import PROCESS_PID, SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_sessions import capture
from otel_sessions.base import settings
from otel_sessions.base.errors import StoreHeldError, StoreUnavailableError
from otel_sessions.base.exits import at_exit, come_first
from otel_sessions.base.guard import count, guarded
from otel_sessions.base.settings import Settings, masked
from otel_sessions.base.threads import has_greenlets
from otel_sessions.base.values import FlushResult
from otel_sessions.delivery import Delivery, Limits, Send, SpoolPlace, cutting, spool_place
from otel_sessions.prices import PriceRegistry, note_costs
from otel_sessions.processor import SessionSpanProcessor
from otel_sessions.store import Store, open_store

_EXPORT_SECONDS = 30.0
_EXIT_SECONDS = 5.0
_IN_A_ROW_SECONDS = 0.1
_REMEMBERED = 64
"""Changes of the store by ``configure()`` and ``shutdown()`` that an exporter beside them still knows."""


class _Pipeline(SpanProcessor):
    """What ``configure()`` adds to a tracer provider, once; its parts can be exchanged and taken out."""

    def __init__(self) -> None:
        self.parts: tuple[SpanProcessor, ...] = ()
        self._stores: deque[tuple[Store | None, int]] = deque([(None, 0)], _REMEMBERED)

    def deliver_to(self, store: Store | None) -> None:
        """Note that what ends from now on goes to ``store``, or to none."""
        self._stores.append((store, time.time_ns()))

    def has_taken(self, span: ReadableSpan, store: Store) -> bool:
        """``span``, of this provider, went to ``store`` when it ended."""
        ended = span.end_time or 0
        held = next((kept for kept, since in reversed(self._stores) if since <= ended), None)
        return held is not None and held.is_same(store)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for part in self.parts:
            part.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        for part in self.parts:
            part.on_end(span)

    def shutdown(self) -> None:
        shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return flush(timeout_millis / 1000).pending == 0


@dataclass(frozen=True, slots=True)
class _Running:
    """What is in force after ``configure()``. The first delivery is the one that ``flush()`` reports on.

    ``processor`` may be the program's own, and then is not among the parts of the pipeline.
    """

    settings: Settings
    provider: TracerProvider
    pipeline: _Pipeline
    processor: SessionSpanProcessor
    deliveries: tuple[Delivery, ...]
    store: Store | None


_lock = threading.RLock()
_running: _Running | None = None
_ending: _Running | None = None
"""What a :func:`shutdown` is at, or was when it was interrupted."""
_pipelines: WeakKeyDictionary[TracerProvider, _Pipeline] = WeakKeyDictionary()


def _new_lock() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held it when the process was forked
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def configure(**given: Any) -> TracerProvider:
    """Record every LLM call of this process from now on; call it once at start-up.

    Installs a tracer provider, or joins the one that is installed, and instruments httpx and httpx2. Settings are
    keyword arguments or ``OTEL_SESSIONS_<NAME>`` variables; the README lists them. The same settings again change
    nothing; other settings replace what is in force, after what is waiting was delivered.

    Raises :class:`~otel_sessions.base.errors.SettingError` for a setting that is unknown or has a wrong value.
    Nothing else raises: a store that cannot be reached is said once in the log and retried.
    """
    global _running  # noqa: PLW0603 - one pipeline per process
    wanted = settings.load(given)
    with _lock:
        if _running is not None and _running.settings == wanted:
            return _running.provider
        shutdown()
        _running = _assemble(wanted)
        return _running.provider


def flush(timeout: float = 30.0) -> FlushResult:
    """Deliver what has ended so far, step spans included, within ``timeout`` seconds.

    Without a store the numbers are those of the OTLP endpoint; before :func:`configure` they are all zero.
    """
    running = _running
    if running is None:
        return FlushResult()
    deadline = time.monotonic() + timeout
    capture.drain()
    running.processor.force_flush()
    results = [delivery.flush(max(0.0, deadline - time.monotonic())) for delivery in running.deliveries]
    return results[0] if results else FlushResult()


def shutdown(timeout: float = 5.0) -> FlushResult:
    """Stop recording, deliver what is left within ``timeout`` seconds, close the store.

    What could not be delivered stays in the spool for the next process, or without a spool is counted as dropped.
    Runs by itself at exit; :func:`configure` starts anew. Interrupted, by Ctrl-C for one, it goes on when called again.
    Providers learn nothing of sessions afterwards either.
    """
    global _running, _ending  # noqa: PLW0603 - one pipeline per process
    with _lock:
        if _running is not None:
            _ending, _running = _running, None
        running = _ending
        if running is None:
            return FlushResult()
        deadline = time.monotonic() + timeout
        # First what takes long: threads of the host may go on meanwhile, and their calls are still recorded.
        for delivery in running.deliveries:
            delivery.settle(max(0.0, deadline - time.monotonic()))
        with guarded("shutdown"):
            capture.suspend()
            if running.processor in running.pipeline.parts:
                running.processor.shutdown()
            else:
                running.processor.force_flush()
        for delivery in running.deliveries:
            delivery.close(max(0.0, deadline - time.monotonic()))
        running.pipeline.deliver_to(None)
        running.pipeline.parts = ()
        if running.store is not None:
            with guarded("shutdown"):
                running.store.end()
        _ending = None
        return running.deliveries[0].result() if running.deliveries else FlushResult()


def _end() -> None:
    """At exit. Who interrupts it wants no more waiting; but what waits goes to the spool, and the engine must be closed."""
    try:
        shutdown()
    except BaseException:
        shutdown(0.0)
        raise


at_exit(_end)


def uninstrument() -> None:
    """Take out of httpx and httpx2 what :func:`configure` or :func:`instrument` has put there; nothing is recorded any more.

    Exchanges that are still open are ended. Session headers are then sent as they are.
    """
    with _lock:
        _uninstrument_http()
        capture.uninstrument()


def _assemble(wanted: Settings) -> _Running:
    provider = _provider(wanted)
    disabled = settings.sdk_disabled()
    pipeline = _pipeline_of(provider)
    known = _processor_of(provider)
    processor = known or _processor(wanted, None if disabled else provider)
    store = None if disabled or wanted.store_dsn == "none" else open_store(wanted.store_dsn)
    deliveries = () if disabled else _deliveries(wanted, store)
    pipeline.deliver_to(store)
    # Deliveries first: who interrupts what follows, with Ctrl-C, costs no span.
    pipeline.parts = (*deliveries, *(() if known else (processor,)))
    capture.instrument(provider, settings=wanted)
    if wanted.instrument_http:
        _instrument_http(provider)
    else:
        _uninstrument_http()
    return _Running(wanted, provider, pipeline, processor, deliveries, store)


def _processor(wanted: Settings, provider: TracerProvider | None) -> SessionSpanProcessor:
    return SessionSpanProcessor(
        step_idle_seconds=wanted.step_idle_seconds, max_sessions=wanted.max_sessions, tracer_provider=provider
    )


def _processor_of(provider: TracerProvider) -> SessionSpanProcessor | None:
    """The one that ``provider`` has already: a second one would export each step span again."""
    active = getattr(provider, "_active_span_processor", None)
    parts = getattr(active, "_span_processors", ())
    return next((part for part in parts if isinstance(part, SessionSpanProcessor)), None)


def _provider(wanted: Settings) -> TracerProvider:
    installed = trace.get_tracer_provider()
    if hasattr(installed, "add_span_processor"):
        return installed  # type: ignore[return-value] # the SDK's, or a wrapper around it such as logfire's
    provider = _Provider(resource=Resource.create({SERVICE_NAME: wanted.service_name} if wanted.service_name else {}))
    trace.set_tracer_provider(provider)
    return provider


def _pipeline_of(provider: TracerProvider) -> _Pipeline:
    pipeline = _pipelines.get(provider)
    if pipeline is None:
        pipeline = _pipelines[provider] = _Pipeline()
        provider.add_span_processor(pipeline)
    return pipeline


def _deliveries(wanted: Settings, store: Store | None) -> tuple[Delivery, ...]:
    deliveries = []
    if store is not None:
        _warn_if_held(store, wanted)
        deliveries.append(_to_store(wanted, store, numbered=True))
    if wanted.otlp_endpoint is not None:
        send = _otlp_sender(wanted.otlp_endpoint)
        stages = (cutting(wanted.max_value_length), note_costs)
        name = masked(wanted.otlp_endpoint)
        deliveries.append(Delivery(name, send, stages=stages, limits=_limits(wanted)))
    return tuple(deliveries)


def _to_store(wanted: Settings, store: Store, *, numbered: bool) -> Delivery:
    sender = StoreSender(store, wanted)
    return Delivery(
        masked(wanted.store_dsn),
        sender.send,
        stages=(cutting(wanted.max_value_length), sender.prices.price),
        limits=_limits(wanted),
        encode=store.encode,
        spool=spool_of(wanted),
        confirm=sender.confirm,
        finish=store.finish,
        numbered=numbered,
    )


def _limits(wanted: Settings) -> Limits:
    return Limits(wanted.queue_size, wanted.batch_size, wanted.batch_age_seconds)


def _warn_if_held(store: Store, wanted: Settings) -> None:
    try:
        store.check_free()
    except StoreHeldError as error:
        where = "the spool, for that process to send them" if wanted.spools else "memory"
        count("store.held", "otel-sessions: %s Until then spans wait in %s.", error, where)


def spool_of(wanted: Settings) -> SpoolPlace | None:
    """Where batches for the store wait on disk; None if they do not."""
    if not wanted.spools:
        return None
    return spool_place(wanted.spool_folder, wanted.store_dsn, wanted.spool_max_bytes, masked(wanted.store_dsn))


class StoreSender:
    """Inserts encoded batches, after the schema was brought up to date once and the price book knows their models."""

    def __init__(self, store: Store, wanted: Settings) -> None:
        self.prices = PriceRegistry(store.add_prices)
        self._store = store
        self._settings = wanted
        self._ready = not wanted.migrate
        self._opened = False

    def send(self, blocks: Iterable[bytes], token: str) -> None:
        """Insert ``blocks`` under ``token``."""
        self._prepare()
        self.prices.publish()
        self._store.insert_encoded(blocks, token)
        if not self._opened:
            self._opened = True
            with guarded("exit"):
                come_first()

    def confirm(self, blocks: Iterable[bytes], _token: str) -> bool:
        """Whether ``blocks`` have arrived already."""
        self._prepare()
        return self._store.holds(blocks)

    def _prepare(self) -> None:
        if not self._ready:
            self._store.migrate(retention_days=self._settings.retention_days)
            self._ready = True


def _otlp_sender(endpoint: str) -> Send:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    suffix = "" if endpoint.rstrip("/").endswith("/v1/traces") else "/v1/traces"
    exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + suffix)

    def send(spans: Sequence[ReadableSpan], _token: str) -> None:
        if exporter.export(spans) is not SpanExportResult.SUCCESS:
            raise StoreUnavailableError("the OTLP endpoint did not accept the spans")

    return send


# Parameters that carry keys or signatures, whatever stands around the word: ?key=, &api_key=, &X-Goog-Signature=.
_SECRET = re.compile(r"(?i)([?&][^=&#]*(?:key|token|secret|passw|pwd|jwt|sig|auth|credential|code)[^=&#]*=)[^&#]*")


def _scrub(span: trace.Span, _request: Any) -> None:
    """Take keys out of the URL that the HTTP instrumentation has recorded."""
    with guarded("scrub"):
        attributes = getattr(span, "attributes", None) or {}
        for name in ("http.url", "url.full", "http.target", "url.query"):
            url = attributes.get(name)
            if isinstance(url, str) and "=" in url:
                span.set_attribute(name, _SECRET.sub(r"\1REDACTED", url))


async def _scrub_async(span: trace.Span, request: Any) -> None:
    _scrub(span, request)


class _Provider(TracerProvider):
    """The SDK's, which in a forked child asks its resource detectors anew, in a thread pool.

    Under gevent whoever waits in there lets the child go on with the host's greenlets, their requests included; and
    each subprocess is such a child, until it becomes another program (gevent issue 2202).
    """

    def _handle_fork(self) -> None:
        if not has_greenlets():
            super()._handle_fork()
            return
        self._tracers_lock = threading.Lock()
        anew: dict[str, str | int] = {SERVICE_INSTANCE_ID: str(uuid.uuid4()), PROCESS_PID: os.getpid()}
        known = self.resource.attributes
        self._update_resource(Resource({name: value for name, value in anew.items() if name in known}))


def _instrument_http(provider: TracerProvider) -> None:
    """Service-to-service calls: HTTP spans and propagation. LLM requests suppress it while they run."""
    import opentelemetry.instrumentation.httpx as instrumentation

    for module, name in (("httpx", "HTTPXClientInstrumentor"), ("httpx2", "HTTPX2ClientInstrumentor")):
        if find_spec(module) is not None:
            instrumentor = getattr(instrumentation, name)()
            if not instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.instrument(tracer_provider=provider, request_hook=_scrub, async_request_hook=_scrub_async)
                _http_instrumentors.append(instrumentor)


_http_instrumentors: list[BaseInstrumentor] = []
"""Those that were switched on here, and not by the host."""


def _uninstrument_http() -> None:
    while _http_instrumentors:
        _http_instrumentors.pop().uninstrument()


class ClickHouseSpanExporter(SpanExporter):
    """Writes spans, priced, to a ClickHouse store; for anyone's own tracer provider and span processor.

    ``store`` is a DSN; all other settings come from the environment. Spans go the same way as after
    :func:`configure`, without its queue: to the spool, from there to the store, in few inserts. Where
    :func:`configure` has joined the tracer provider, with the same store, its delivery takes them, and this nothing.
    """

    def __init__(self, store: str | None = None) -> None:
        self._settings = settings.load({"store": store})
        self._store = open_store(self._settings.store_dsn)
        _warn_if_held(self._store, self._settings)
        # Not numbered: what the span processor in front drops could not show as a gap.
        self._delivery = _to_store(self._settings, self._store, numbered=False)
        # A store that ends with the process keeps nothing safer than the queue in front of it.
        self._room = self._settings.queue_size if self._store.in_memory else 0
        self._local = self._settings.store_dsn.startswith("chdb://")
        self._exported_at = -_IN_A_ROW_SECONDS
        self._store.expect(self._delivery.arrive)
        # Now, since at the end of the interpreter, where a short program first exports, no thread can be started.
        self._delivery.start()
        _exporters.add(self)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take ``spans``. Never raises.

        SUCCESS once they are safe: in the spool, or, where there is none, in the store (``chdb://memory``: or in a queue
        in front of it). An export by itself waits until a ``chdb://`` store has them, exports in a row do not.
        :meth:`force_flush` waits until all have arrived, as does a reader of this process.
        FAILURE if some were lost; that is counted and logged.
        """
        with guarded("export"):
            # In a row they gather on the way: an insert costs the store about the same whatever its length.
            in_a_row = time.monotonic() - self._exported_at < _IN_A_ROW_SECONDS
            is_safe = self._delivery.deliver(self._left_of(spans), _EXPORT_SECONDS, self._room if in_a_row else 0)
            if self._local and not in_a_row:
                self._delivery.arrive(_EXPORT_SECONDS)
            self._exported_at = time.monotonic()
            if is_safe:
                return SpanExportResult.SUCCESS
        return SpanExportResult.FAILURE

    def _left_of(self, spans: Sequence[ReadableSpan]) -> Sequence[ReadableSpan]:
        """Those that no pipeline has taken to this store."""
        for provider, pipeline in tuple(_pipelines.items()):
            # What tells the spans of one provider from those of another is the resource, one object for all of them.
            resource = getattr(provider, "resource", None)
            spans = [
                span for span in spans if span.resource is not resource or not pipeline.has_taken(span, self._store)
            ]
        return spans

    def shutdown(self) -> None:
        """Send what is left; what the store does not take stays in the spool. Close the store."""
        with guarded("export"):
            self._delivery.shutdown()
            self._store.end()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until all has arrived; False if it has not after ``timeout_millis``."""
        return self._delivery.force_flush(timeout_millis)

    def _finish(self, timeout: float) -> None:
        """Send what is left for ``timeout`` seconds and close the store, which the next export opens again."""
        with guarded("export"):
            self._delivery.arrive(timeout)
            if not self._delivery.result().pending:
                self._delivery.flush(timeout)
                # An engine that is opened while the process ends is not closed by its own exit handler, and crashes.
                self._store.close()


_exporters: WeakSet[ClickHouseSpanExporter] = WeakSet()


def _finish_exports() -> None:
    """At the end of the process, for those whom nobody shuts down; a provider that does may still export more."""
    for exporter in tuple(_exporters):
        exporter._finish(_EXIT_SECONDS)  # noqa: SLF001 - same module


at_exit(_finish_exports)


class SessionsDistro(BaseDistro):  # type: ignore[misc] # the base is untyped
    """Defaults for ``opentelemetry-instrument``: traces to ClickHouse, no metrics, no logs."""

    def _configure(self, **_: Any) -> None:
        os.environ.setdefault(OTEL_TRACES_EXPORTER, "clickhouse_sessions")
        os.environ.setdefault(OTEL_METRICS_EXPORTER, "none")
        os.environ.setdefault(OTEL_LOGS_EXPORTER, "none")


class SessionsConfigurator(_OTelSDKConfigurator):
    """The SDK's own configuration, where no other distribution brings one."""


class SessionsInstrumentor(BaseInstrumentor):  # type: ignore[misc] # the base is untyped
    """Capture and sessions for ``opentelemetry-instrument``, whichever distribution has configured the SDK."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: what is not installed is not instrumented."""
        return ()

    def _instrument(self, **given: Any) -> None:
        wanted = settings.load()
        provider = given.get("tracer_provider") or trace.get_tracer_provider()
        if isinstance(provider, TracerProvider) and _processor_of(provider) is None:
            provider.add_span_processor(_processor(wanted, provider))
        capture.instrument(given.get("tracer_provider"), settings=wanted)

    def _uninstrument(self, **_: Any) -> None:
        capture.uninstrument()
