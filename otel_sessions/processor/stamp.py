"""What a span of a session carries, and whose child it is. Works on one span, keeps no state."""

from __future__ import annotations

from dataclasses import replace

from opentelemetry.sdk.trace import Span
from opentelemetry.trace import SpanContext

from otel_sessions.base import names
from otel_sessions.base.context import step_context
from otel_sessions.base.guard import count
from otel_sessions.base.paths import normalize_path, session_trace_id
from otel_sessions.base.values import Session


def stamp(span: Span, session: Session) -> Session | None:
    """Set ``session``'s attributes on ``span``; what it already says itself stands.

    Returns where the span stands: at its own ``session.path`` if it has one, and nowhere (None) if it says that it
    belongs to another session.
    """
    scope = getattr(span, "instrumentation_scope", None)
    if scope is not None and scope.name == names.SCOPE:
        return session  # a call that was captured here: its span began with the attributes
    own = span.attributes or {}
    if own.get(names.SESSION_ID, session.id) != session.id:
        return None
    path = own.get(names.SESSION_PATH, session.path)
    # Asked key by key: a copy of the attributes would take a Python call for each of them.
    missing = {key: value for key, value in session.attributes.items() if key not in own}
    if missing:
        span.set_attributes(missing)
    return session if path == session.path else replace(session, path=normalize_path(str(path)))


def settle(span: Span, session: Session) -> SpanContext | None:
    """Give ``span`` its parent by the three rules; its context if it stays in another trace and wants a link back."""
    parent, trace_id = span.parent, session_trace_id(session.id)
    if parent is not None and parent.trace_id == trace_id:
        return None
    step = step_context(session.id, session.path)
    if parent is None and _adopt(span, trace_id, step):
        return None
    span.add_link(step)
    return span.get_span_context()


def _adopt(span: Span, trace_id: int, step: SpanContext) -> bool:
    """Make the root ``span`` a child of ``step``. The SDK has no public way, hence the check that it worked."""
    old = span.get_span_context()
    context = SpanContext(trace_id, old.span_id, old.is_remote, old.trace_flags, old.trace_state)
    if not (hasattr(span, "_context") and hasattr(span, "_parent")):
        count("span.not_adopted", "otel-sessions: this OpenTelemetry SDK does not let a root span join its session")
        return False
    span._context, span._parent = context, step  # noqa: SLF001
    return span.get_span_context() is context and span.parent is step
