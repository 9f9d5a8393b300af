"""The small parts of delivery: queue, accounts, verdicts, metrics, the end of the process."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from typing import Any
from weakref import WeakMethod

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan

from otel_sessions.base.errors import ForkedStoreError, SchemaError, StoreError, StoreHeldError, StoreUnavailableError
from otel_sessions.base.values import FlushResult
from otel_sessions.delivery import metrics
from otel_sessions.delivery.batch import Limits, Recipe
from otel_sessions.delivery.batcher import GROUP, Batcher
from otel_sessions.delivery.intake import Intake
from otel_sessions.delivery.ledger import DELIVERED, DISK, MEMORY, RECOVERED, Ledger
from otel_sessions.delivery.outbox import Outbox
from otel_sessions.delivery.packing import unpack
from otel_sessions.delivery.verdict import Verdict, code_of, verdict

SPAN = ReadableSpan("x")


def test_the_queue_keeps_order_and_refuses_beyond_its_size() -> None:
    """What is offered comes out in order; what there is no room for is counted by reason."""
    intake = Intake(3)
    spans = [ReadableSpan(str(number)) for number in range(5)]
    assert [intake.offer(span) for span in spans] == [1, 2, 3, 0, 0]
    assert [unpack(waiting).name for waiting in intake.take(2)] == ["0", "1"]
    assert [unpack(waiting).name for waiting in intake.take(9)] == ["2"]
    assert intake.refused() == {"queue_full": 2}


def test_what_the_next_stages_hold_takes_room_from_the_queue() -> None:
    """The bound is on all spans in memory, not on the queue alone."""
    intake = Intake(3)
    ledger = Ledger(intake)
    for _ in range(3):
        intake.offer(SPAN)
    assert len(ledger.take(2)) == 2
    assert intake.offer(SPAN) == 0
    ledger.move(2, MEMORY, DISK)
    assert intake.offer(SPAN) == 2


def test_threads_that_offer_at_the_same_time_are_all_counted() -> None:
    """Taken and refused add up to what was offered, without a lock."""
    intake = Intake(1000)
    threads = [threading.Thread(target=lambda: [intake.offer(SPAN) for _ in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(intake) + intake.refused().total() == 8000
    assert 1000 <= len(intake) <= 1003


@pytest.mark.parametrize(("age", "batches"), [(0.0, 10), (60.0, 1)])
def test_a_long_queue_is_batched_in_time(age: float, batches: int) -> None:
    """Spans are encoded in small groups, which make one batch, unless it grows older than it may while the queue is long."""
    intake = Intake(10_000)
    for _ in range(10 * GROUP):
        intake.offer(SPAN)
    ledger = Ledger(intake)
    limits = Limits(10_000, 10_000, age)
    outbox = Outbox(ledger, None, limits)
    ready: list[int] = []
    Batcher(
        Recipe(limits, lambda groups: b"x" * sum(map(len, groups))), ledger, outbox, lambda: ready.append(1)
    ).drain()
    assert len(ready) == batches
    batch = outbox.next()
    assert batch is not None
    assert (batch.spans, batch.size) == (10 * GROUP, 10 * GROUP)
    assert (len(intake), ledger.pending()) == (0, 10 * GROUP)


MOVES = st.sampled_from(["offer", "take", "spool", "deliver", "deliver from disk", "drop", "revive", "recover"])


@given(st.lists(MOVES, max_size=60))
def test_every_span_is_in_exactly_one_place(moves: list[str]) -> None:
    """Whatever happens in whatever order, the places add up to the spans that ended."""
    intake = Intake(5)
    ledger = Ledger(intake)
    made = 0
    held: Counter[str] = Counter()
    for move in moves:
        match move:
            case "offer":
                made += 1
                intake.offer(SPAN)
            case "take":
                held["memory"] += len(ledger.take(2))
            case "spool" if held["memory"]:
                held.update({"memory": -1, "disk": 1})
                ledger.move(1, MEMORY, DISK)
            case "deliver" if held["memory"]:
                held["memory"] -= 1
                ledger.move(1, MEMORY, DELIVERED)
            case "deliver from disk" if held["disk"]:
                held["disk"] -= 1
                ledger.move(1, DISK, DELIVERED)
            case "drop" if held["disk"]:
                held.update({"disk": -1, "dead": 1})
                ledger.drop(1, DISK, "refused")
            case "revive" if held["dead"]:
                held.update({"disk": 1, "dead": -1})
                ledger.revive(1, "refused")
            case "recover":
                ledger.move(3, None, RECOVERED)
        result = ledger.result()
        assert result.delivered + result.pending + result.dropped == made
        assert result.pending == result.pending_memory + result.pending_disk
        assert result.dropped == sum(result.dropped_reasons.values())
        assert min(result.delivered, result.pending_memory, result.pending_disk, result.dropped) >= 0


class CodedError(Exception):
    def __init__(self, code: object) -> None:
        self.code = code


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StoreUnavailableError("away"), Verdict.PASSING),
        (caused(StoreUnavailableError("too many parts"), CodedError(252)), Verdict.PASSING),
        (SchemaError("newer"), Verdict.DESTINATION),
        (caused(StoreError("wrong password"), CodedError(516)), Verdict.DESTINATION),
        (caused(StoreError("unknown user"), caused(ValueError(), CodedError(192))), Verdict.DESTINATION),
        (caused(StoreError("cannot parse"), CodedError(27)), Verdict.BATCH),
        (StoreError("?"), Verdict.BATCH),
        (ForkedStoreError("forked"), Verdict.ELSEWHERE),
        (StoreHeldError("held"), Verdict.ELSEWHERE),
        (ValueError("?"), Verdict.BATCH),
        (CodedError("516"), Verdict.BATCH),
    ],
)
def test_failures_are_told_apart(error: Exception, expected: Verdict) -> None:
    """By what the store raised and by the server's code, wherever in the chain of causes it is."""
    assert verdict(error) is expected


def test_no_error_has_no_code() -> None:
    """An error without code, and none at all."""
    assert code_of(None) is None
    assert code_of(ValueError()) is None


class Delivering:
    def __init__(self, result: FlushResult) -> None:
        self._result = result

    def result(self) -> FlushResult:
        return self._result


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The metric's points by attributes, as a meter provider sees them."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    monkeypatch.setattr(metrics, "_reads", {})
    monkeypatch.setattr(metrics, "_started", threading.Event())
    monkeypatch.setattr(api, "get_meter", provider.get_meter)

    def collect() -> dict[tuple[str, ...], int]:
        data = reader.get_metrics_data()
        if data is None:
            return {}
        [metric] = data.resource_metrics[0].scope_metrics[0].metrics
        assert metric.name == "otel_sessions.delivery.spans"
        points: Any = metric.data.data_points
        return {tuple(map(str, point.attributes.values())): point.value for point in points}

    yield collect
    provider.shutdown()


def test_the_accounts_are_metrics(collected: Any) -> None:
    """One point per destination and state, dropped ones by reason; a delivery that is gone is not reported."""
    here = Delivering(
        FlushResult(delivered=5, pending=3, dropped=2, pending_disk=1, recovered=4, dropped_reasons={"queue_full": 2})
    )
    gone = Delivering(FlushResult())
    metrics.observe("here", WeakMethod(here.result))
    metrics.observe("gone", WeakMethod(gone.result))
    del gone
    assert collected() == {
        ("here", "delivered"): 5,
        ("here", "pending_memory"): 2,
        ("here", "pending_disk"): 1,
        ("here", "recovered"): 4,
        ("here", "dropped", "queue_full"): 2,
    }


def test_the_end_of_a_process_calls_back_once_per_process() -> None:
    """Also in children of multiprocessing, also when it was imported later, and in their children."""
    program = """
import os
from otel_sessions.base.exits import at_exit
ran = []
def end():
    if not ran:
        ran.append(1)
        os.write(1, b"end\\n")
at_exit(end)
import multiprocessing
def child(depth):
    if depth:
        start(depth - 1)
def start(depth):
    process = multiprocessing.get_context("fork").Process(target=child, args=(depth,))
    process.start()
    process.join()
start(1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "end\n" * 3
