"""The request side of an exchange: is it an LLM call, what of it leaves, whose session is it. No I/O."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextvars import Token
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, propagation
from opentelemetry.util.types import AttributeValue

from otel_sessions.base import names
from otel_sessions.base.context import StepAnchor, active_session, anchored, placed, step_context
from otel_sessions.base.guard import caught
from otel_sessions.base.names import CONVERSATION_ID, OPERATION, REQUEST_MODEL, REQUEST_STREAM
from otel_sessions.base.settings import Settings
from otel_sessions.base.values import Session
from otel_sessions.capture import reaper
from otel_sessions.capture.content import Recorder
from otel_sessions.capture.exchange import BATCH, Exchange
from otel_sessions.capture.formats.wire import Call, Endpoint, no_form
from otel_sessions.capture.headers import Given, Items, Raw, all_pass, split
from otel_sessions.capture.target import Elsewhere, Target, Targets

_SUPPRESSED = context._SUPPRESS_INSTRUMENTATION_KEY  # noqa: SLF001 - the only names that these keys have
_SUPPRESSED_PLAIN = "suppress_instrumentation"
_SPAN = propagation._SPAN_KEY  # noqa: SLF001
_SUPPRESSED_HTTP = context._SUPPRESS_HTTP_INSTRUMENTATION_KEY  # noqa: SLF001
_NO_CALL = Call()
_NO_CALLS = (type(None), StepAnchor, trace.NonRecordingSpan)
"""What stands for the current span in a context, and is for sure not an LLM call's."""


class Wire(Protocol):
    """What only httpx or httpx2 know how to make."""

    items: Callable[[Any], Items]
    """The headers of a request or a response."""

    def clone(self, request: Any, headers: Raw, body: bytes | None) -> Any:
        """A copy of ``request`` to send in its place, with these headers and, unless ``None``, this body."""


@dataclass(frozen=True, slots=True)
class Instrumentation:
    """What :func:`otel_sessions.capture.instrument` was asked for."""

    settings: Settings
    targets: Targets
    tracer: Callable[[], trace.Tracer]


Sent = tuple[Any, Token[Context] | None, Exchange | None]
"""What is sent in place of a request: the very same object unless something is taken off it or put into it.

Then what undoes the context that it is sent in, unless None, and the exchange, if it is an LLM call that is recorded.
"""


def begin(wire: Wire, target: Target | Elsewhere, request: Any, asked: Instrumentation) -> Sent:
    """What to send for ``request``, which goes to an LLM provider or to what looks like an LLM end point.

    The context to send it in is the current one from now on. Never raises.
    """
    try:
        current = context.get_current()
        suppressed = current.get(_SUPPRESSED) or current.get(_SUPPRESSED_PLAIN)
        if suppressed or isinstance(target, Elsewhere) or request.method != "POST":
            return _aside(wire, target, request)
        # A body that is yet to be streamed is left alone.
        body = getattr(request, "_content", None)
        call = _call(target.endpoint, request, body)
        if not target.certain and not call.fits:
            return request, None, None
        outgoing, given = request, None
        if call.lacks_usage or not all_pass(wire.items(request)):
            longer = with_usage(body) if body and call.lacks_usage and asked.settings.include_usage else None
            outgoing, given = _fit_to_leave(wire, target, request, longer)
        session = ambient = active_session(current)
        if given is not None:
            session = given.over(ambient)
        entered = session is ambient and (session is None or session.received_path is None)
        started = _start(target, call, session, current if entered else _place(session, ambient, current), asked)
        if target.forward:
            outgoing = _propagated(wire, outgoing, current if started is None else started[1])
        if started is None:
            return outgoing, context.attach(_without_http(current)), None
        exchange, inside = started
        if type(current.get(_SPAN)) not in _NO_CALLS:
            supersede(trace.get_current_span(current), inside, session)
        if asked.settings.capture_content:
            exchange.record(Recorder(target.endpoint, asked.settings.redact), body)
        return outgoing, context.attach(inside), exchange
    except Exception:  # noqa: BLE001 - telemetry must not break its host
        caught("capture.start")
        return _unrecorded(wire, target, request)


def _propagated(wire: Wire, request: Any, ctx: Context) -> Any:
    """``request`` with trace context and baggage of ``ctx`` in its headers, for a host that is listed to receive them."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, ctx)
    given = {name.lower().encode(): value.encode("utf-8", "replace") for name, value in carrier.items()}
    others = [header for header in request.headers.raw if header[0].lower() not in given]
    return wire.clone(request, [*others, *given.items()], None) if given else request


def _fit_to_leave(wire: Wire, target: Target, request: Any, body: bytes | None) -> tuple[Any, Given | None]:
    """What to send for ``request``, with ``body`` if it is not None; and what its headers say of the session."""
    raw = request.headers.raw
    kept, given = split(raw)
    if target.forward:
        kept = raw
    return request if kept is raw and body is None else wire.clone(request, kept, body), given


def _unrecorded(wire: Wire, target: Target | Elsewhere, request: Any) -> Sent:
    try:
        return _aside(wire, target, request)
    except Exception:  # noqa: BLE001 - telemetry must not break its host
        caught("capture.start")
        return request, None, None


def _aside(wire: Wire, target: Target | Elsewhere, request: Any) -> Sent:
    """What is sent where no call is recorded, a provider's control calls say: it learns nothing of sessions either."""
    if target.forward or not (isinstance(target, Elsewhere) or target.certain):
        return request, None, None
    raw = request.headers.raw
    kept, _ = split(raw)
    outgoing = request if kept is raw else wire.clone(request, kept, None)
    return outgoing, context.attach(_without_http(context.get_current())), None


def _without_http(ctx: Context) -> Context:
    """``ctx`` in which HTTP instrumentations make no span and send no trace context."""
    return Context({**ctx, _SUPPRESSED_HTTP: True})


def _call(endpoint: Endpoint, request: Any, body: bytes | None) -> Call:
    """What ``request`` asks for, in JSON or in the text fields of a form, whose files are not touched."""
    try:
        if endpoint.form is no_form:
            return endpoint.call(body) if body else _NO_CALL
        return _formed(endpoint, request, body)
    except Exception:  # noqa: BLE001 - a body may be anything, nested deeper than Python can follow for one
        caught("capture.request")
        return _NO_CALL


def _formed(endpoint: Endpoint, request: Any, body: bytes | None) -> Call:
    if body:
        form = {name.decode(): value.decode("utf-8", "replace") for name, value in _FORM_FIELD.findall(body)}
        return endpoint.form(form) if form else endpoint.call(body)
    fields = getattr(request.stream, "fields", ())
    return endpoint.form({field.name: field.value for field in fields if isinstance(_value(field), str)})


_FORM_FIELD = re.compile(rb'name="(model|stream)"\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,256})\r\n')


def _value(field: object) -> object:
    return getattr(field, "value", None)


def _place(session: Session | None, ambient: Session | None, current: Context) -> Context:
    if session is None:
        return current
    if session is not ambient:
        ctx = placed(session, current)
        enclosing = trace.get_current_span(current)
        # A twin of this very call that started on its own, without the headers, must not keep it out of its session.
        return _at_step(session, ctx) if describes_call(enclosing) and _is_root(enclosing) else ctx
    # Entering a session leaves a span or an anchor; one that came as bare baggage has neither.
    known = trace.get_current_span(current).get_span_context().is_valid
    return current if known else anchored(session, current)


def _start(
    target: Target, call: Call, session: Session | None, ctx: Context, asked: Instrumentation
) -> tuple[Exchange, Context] | None:
    """The exchange, and the context to send its request in; None if the span is not recorded."""
    model = call.model or target.model
    name = operation = call.operation or target.endpoint.operation
    attributes: dict[str, AttributeValue] = {**target.attributes, **call.parameters, OPERATION: operation}
    if model:
        attributes[REQUEST_MODEL] = model
        name = f"{operation} {model}"
    if session is not None:
        attributes |= session.attributes  # here and not one by one later: half the work per attribute
        attributes[CONVERSATION_ID] = session.id
    streamed = call.stream or target.endpoint.streams
    if streamed:
        attributes[REQUEST_STREAM] = True
    now, clock = time.time_ns(), time.perf_counter_ns()
    span = asked.tracer().start_span(name, ctx, SpanKind.CLIENT, attributes, start_time=now)
    if not span.is_recording():
        return None
    # Of a stream the first chunk is timed.
    exchange = Exchange(target, span, now, clock, streamed, 0 if streamed else BATCH - 1)
    reaper.opened(exchange)
    return exchange, Context({**ctx, _SPAN: span, _SUPPRESSED_HTTP: True})


def _at_step(session: Session, ctx: Context) -> Context:
    return trace.set_span_in_context(StepAnchor(step_context(session.id, session.path)), ctx)


def _is_root(span: trace.Span) -> bool:
    return getattr(span, "parent", None) is None


def describes_call(span: trace.Span) -> bool:
    """Whether ``span`` is another instrumentation's, and stands for one LLM call."""
    if not span.is_recording():
        return False
    attributes = getattr(span, "attributes", None) or {}
    return any(attributes.get(name) in values for name, values in names.LLM_SPANS.items())


def supersede(enclosing: trace.Span, ours: Context, session: Session | None) -> None:
    """Mark the LLM span of another instrumentation around the request: ours has the provider's usage per attempt."""
    if not describes_call(enclosing):
        return
    span_id = trace.format_span_id(trace.get_current_span(ours).get_span_context().span_id)
    enclosing.set_attributes({names.BILLABLE: False, names.SUPERSEDED_BY: span_id})
    if session is not None and names.SESSION_ID not in getattr(enclosing, "attributes", {}):
        enclosing.set_attributes(session.attributes)


def with_usage(body: bytes) -> bytes | None:
    """The request ``body`` with ``stream_options.include_usage``; every other byte of its values as it was."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        options = json.loads(bytes(fields.get("stream_options", b"null"))) or {}
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    fields["stream_options"] = msgspec.Raw(msgspec.json.encode({**options, "include_usage": True}))
    return msgspec.json.encode(fields)
