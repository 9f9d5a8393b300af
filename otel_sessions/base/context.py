"""The session in the OpenTelemetry context, in W3C baggage, and the step span ids that derive from it.

The ambient session lives under an own key of the OpenTelemetry context. Beside it stand the same facts as baggage,
which the standard propagators carry to other services and from which a receiving process reads them.
Where no real span is active, the context also holds a :class:`StepAnchor`: the span context of the path's step
span, so that whatever span starts next is a child of that step and lies in the session trace.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from functools import lru_cache

from opentelemetry import baggage, context, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler

from otel_sessions.base import names
from otel_sessions.base.guard import guarded
from otel_sessions.base.paths import normalize_id, normalize_path, session_trace_id, step_span_id
from otel_sessions.base.values import Session

_SESSION_KEY = context.create_key("otel-sessions-session")
_BAGGAGE_KEYS = {names.SESSION_ID, names.SESSION_NAME, names.SESSION_PATH, names.USER_ID}

BlockListener = Callable[[Session, bool], None]
_listeners: list[BlockListener] = []


def _always(_trace_id: int) -> bool:
    return True


_sampled: Callable[[int], bool] = _always


class StepAnchor(trace.NonRecordingSpan):
    """Stands in the context for a step span that is exported later, under the same ids."""


def sample_with(decide: Callable[[int], bool]) -> Callable[[int], bool]:
    """Decide with ``decide(session trace id)`` whether the spans below a step anchor are sampled.

    Returns what decided before.
    """
    global _sampled
    before, _sampled = _sampled, decide
    return before


def follow_sampler(sampler: Sampler) -> None:
    """Let ``sampler`` decide for each session as a whole, as it would for a root span, unless something else does.

    Without it a step anchor would have every span of every session sampled. By trace id, so that all processes
    that share a session decide alike.
    """
    if _sampled is _always:
        # an empty context: with None the sampler would look at the span that happens to be active
        sample_with(lru_cache(4096)(lambda trace_id: _would_record(sampler, trace_id)))


def _would_record(sampler: Sampler, trace_id: int) -> bool:
    decision = sampler.should_sample(Context(), trace_id, "session").decision
    return decision is Decision.RECORD_AND_SAMPLE


def active_session(ctx: Context | None = None) -> Session | None:
    """The session of ``ctx`` (default: the current context): the ambient one, else one received as baggage."""
    ctx = context.get_current() if ctx is None else ctx
    session = ctx.get(_SESSION_KEY)
    return session if isinstance(session, Session) else _from_baggage(ctx)


def enter(session: Session, ctx: Context | None = None) -> Context:
    """``ctx`` (default: the current context) with ``session`` as its ambient session, and as baggage.

    A real span that is active stays active; without one, the step's anchor takes its place.
    """
    ctx = context.get_current() if ctx is None else ctx
    values = dict(ctx)
    values[_SESSION_KEY] = session
    return anchored(session, _with_baggage(session, Context(values)))


def placed(session: Session, ctx: Context) -> Context:
    """Like :func:`enter`, without baggage: for a span below which nothing is propagated."""
    values = dict(ctx)
    values[_SESSION_KEY] = session
    return anchored(session, Context(values))


def anchored(session: Session, ctx: Context) -> Context:
    """``ctx`` with the anchor of ``session``'s step, unless a real span is active in it."""
    span = trace.get_current_span(ctx)
    if span.get_span_context().is_valid and not isinstance(span, StepAnchor):
        return ctx
    return trace.set_span_in_context(StepAnchor(step_context(session.id, session.path)), ctx)


def step_context(session_id: str, path: str) -> trace.SpanContext:
    """Span context of the step span of ``path``."""
    trace_id = session_trace_id(session_id)
    flags = trace.TraceFlags.SAMPLED if _sampled(trace_id) else trace.TraceFlags.DEFAULT
    return trace.SpanContext(
        trace_id, step_span_id(session_id, path), is_remote=False, trace_flags=trace.TraceFlags(flags)
    )


def detach(token: Token[Context]) -> bool:
    """Make the context current that ``token`` remembers, if it was attached here; else leave the current one alone.

    ``opentelemetry.context.detach`` logs an error with traceback in the second case, which is the host's everyday life.
    """
    try:
        token.var.reset(token)
    except (ValueError, RuntimeError):
        return False
    return True


def notify(session: Session, *, opened: bool) -> None:
    """Tell the listeners that a block at ``session``'s path was opened or closed."""
    for listener in tuple(_listeners):
        with guarded("step"):
            listener(session, opened)


def add_listener(listener: BlockListener) -> None:
    """Call ``listener(session, opened)`` whenever a session or step block opens or closes."""
    _listeners.append(listener)


def remove_listener(listener: BlockListener) -> None:
    """Undo :func:`add_listener`; unknown listeners are ignored."""
    if listener in _listeners:
        _listeners.remove(listener)


def _with_baggage(session: Session, ctx: Context) -> Context:
    entries: dict[str, object] = {
        key: value
        for key, value in baggage.get_all(ctx).items()
        if key not in _BAGGAGE_KEYS and not key.startswith(names.PROPERTY_PREFIX)
    }
    entries |= {key: value for key, value in session.attributes.items() if key != names.STEP_KIND}
    cleared = baggage.clear(ctx)
    for key, value in entries.items():
        cleared = baggage.set_baggage(key, value, cleared)
    return cleared


def _from_baggage(ctx: Context) -> Session | None:
    entries = baggage.get_all(ctx)
    if names.SESSION_ID not in entries:
        return None
    session_id = normalize_id(str(entries[names.SESSION_ID]))
    if not session_id:
        return None
    path = normalize_path(str(entries.get(names.SESSION_PATH, "/")))
    return Session(
        id=session_id,
        name=_text(entries.get(names.SESSION_NAME)),
        path=path,
        user_id=_text(entries.get(names.USER_ID)),
        properties={
            key.removeprefix(names.PROPERTY_PREFIX): str(value)
            for key, value in entries.items()
            if key.startswith(names.PROPERTY_PREFIX)
        },
        received_path=path,
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
