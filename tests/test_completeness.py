"""session_completeness: whether all that a process made of a session is in the store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from recorded_spans import span

from otel_sessions.base import names
from otel_sessions.base.group import grouped
from otel_sessions.delivery import Delivery, Limits, numbering
from otel_sessions.delivery.numbering import Numbering
from otel_sessions.processor import SessionSpanProcessor
from otel_sessions.sessions import session, step
from otel_sessions.store import Store

COLUMNS = "session_id, made, arrived, missing, duplicates, has_ended, is_complete"


def recording(store: Store, limits: Limits | None = None, **more: Any) -> tuple[TracerProvider, Delivery]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SessionSpanProcessor(tracer_provider=provider))
    limits = limits or Limits(1000, 100, 60)
    delivery = Delivery("store", store.insert_encoded, encode=Store.encode, numbered=True, limits=limits, **more)
    provider.add_span_processor(delivery)
    return provider, delivery


def completeness(store: Store) -> list[tuple[Any, ...]]:
    return store.reader().query(f"SELECT {COLUMNS} FROM session_completeness ORDER BY session_id").rows


def test_a_session_that_ended_and_arrived_is_complete(store: Store) -> None:
    """All spans of the block, its step spans included, and nothing else is counted."""
    provider, delivery = recording(store)
    tracer = provider.get_tracer("tests")
    with session("done"), step("a"):
        for _ in range(3):
            tracer.start_span("x").end()
    with session("open"):
        tracer.start_span("x").end()
        delivery.flush(10)
        assert completeness(store) == [
            ("done", 5, 5, 0, 0, True, True),
            ("open", 1, 1, 0, 0, False, False),
        ]
    tracer.start_span("in no session").end()
    delivery.flush(10)
    assert completeness(store) == [("done", 5, 5, 0, 0, True, True), ("open", 2, 2, 0, 0, True, True)]
    delivery.shutdown()


def test_a_dropped_span_leaves_a_gap(store: Store) -> None:
    """What the full queue refused is missing, and the session is not called complete."""
    provider, delivery = recording(store, Limits(queue_size=5, batch_size=100, batch_age_seconds=60))
    tracer = provider.get_tracer("tests")
    with session("s"):
        for _ in range(8):
            tracer.start_span("x").end()
        delivery.flush(10)
    delivery.flush(10)
    assert delivery.result().dropped == 3
    assert completeness(store) == [("s", 9, 6, 3, 0, True, False)]
    delivery.shutdown()


def test_a_batch_that_was_refused_leaves_a_gap(store: Store) -> None:
    """Lost batches show, wherever they were lost."""
    provider, delivery = recording(store)
    sent: list[str] = []

    def lossy(blocks: Iterable[bytes], token: str) -> None:
        sent.append(token)
        if len(sent) == 1:
            raise ValueError("lost")
        store.insert_encoded(blocks, token)

    delivery.shutdown()
    delivery = Delivery("lossy", lossy, encode=Store.encode, numbered=True, limits=Limits(1000, 100, 60))
    provider.add_span_processor(delivery)
    with session("s"):
        provider.get_tracer("tests").start_span("lost").end()
        delivery.flush(10)
    delivery.flush(10)
    assert completeness(store) == [("s", 2, 1, 1, 0, True, False)]
    delivery.shutdown()


def test_spans_that_came_twice_are_counted(store: Store) -> None:
    """A batch under two tokens, as an exporter without tokens would send it, shows as duplicates."""
    numbers = Numbering("p")
    spans = [span(number, {names.SESSION_ID: "s"}) for number in range(1, 4)]
    block = Store.encode(grouped(spans, [numbered(numbers, one) for one in spans]))
    for token in "ab":
        store.insert_encoded([block], token)
    assert completeness(store) == [("s", 3, 3, 0, 3, False, False)]


def numbered(numbers: Numbering, one: ReadableSpan) -> dict[str, Any]:
    attributes = dict(one.attributes or {})
    numbers.number(attributes)
    return attributes


def marks(numbers: Numbering, one: ReadableSpan) -> tuple[Any, ...]:
    found = numbered(numbers, one)
    return tuple(found.get(name) for name in (names.PROCESS, names.SEQUENCE, names.END))


def test_each_session_is_numbered_for_itself() -> None:
    """From 1 per session; the step span of / is the end, those of other paths are not."""
    numbers = Numbering("p")
    a, b = {names.SESSION_ID: "a"}, {names.SESSION_ID: "b"}
    end = {**a, names.SESSION_PATH: "/", names.STEP: True}
    spans = [span(1, a), span(2, b), span(3, a), span(4, {**end, names.SESSION_PATH: "/x"}), span(5, end), span(6)]
    assert [marks(numbers, one) for one in spans] == [
        ("p", 1, None),
        ("p", 1, None),
        ("p", 2, None),
        ("p", 3, None),
        ("p", 4, True),
        (None, None, None),
    ]
    assert numbered(numbers, spans[5]) == {}


def test_after_drops_of_unknown_sessions_no_end_is_certain() -> None:
    """When it cannot be known whose spans were lost, no session is called complete any more."""
    numbers = Numbering("p")
    numbers.doubt()
    assert marks(numbers, span(1, {names.SESSION_ID: "a", names.SESSION_PATH: "/", names.STEP: True})) == (
        "p",
        1,
        None,
    )


def test_numbers_are_never_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more sessions than it remembers the process goes on under another name."""
    monkeypatch.setattr(numbering, "_MAX_SESSIONS", 2)
    numbers = Numbering("p")
    found = [marks(numbers, span(1, {names.SESSION_ID: name}))[:2] for name in ("a", "b", "a", "c", "a")]
    assert found == [("p", 1), ("p", 1), ("p", 2), ("p.1", 1), ("p.1", 1)]
