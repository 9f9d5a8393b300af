"""Spans that were stored twice are found, and a rebuild counts them once, also while others arrive."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from memory_store import memory_store
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from recorded_spans import call, span

from otel_sessions.base.errors import StoreError, StoreUnavailableError
from otel_sessions.prices import book_version, rows_for
from otel_sessions.store import Store, rebuilding
from otel_sessions.store.repricing import Again

BOOK = [*rows_for("openai", "gpt-4o-2024-08-06"), *rows_for("openai", "gpt-4o")]
MONTH = 32 * 86_400.0
VIEWS = {
    "sessions": "SELECT * FROM sessions ORDER BY session_id",
    "session_steps": "SELECT * FROM session_steps ORDER BY session_id, path",
    "session_calls": "SELECT * FROM session_calls ORDER BY trace_id, span_id",
    "suppressed_spans": "SELECT * FROM suppressed_spans ORDER BY trace_id, span_id",
    "path_templates": "SELECT * FROM path_templates ORDER BY session_name, path",
    "model_usage": "SELECT * FROM model_usage ORDER BY hour, provider, model",
    "unpriced_models": "SELECT * FROM unpriced_models ORDER BY provider, model",
}


@pytest.fixture
def store() -> Iterator[Store]:
    with memory_store() as opened:
        opened.add_prices(BOOK, book_version())
        yield opened


def insert(store: Store, *spans: ReadableSpan) -> None:
    store.insert(spans, uuid.uuid4().hex)


def rows(store: Store, sql: str) -> list[tuple[Any, ...]]:
    return store.reader().query(sql).rows


def everything(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    return {view: rows(store, query) for view, query in VIEWS.items()}


def other(number: int, scope: str = "sdk", **rest: Any) -> ReadableSpan:
    return call(number, scope=InstrumentationScope(scope, "1"), **rest)


def told() -> list[ReadableSpan]:
    """Two months, certain calls and open ones, nested, moved and failed, with and without a session and a price."""
    return [
        call(1, "s1", "/a", start=1),
        call(2, "s1", "/a/b", start=MONTH, cost="0.25", trace=5),
        span(3, {"session.id": "s1", "session.path": "/a"}, seconds=9),
        other(11, "framework", start=3, seconds=5, trace=7),
        other(12, "sdk", start=4, seconds=2, trace=7, parent=11),
        span(21, {"session.id": "s2", "session.name": "n"}, start=MONTH, seconds=9, trace=8),
        other(22, "sdk", session="", path="", start=MONTH + 1, trace=8, parent=21),
        other(31, session="", path="", trace=9),
        call(32, "s3", more={"gen_ai.request.model": "unheard-of", "gen_ai.response.model": "unheard-of"}),
    ]


def test_duplicates_are_listed_with_what_they_count_too_much(store: Store) -> None:
    """One row per span that is there more than once; a filter by time or session is one on the rows."""
    insert(store, call(1), call(2, "s2", start=MONTH))
    insert(store, call(1))
    insert(store, call(1), call(3))
    query = "SELECT session_id, span_id, span_name, service, copies, surplus FROM duplicate_spans"
    assert rows(store, query) == [("s1", "0000000000000001", "chat gpt-4o", "support", 3, 2)]
    assert rows(store, f"{query} WHERE started_at >= '2026-01-20 00:00:00'") == []
    insert(store, call(2, "s2", start=MONTH))
    assert [row[0] for row in rows(store, f"{query} WHERE started_at >= '2026-01-20 00:00:00'")] == ["s2"]
    assert [row[0] for row in rows(store, f"{query} WHERE session_id = 's1'")] == ["s1"]
    assert store.look_for_duplicates().duplicates == 3


def test_a_rebuild_says_the_same_as_a_store_that_never_saw_a_duplicate(store: Store) -> None:
    """Every view, percentiles included, and the raw spans; the price book stays."""
    insert(store, *told())
    expected = everything(store)
    insert(store, *told()[:5])
    insert(store, *told()[4:])
    assert everything(store) != expected
    result = store.rebuild()
    assert everything(store) == expected
    assert (result.spans, result.duplicates, result.calls_after) == (19, 10, 6)
    assert result.calls_before > 6
    assert result.cost_after_usd is not None
    assert rows(store, "SELECT count(), uniqExact(SpanId) FROM otel_traces") == [(9, 9)]
    assert rows(store, "SELECT count() FROM duplicate_spans") == [(0,)]
    assert rows(store, "SELECT count() FROM system.databases WHERE name LIKE currentDatabase() || '_rebuild'") == [(0,)]


def test_after_a_rebuild_the_store_goes_on(store: Store) -> None:
    """What arrives is counted, settled against what was there, and a batch that is sent again is known."""
    insert(store, *told())
    store.insert(told(), "a")
    store.rebuild()
    store.insert(told(), "a")
    assert rows(store, "SELECT count() FROM otel_traces") == [(9,)]
    before = rows(store, "SELECT sum(calls) FROM sessions")[0][0]
    store.insert([call(41, "s4"), other(42, "outer", seconds=9, start=2, trace=99)], "b")
    store.insert([call(41, "s4"), other(42, "outer", seconds=9, start=2, trace=99)], "b")
    assert rows(store, "SELECT calls FROM sessions WHERE session_id = 's4'") == [(1,)]
    assert rows(store, "SELECT sum(calls) FROM sessions") == [(before + 2,)]
    wrapper = other(10, "agent", start=2, seconds=9, trace=7)
    insert(store, wrapper, call(13, "s1", start=4.5, seconds=1, parent=12, trace=7))
    assert rows(store, "SELECT count() FROM suppressed_spans WHERE trace_id LIKE '%07'") == [(3,)]


def test_a_user_s_prices_stand(store: Store) -> None:
    """Calls are priced by the book as it is, with the user's own rows."""
    insert(store, call(1), call(1))
    price = next(row for row in BOOK if row.model == "gpt-4o-2024-08-06" and not row.service_tier)
    own = replace(
        price, origin="user", valid_from=datetime(2025, 1, 1, tzinfo=UTC), input=Decimal(1000), output=Decimal(0)
    )
    store.replace_prices([own], book_version() + 1)
    store.reprice(Again())
    store.rebuild()
    assert rows(store, "SELECT calls, toFloat64(cost_usd) FROM sessions") == [(1, 0.1)]


def test_what_arrives_during_a_rebuild_is_counted_once(store: Store) -> None:
    """Batches that are sent all the time, and sent again when the store refuses them, all arrive, and once."""
    insert(store, *told())
    insert(store, *told())
    calls = rows(store, "SELECT uniqExact(span_id) FROM llm_calls")[0][0]
    begun, ended = threading.Event(), threading.Event()
    sent: list[int] = []
    refused: list[StoreUnavailableError] = []

    def send() -> None:
        number = 1000
        while not ended.is_set() or number < 1010:
            number += 1
            batch = [
                call(number, f"late{number % 7}", start=number, trace=number),
                other(number + 100_000, "x", start=number, trace=number, input_tokens=number),
            ]
            while True:
                try:
                    store.insert(batch, f"late-{number}")
                    break
                except StoreUnavailableError as error:
                    refused.append(error)
            sent.append(number)
            begun.set()

    sender = threading.Thread(target=send)
    sender.start()
    begun.wait()
    store.rebuild()
    during = len(sent)
    ended.set()
    sender.join()
    assert during > 1
    assert rows(store, "SELECT sum(calls) FROM sessions WHERE session_id LIKE 'late%'") == [(len(sent),)]
    assert rows(store, "SELECT count(), uniqExact(SpanId) FROM otel_traces") == [(9 + 2 * len(sent),) * 2]
    assert rows(store, "SELECT count(), uniqExact(span_id) FROM llm_calls") == [(calls + 2 * len(sent),) * 2]
    assert rows(store, "SELECT sum(calls) FROM model_usage") == [(calls + 2 * len(sent),)]


@pytest.mark.parametrize("table", ["otel_traces", "model_rollup"])
def test_a_rebuild_that_was_cut_short_is_started_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """Wherever it stopped: spans are taken again, nothing is left over, and the next rebuild puts all right."""
    insert(store, *told())
    expected = everything(store)
    insert(store, *told())
    swap = rebuilding._swap

    def fail(*arguments: Any) -> None:
        if arguments[2] == table:
            raise StoreUnavailableError("gone")
        swap(*arguments)

    monkeypatch.setattr(rebuilding, "_swap", fail)
    with pytest.raises(StoreUnavailableError, match="gone"):
        store.rebuild()
    monkeypatch.undo()
    insert(store, told()[0])
    store.rebuild()
    assert everything(store) == expected


def test_calls_whose_spans_are_gone_are_not_lost_without_being_asked(store: Store) -> None:
    """A store whose raw spans were deleted keeps its calls; the error says how many, and how to do it all the same."""
    insert(store, *told())
    store._connection.command("ALTER TABLE otel_traces DROP PARTITION ID '202601'")
    calls = rows(store, "SELECT count() FROM llm_calls")
    with pytest.raises(StoreError, match=r"\d+ calls .* \(months 202601\).*--force"):
        store.rebuild()
    assert rows(store, "SELECT count() FROM llm_calls") == calls
    assert store.rebuild(force=True).calls_after == 2


def test_an_empty_store_is_rebuilt(store: Store) -> None:
    """There is nothing to do, and nothing fails."""
    assert store.rebuild().calls_after == 0
    insert(store, call(1))
    assert rows(store, "SELECT calls FROM sessions") == [(1,)]
