"""LLM sessions on OpenTelemetry and ClickHouse: what a run cost, which step, how long, what failed.

>>> import otel_sessions
>>> otel_sessions.configure()
>>> with otel_sessions.session(name="triage"), otel_sessions.step("classify"):
...     ...  # any LLM call over httpx or httpx2
"""

from importlib.metadata import version

from otel_sessions.assembly import ClickHouseSpanExporter, configure, flush, shutdown, uninstrument
from otel_sessions.base.errors import OtelSessionsError
from otel_sessions.base.values import FlushResult, Session
from otel_sessions.capture import instrument
from otel_sessions.processor import SessionSpanProcessor
from otel_sessions.sessions import current_session, session, step, with_context

__version__ = version("otel-sessions")

__all__ = [
    "ClickHouseSpanExporter",
    "FlushResult",
    "OtelSessionsError",
    "Session",
    "SessionSpanProcessor",
    "configure",
    "current_session",
    "flush",
    "instrument",
    "session",
    "shutdown",
    "step",
    "uninstrument",
    "with_context",
]
