"""The store: what is inserted is what the views say, once, whichever way it arrives."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from clickhouse_server import Server, running
from opentelemetry.trace import Status, StatusCode
from recorded_spans import SECOND, START, call, span

from otel_sessions.base.errors import NotFoundError, SchemaError, SettingError, StoreError
from otel_sessions.store import CallRow, SessionRow, StepRow, Store, open_store

BEGIN = datetime.fromtimestamp(START / SECOND, UTC)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server") / "data") as started:
        yield started


@pytest.fixture(params=["chdb", "http"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    dsn = memory() if request.param == "chdb" else request.getfixturevalue("server").dsn()
    with open_store(dsn) as opened:
        opened.migrate()
        yield opened


def memory() -> str:
    """DSN of a database of the test's own in the process's engine."""
    return f"chdb://memory?database=t{uuid.uuid4().hex}"


def rows(store: Store, sql: str) -> list[tuple[Any, ...]]:
    return store.reader().query(sql).rows


def value(store: Store, sql: str) -> Any:
    [(only,)] = rows(store, sql)
    return only


@pytest.fixture
def triage(store: Store) -> Store:
    """One session: /triage (one call), /triage/classify (two, one failed), a tool, and a step span over all."""
    store.insert(
        [
            call(1, path="/triage", cost="0.000000000001", start=1, seconds=2, more={"session.name": "support"}),
            call(2, path="/triage/classify", cost=0.25, start=3, seconds=4, more={"user.id": "ada"}),
            call(3, path="/triage/classify", input_tokens=None, output_tokens=None, start=8, seconds=1,
                 status=Status(StatusCode.ERROR), more={"error.type": "429", "http.response.status_code": 429}),
            span(4, {"session.id": "s1", "session.path": "/triage/look up"}, start=9, seconds=3),
            span(5, {"session.id": "s1", "session.path": "/", "otel_sessions.step": True}, start=0.5, seconds=11.5),
        ],
        "batch-1",
    )  # fmt: skip
    return store


def test_a_session_sums_up_its_calls_and_spans_everything_in_it(triage: Store) -> None:
    """wall_seconds covers tools and steps too, llm_seconds only calls; a refused call leaves the cost complete."""
    assert triage.reader().session("s1") == SessionRow(
        session_id="s1",
        session_name="support",
        user_ids=["ada"],
        started_at=BEGIN + timedelta(seconds=0.5),
        ended_at=BEGIN + timedelta(seconds=12),
        wall_seconds=11.5,
        llm_seconds=7.0,
        calls=3,
        errors=1,
        input_tokens=200,
        cached_input_tokens=0,
        cache_write_tokens=0,
        output_tokens=20,
        reasoning_tokens=0,
        total_tokens=220,
        cost_usd=Decimal("0.250000000001"),
        cost_status="complete",
        unpriced_calls=0,
        no_usage_calls=1,
        latency_p50_seconds=2.0,
        latency_p95_seconds=pytest.approx(3.8),  # type: ignore[arg-type]
        models=["gpt-4o-2024-08-06"],
        providers=["openai"],
        services=["support"],
        spans=5,
    )


def test_steps_have_own_and_inclusive_numbers_in_tree_order(triage: Store) -> None:
    """Every path has a row, in the order of the tree, though only / has a step span."""
    steps = triage.reader().steps("s1")
    assert [
        (s.path, s.parent_path, s.depth, s.own_calls, s.calls, s.own_cost_usd, s.cost_usd, s.errors) for s in steps
    ] == [
        ("/", "", 0, 0, 3, Decimal(0), Decimal("0.250000000001"), 1),
        ("/triage", "/", 1, 1, 3, Decimal("0.000000000001"), Decimal("0.250000000001"), 1),
        ("/triage/classify", "/triage", 2, 2, 2, Decimal("0.25"), Decimal("0.25"), 1),
        ("/triage/look up", "/triage", 2, 0, 0, Decimal(0), Decimal(0), 0),
    ]
    assert [(s.wall_seconds, s.own_llm_seconds, s.llm_seconds) for s in steps] == [
        (11.5, 0.0, 7.0),
        (11.0, 2.0, 7.0),
        (6.0, 5.0, 5.0),
        (3.0, 0.0, 0.0),
    ]


def test_calls_come_in_the_order_of_their_start(triage: Store) -> None:
    """Each call is one row with its path, tokens, cost and status; unknown is None and never 0."""
    calls = triage.reader().calls("s1")
    assert [(c.span_id, c.path, c.input_tokens, c.cost_usd, c.cost_status, c.status, c.error_type) for c in calls] == [
        ("0000000000000001", "/triage", 100, Decimal("0.000000000001"), "priced", "ok", ""),
        ("0000000000000002", "/triage/classify", 100, Decimal("0.25"), "priced", "ok", ""),
        ("0000000000000003", "/triage/classify", None, None, "no_usage", "error", "429"),
    ]


def test_a_batch_that_arrives_twice_counts_once(triage: Store) -> None:
    """The same token is the same batch, in the raw table, in the calls and in every rollup."""
    again = [call(9, cost=1.0, more={"session.name": "support"}), call(10, more={"otel_sessions.billable": False})]
    for _ in range(3):
        triage.insert(again, "batch-2")
    triage.insert(again, "batch-3")
    assert value(triage, "SELECT count() FROM otel_traces") == 5 + 2 + 2
    assert value(triage, "SELECT count() FROM llm_calls") == 3 + 1 + 1
    assert value(triage, "SELECT calls FROM sessions") == 5
    assert value(triage, "SELECT sum(calls) FROM model_usage") == 5
    assert value(triage, "SELECT sum(calls) FROM path_templates WHERE path = '/'") == 5
    assert value(triage, "SELECT count() FROM suppressed_spans") == 2


def test_migrate_twice_applies_nothing_the_second_time(store: Store) -> None:
    """The second run finds every file applied, and the views still answer."""
    assert store.migrate() == ()
    assert {state.state for state in store.schema_state()} == {"applied"}


@pytest.mark.parametrize(("view", "record"), [("sessions", SessionRow), ("session_steps", StepRow), ("session_calls", CallRow)])  # fmt: skip
def test_a_record_has_exactly_the_columns_of_its_view(store: Store, view: str, record: type) -> None:
    """Reader and view agree on names and order."""
    assert store.reader().query(f"SELECT * FROM {view}").columns == tuple(f.name for f in fields(record))


def test_an_unknown_id_names_the_closest(triage: Store) -> None:
    """Prefix, then session name, then edit distance."""
    triage.insert([call(20, "s123456"), call(21, "other")], "batch-2")
    with pytest.raises(NotFoundError) as caught:
        triage.reader().session("s12")
    assert caught.value.closest == ("s123456", "s1")
    with pytest.raises(NotFoundError) as caught:
        triage.reader().session("support")
    assert caught.value.closest[0] == "s1"


def test_typed_queries_cannot_write(store: Store) -> None:
    """INSERT, DDL and SET are refused with an error that says so."""
    for statement in ("INSERT INTO otel_traces (SpanName) VALUES ('x')", "DROP TABLE llm_calls", "SET readonly = 0"):
        with pytest.raises(StoreError, match="only reading"):
            store.reader().query(statement)


def test_a_store_without_schema_says_what_to_run() -> None:
    """Reading before migrate names the command."""
    with (
        open_store(memory()) as empty,
        pytest.raises(SchemaError, match="migrate"),
    ):
        empty.reader().sessions()


@pytest.mark.parametrize(
    "dsn", ["", "otel", "chdb://", "chdb:///", "chdb://relative/path", "mysql://host/db", "http://"]
)
def test_a_wrong_dsn_is_refused(dsn: str) -> None:
    """The error names the forms that are allowed."""
    with pytest.raises(SettingError, match="chdb://memory"):
        open_store(dsn)
