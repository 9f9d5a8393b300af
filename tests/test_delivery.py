"""Delivery: every span is delivered, pending or dropped, and the caller never waits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_sessions.base.errors import StoreError, StoreUnavailableError
from otel_sessions.base.group import SpanGroup
from otel_sessions.base.values import FlushResult
from otel_sessions.delivery import Delivery, Limits

Make = Callable[[int], None]


class Destination:
    """Keeps what it was sent; ``open`` says whether it can be reached."""

    def __init__(self) -> None:
        self.batches: dict[str, list[ReadableSpan]] = {}
        self.open = threading.Event()
        self.open.set()
        self.attempts = threading.Semaphore(0)
        self.refuse = False

    def send(self, spans: Sequence[ReadableSpan], token: str) -> None:
        self.attempts.release()
        if self.refuse:
            raise StoreError("no such column")
        if not self.open.is_set():
            raise StoreUnavailableError("connection refused")
        self.batches[token] = [*spans]

    @property
    def spans(self) -> list[ReadableSpan]:
        return [span for batch in self.batches.values() for span in batch]

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]


@pytest.fixture
def destination() -> Destination:
    return Destination()


def started(destination: Destination, limits: Limits | None = None) -> tuple[Delivery, Make]:
    delivery = Delivery("here", destination.send, limits=limits or Limits(1000, 10, 0.01))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(delivery)
    tracer = provider.get_tracer("tests")

    def make(spans: int) -> None:
        for number in range(spans):
            tracer.start_span(str(number)).end()

    return delivery, make


def test_all_spans_arrive_once_in_order(destination: Destination) -> None:
    """Spans arrive once each, in the order in which they ended, in batches of the size asked for."""
    delivery, make = started(destination)
    make(95)
    assert delivery.flush(10) == FlushResult(delivered=95, pending=0, dropped=0)
    assert destination.names == [str(number) for number in range(95)]
    assert max(map(len, destination.batches.values())) <= 10
    delivery.shutdown()


def test_an_outage_loses_nothing_and_is_logged_once(destination: Destination, caplog: pytest.LogCaptureFixture) -> None:
    """While the destination is away spans are pending, and one warning names it; afterwards all arrive."""
    destination.open.clear()
    delivery, make = started(destination)
    make(30)
    assert destination.attempts.acquire(timeout=10)
    assert destination.attempts.acquire(timeout=10)
    assert delivery.flush(0.0) == FlushResult(delivered=0, pending=30, dropped=0)
    destination.open.set()
    assert delivery.flush(20) == FlushResult(delivered=30, pending=0, dropped=0)
    assert [record.getMessage() for record in caplog.records if "cannot deliver to here" in record.getMessage()] == [
        "otel-sessions: cannot deliver to here, retrying: connection refused"
    ]
    delivery.shutdown()


def test_a_retry_sends_the_same_batch_under_the_same_token() -> None:
    """A batch that was applied although the reply got lost comes again unchanged, so a token can tell."""
    seen: list[tuple[str, tuple[str, ...]]] = []

    def send(spans: Sequence[ReadableSpan], token: str) -> None:
        seen.append((token, tuple(span.name for span in spans)))
        if len(seen) == 1:
            raise StoreUnavailableError("reply lost")

    delivery = Delivery("here", send, limits=Limits(1000, 10, 0.01))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(delivery)
    for _ in range(5):
        provider.get_tracer("tests").start_span("x").end()
    assert delivery.flush(10).pending == 0
    assert seen[0] == seen[1]
    delivery.shutdown()


def test_a_full_queue_drops_the_newest_and_counts(destination: Destination) -> None:
    """With the destination away the queue keeps its oldest spans; delivered, pending and dropped add up."""
    destination.open.clear()
    delivery, make = started(destination, Limits(queue_size=20, batch_size=20, batch_age_seconds=60))
    make(50)
    result = delivery.result()
    assert result.pending + result.dropped == 50
    assert result.pending >= 20
    destination.open.set()
    assert delivery.flush(20).delivered == result.pending
    assert destination.names[:20] == [str(number) for number in range(20)]
    delivery.shutdown()


def test_a_permanent_refusal_drops_its_batch_and_goes_on(destination: Destination) -> None:
    """A batch that can never be sent is dropped and counted; the next one is delivered."""
    destination.refuse = True
    delivery, make = started(destination)
    make(5)
    assert delivery.flush(10) == FlushResult(delivered=0, pending=0, dropped=5)
    destination.refuse = False
    make(5)
    assert delivery.flush(10) == FlushResult(delivered=5, pending=0, dropped=5)
    delivery.shutdown()


def test_shutdown_counts_what_it_could_not_deliver(destination: Destination) -> None:
    """After a shutdown without a destination nothing is pending: all is dropped, and later spans too."""
    destination.open.clear()
    delivery, make = started(destination)
    make(7)
    delivery.shutdown(0.2)
    assert delivery.result() == FlushResult(delivered=0, pending=0, dropped=7)
    make(1)
    assert delivery.result() == FlushResult(delivered=0, pending=0, dropped=8)


def test_a_failing_stage_costs_the_stage_and_not_the_span(destination: Destination) -> None:
    """When a stage raises for a span, that is delivered as it was, and the others with what the stage gives them."""

    def broken(group: SpanGroup) -> Iterable[SpanGroup]:
        if any(span.name == "odd" for span in group.spans):
            raise ValueError("odd")
        return (group.given({"staged": [True] * len(group)}),)

    delivery = Delivery("here", destination.send, stages=(broken,), limits=Limits(1000, 10, 0.01))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(delivery)
    for name in ("first", "odd", "last"):
        provider.get_tracer("tests").start_span(name).end()
    assert delivery.flush(10).delivered == 3
    assert {span.name: dict(span.attributes or {}) for span in destination.spans} == {
        "first": {"staged": True},
        "odd": {},
        "last": {"staged": True},
    }
    delivery.shutdown()


def test_spans_that_are_not_sampled_are_left_alone(destination: Destination) -> None:
    """A sampler's no is respected."""
    delivery = Delivery("here", destination.send)
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(delivery)
    provider.get_tracer("tests").start_span("x").end()
    assert delivery.flush(0.1) == FlushResult()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_delivers_its_own_spans_only(destination: Destination) -> None:
    """A child starts with an empty queue and a worker of its own; the parent still delivers its spans."""
    destination.open.clear()
    delivery, make = started(destination, Limits(1000, 10, 60))
    make(3)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - runs in the child
        destination.open = threading.Event()
        destination.open.set()
        make(2)
        result = delivery.flush(10)
        os.write(write, f"{result.delivered} {result.pending} {result.dropped}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 100) == b"2 0 0"
    destination.open.set()
    assert delivery.flush(10).delivered == 3
    delivery.shutdown()
