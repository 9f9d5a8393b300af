"""From an HTTP request to a span: every LLM call over httpx and httpx2 becomes exactly one CLIENT span.

hook      the seam in the clients; moves bytes, sync and async
target    which URLs are LLM end points, and of which provider
request   is it an LLM call, what of it leaves, whose session is it
headers   session headers
exchange  from the bytes of the response to the end of the span
body      bytes to JSON documents and events
formats/  what they say, one file per wire format
content   message content, only if asked for
reaper    ends what the host dropped
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from opentelemetry import trace
from opentelemetry.trace import Tracer, TracerProvider

from otel_sessions.base import names
from otel_sessions.base.settings import Settings, load
from otel_sessions.capture import hook, reaper
from otel_sessions.capture.reaper import drain, finish_open
from otel_sessions.capture.request import Instrumentation
from otel_sessions.capture.target import Targets

__all__ = ["drain", "finish_open", "in_force", "instrument", "suspend", "uninstrument"]


@dataclass(frozen=True, slots=True)
class InForce:
    """The arguments of the :func:`instrument` that is in force."""

    tracer_provider: TracerProvider | None
    settings: Settings


_lock = threading.Lock()
_undo: list[Callable[[], None]] = []
_in_force: list[InForce] = []
_NO_TRACER = trace.NoOpTracer()
_suspended = False


def _new_lock() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held it when the process was forked
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def instrument(tracer_provider: TracerProvider | None = None, *, settings: Settings | None = None) -> None:
    """Record LLM calls of all clients of httpx and httpx2, whichever is installed, made before or after.

    Without ``tracer_provider`` spans go to the global provider, also one that is set later. Without ``settings``
    they come from the environment; a wrong one raises :class:`otel_sessions.base.errors.SettingError`.
    A second call changes nothing until :func:`uninstrument` or :func:`suspend`.
    """
    global _suspended  # noqa: PLW0603 - the clients of a process are instrumented once
    with _lock:
        if _in_force:
            return
        settings = settings or load()
        asked = Instrumentation(settings, Targets(settings), _tracer_of(tracer_provider))
        _take_out()
        _suspended = False
        reaper.watch_collector()
        _undo.extend(hook.patch(module, asked) for module in _modules())
        _in_force[:] = [InForce(tracer_provider, settings)]


def suspend() -> None:
    """Record no more; exchanges that are still open are ended.

    What :func:`instrument` keeps from providers, session headers and trace context, they do not get from now on either:
    threads of the host may go on, and so may whatever sends trace context.
    """
    global _suspended  # noqa: PLW0603
    with _lock:
        _suspended = True
        _end()


def uninstrument() -> None:
    """Undo :func:`instrument`; exchanges that are still open are ended. Session headers are then sent as they are."""
    with _lock:
        _take_out()
        _end()


def _take_out() -> None:
    while _undo:
        _undo.pop()()


def _end() -> None:
    _in_force.clear()
    finish_open()
    reaper.unwatch_collector()


def in_force() -> InForce | None:
    """What :func:`instrument` was last called with; None after :func:`uninstrument`."""
    return _in_force[0] if _in_force else None


def _modules() -> list[ModuleType]:
    """Each module once: httpx2 may stand in for httpx under its name."""
    found = [
        importlib.import_module(name) for name in hook.MODULES if name in sys.modules or importlib.util.find_spec(name)
    ]
    return list({id(module): module for module in found}.values())


def _tracer_of(given: TracerProvider | None) -> Callable[[], Tracer]:
    """A tracer of ``given``, or of the provider that is the global one when it is asked for; made once per provider.

    While recording is suspended, one that records nothing.
    """
    if given is not None:
        one = trace.get_tracer(names.SCOPE, _version(), given)
        return lambda: _NO_TRACER if _suspended else one
    made: list[tuple[TracerProvider, Tracer]] = []

    def tracer() -> Tracer:
        if _suspended:
            return _NO_TRACER
        provider = trace.get_tracer_provider()
        if not made or made[0][0] is not provider:
            made[:] = [(provider, trace.get_tracer(names.SCOPE, _version(), provider))]
        return made[0][1]

    return tracer


@lru_cache(maxsize=1)
def _version() -> str:
    try:
        return version("otel-sessions")
    except PackageNotFoundError:
        return "0"
