"""The views over many sessions: names, paths, models, and what could not be priced or was not counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from recorded_spans import SECOND, START, call, span

from otel_sessions.base.errors import SettingError
from otel_sessions.store import Store

BEGIN = datetime.fromtimestamp(START / SECOND, UTC)
DAY = timedelta(days=1)


def rows(store: Store, sql: str) -> list[tuple[Any, ...]]:
    return store.reader().query(sql).rows


@pytest.fixture
def three(store: Store) -> Store:
    """Sessions a and b named support, costing 1 and 3; c without name and price; two batches, one day apart each."""
    named = {"session.name": "support"}
    store.insert(
        [
            call(1, "a", "/triage", cost=0.25, more=named, seconds=1),
            call(2, "a", "/triage/classify", cost=0.75, more=named, start=1, seconds=3),
            call(3, "b", "/triage", cost=3, start=86400, seconds=5),
        ],
        "one",
    )
    store.insert(
        [
            span(4, {"session.id": "b", "session.path": "/", **named}, start=86410, seconds=1),
            call(5, "c", "/x", start=2 * 86400, more={"gen_ai.response.model": "homegrown-1"}),
        ],
        "two",
    )
    return store


def test_session_names_sum_over_their_sessions(three: Store) -> None:
    """Total, percentiles and maximum of the cost; sessions without a known cost have none."""
    sql = "SELECT session_name, sessions, calls, cost_usd, cost_p50_usd, cost_max_usd FROM session_names ORDER BY 1"
    assert rows(three, sql) == [
        ("", 1, 1, None, None, None),
        ("support", 2, 3, Decimal(4), 2.0, Decimal(3)),
    ]


def test_path_templates_count_unnamed_spans_under_the_name_of_their_session(three: Store) -> None:
    """A call of b carries no name, another span of b does: the call counts under support."""
    sql = "SELECT path, sessions, calls, own_calls, cost_usd, cost_p50_usd, llm_seconds, latency_p50_seconds FROM path_templates WHERE session_name = 'support' ORDER BY path"
    assert rows(three, sql) == [
        ("/", 2, 3, 0, Decimal(4), 2.0, 9.0, 3.0),
        ("/triage", 2, 3, 2, Decimal(4), 2.0, 9.0, 3.0),
        ("/triage/classify", 1, 1, 1, Decimal("0.75"), 0.75, 3.0, 3.0),
    ]


def test_model_usage_counts_calls_outside_sessions_too(three: Store) -> None:
    """One row per hour and model; errors, tokens and the time to first chunk of streams."""
    three.insert(
        [
            call(7, "", cost=1, more={"gen_ai.response.time_to_first_chunk": 0.5}),
            call(8, "", more={"error.type": "Timeout"}, input_tokens=None, output_tokens=None),
        ],
        "three",
    )
    sql = "SELECT model, calls, errors, input_tokens, cost_usd, ttft_p50_seconds FROM model_usage ORDER BY hour, model"
    assert rows(three, sql) == [
        ("gpt-4o-2024-08-06", 4, 1, 300, Decimal(2), 0.5),
        ("gpt-4o-2024-08-06", 1, 0, 100, Decimal(3), None),
        ("homegrown-1", 1, 0, 100, None, None),
    ]


def test_unpriced_models_say_what_lacks_a_price(three: Store) -> None:
    """Calls with usage and no price, with their tokens and when they were seen."""
    assert rows(three, "SELECT * FROM unpriced_models") == [
        ("openai", "homegrown-1", 1, 100, 10, 110, BEGIN + 2 * DAY, BEGIN + 2 * DAY)
    ]


def test_sessions_are_picked_whole_by_their_start(three: Store) -> None:
    """A session that starts before the window is not in it, one that starts inside is there with all its calls."""
    reader = three.reader()
    inside = reader.sessions(since=BEGIN + DAY, until=BEGIN + 2 * DAY)
    assert [(row.session_id, row.calls, row.wall_seconds) for row in inside] == [("b", 1, 11.0)]
    three.insert([call(9, "a", start=86400 * 1.5)], "late")
    assert [row.session_id for row in reader.sessions(since=BEGIN + DAY, until=BEGIN + 2 * DAY)] == ["b"]
    assert reader.session("a").calls == 3


def test_sessions_are_filtered_and_ordered(three: Store) -> None:
    """By name, user and outcome; the largest first, unknown costs last."""
    three.insert([call(9, "c", more={"user.id": "ada", "error.type": "500"})], "more")
    reader = three.reader()
    assert [row.session_id for row in reader.sessions()] == ["b", "a", "c"]
    assert [row.session_id for row in reader.sessions(order_by="cost_usd")] == ["b", "a", "c"]
    assert [row.session_id for row in reader.sessions(order_by="wall_seconds", limit=1)] == ["c"]
    assert [row.session_id for row in reader.sessions(name="support", order_by="total_tokens")] == ["a", "b"]
    assert [row.session_id for row in reader.sessions(user_id="ada", status="error")] == ["c"]
    assert reader.sessions(name="support", status="error") == []
    with pytest.raises(SettingError, match="cost_usd"):
        reader.sessions(order_by="; DROP TABLE llm_calls")


@pytest.mark.parametrize(
    ("costs", "status", "total"),
    [
        ([1, 2], "complete", Decimal(3)),
        ([1, None], "partial", Decimal(1)),
        ([None, None], "unknown", None),
        ([], "complete", Decimal(0)),
    ],
)
def test_an_unknown_cost_is_never_a_silent_zero(
    store: Store, costs: list[int | None], status: str, total: Decimal | None
) -> None:
    """complete, partial or unknown, in the session and its root step; without calls nothing is unknown."""
    spans = [span(100, {"session.id": "s1"})]
    spans += [
        call(number, cost=cost, more={"gen_ai.response.model": "m", "gen_ai.request.model": "m"})
        for number, cost in enumerate(costs, 1)
    ]
    store.insert(spans, "batch")
    session = store.reader().session("s1")
    assert (session.cost_status, session.cost_usd) == (status, total)
    assert session.unpriced_calls == costs.count(None)
    root = store.reader().steps("s1")[0]
    assert (root.cost_status, root.cost_usd, root.unpriced_calls) == (status, total, costs.count(None))


REFUSED: dict[str, Any] = {
    "input_tokens": None, "output_tokens": None, "more": {"error.type": "401", "http.response.status_code": 401}
}  # fmt: skip
UNPRICED: dict[str, Any] = {"more": {"gen_ai.response.model": "m", "gen_ai.request.model": "m"}}


def costs(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """What each view says that the session and the step /a cost."""
    both = "WHERE path IN ('/', '/a') ORDER BY path"
    return {
        "sessions": rows(store, "SELECT cost_usd FROM sessions"),
        "session_steps": rows(store, f"SELECT cost_usd, own_cost_usd FROM session_steps {both}"),
        "session_names": rows(store, "SELECT cost_usd, cost_p50_usd, cost_p95_usd, cost_max_usd FROM session_names"),
        "path_templates": rows(
            store, f"SELECT cost_usd, own_cost_usd, cost_p50_usd, cost_p95_usd FROM path_templates {both}"
        ),
        "order": [(row.cost_usd,) for row in store.reader().sessions(order_by="cost_usd")],
    }


@pytest.mark.parametrize(
    ("calls", "cost"),
    [
        ([REFUSED], Decimal(0)),
        ([REFUSED, {"cost": 2}], Decimal(2)),
        ([REFUSED, UNPRICED], None),
        ([REFUSED, UNPRICED, {"cost": 2}], Decimal(2)),
        ([UNPRICED, {"cost": 0}], Decimal(0)),
    ],
)
def test_what_is_not_billed_costs_nothing_in_every_view(
    store: Store, calls: list[dict[str, Any]], cost: Decimal | None
) -> None:
    """A refused call is known to cost 0, alone or beside others; it makes no unknown cost a known one."""
    store.insert([call(number, path="/a", **each) for number, each in enumerate(calls, 1)], "batch")
    none = Decimal(0)  # no call at the root itself
    assert costs(store) == {
        "sessions": [(cost,)],
        "session_steps": [(cost, none), (cost, cost)],
        "session_names": [(cost, cost, cost, cost)],
        "path_templates": [(cost, none, cost, cost), (cost, cost, cost, cost)],
        "order": [(cost,)],
    }


def test_sessions_that_were_refused_are_in_the_percentiles(store: Store) -> None:
    """Of three sessions that cost 0, 0 and 3 the median is 0; by cost, sessions of 0 come before unknown ones."""
    store.insert(
        [
            call(1, "a", **UNPRICED),
            call(2, "b", "/a", **REFUSED),
            call(3, "c", "/a", **REFUSED),
            call(4, "d", "/a", cost=3),
        ],
        "batch",
    )
    assert rows(store, "SELECT cost_usd, cost_p50_usd, cost_max_usd FROM session_names") == [(3, 0, 3)]
    assert rows(store, "SELECT cost_usd, cost_p50_usd FROM path_templates WHERE path = '/a'") == [(3, 0)]
    assert [row.session_id for row in store.reader().sessions(order_by="cost_usd")] == ["d", "b", "c", "a"]


def test_steps_and_tools_are_no_calls_whatever_usage_they_repeat(store: Store) -> None:
    """Agents, tools and step spans may carry their children's tokens; only the model call counts."""
    usage = {"session.id": "s1", "gen_ai.usage.input_tokens": 7, "gen_ai.usage.cost": 9.0}
    store.insert(
        [
            span(1, {**usage, "gen_ai.operation.name": "invoke_agent"}),
            span(2, {**usage, "gen_ai.operation.name": "execute_tool"}),
            span(3, {**usage, "gen_ai.operation.name": "chat", "otel_sessions.step": True}),
            span(4, {**usage, "gen_ai.operation.name": "chat", "otel_sessions.billable": False, "otel_sessions.superseded_by": "ab"}),
            call(5, cost=1),
        ],
        "batch",
    )  # fmt: skip
    session = store.reader().session("s1")
    assert (session.calls, session.input_tokens, session.cost_usd, session.spans) == (1, 100, Decimal(1), 5)
    assert rows(
        store, "SELECT span_id, superseded_by, input_tokens, cost_usd FROM suppressed_spans WHERE superseded_by != ''"
    ) == [(f"{4:016x}", "ab", 7, Decimal(9))]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"gen_ai.operation.name": "chat", "gen_ai.usage.prompt_tokens": "5"}, ("chat", 5)),
        ({"openinference.span.kind": "LLM", "llm.token_count.prompt": 6}, ("chat", 6)),
        ({"llm.request.type": "completion", "gen_ai.usage.input_tokens": "7"}, ("text_completion", 7)),
        ({"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": "none"}, ("embeddings", None)),
    ],
)
def test_other_instrumentations_calls_are_read(store: Store, attributes: dict[str, Any], expected: object) -> None:
    """OpenTelemetry latest and legacy, OpenInference, Traceloop; numbers may be text, as a Collector writes them."""
    store.insert([span(1, {"gen_ai.conversation.id": "c1", **attributes})], "batch")
    [row] = store.reader().calls("c1")
    assert (row.operation, row.input_tokens) == expected
