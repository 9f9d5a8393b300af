"""The accounts as OpenTelemetry metrics, read when the host's meter provider collects, never before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from otel_sessions.base.values import FlushResult

NAME = "otel_sessions.delivery.spans"
"""Spans of this process by ``destination``, ``state`` and, where dropped, ``reason``."""

Read = Callable[[], Callable[[], FlushResult] | None]
"""A weak reference to the method that tells where the spans stand."""

_reads: dict[str, Read] = {}
_started = threading.Event()


def observe(destination: str, read: Read) -> None:
    """Report what ``read`` refers to as the spans for ``destination``, in place of what was reported before."""
    _reads[destination] = read
    if not _started.is_set():
        _started.set()
        # Before a meter provider is set this is a proxy, which becomes real when one is.
        metrics.get_meter("otel_sessions").create_observable_up_down_counter(
            NAME, callbacks=[_observations], unit="{span}", description="Spans by where they are"
        )


def _observations(_: CallbackOptions) -> Iterable[Observation]:
    for destination, read in tuple(_reads.items()):
        result = read()
        if result is None:
            del _reads[destination]
        else:
            yield from _of(destination, result())


def _of(destination: str, result: FlushResult) -> Iterable[Observation]:
    states = {
        "delivered": result.delivered,
        "pending_memory": result.pending - result.pending_disk,
        "pending_disk": result.pending_disk,
        "recovered": result.recovered,
    }
    for state, spans in states.items():
        yield Observation(spans, {"destination": destination, "state": state})
    for reason, spans in result.dropped_reasons.items():
        yield Observation(spans, {"destination": destination, "state": "dropped", "reason": reason})
