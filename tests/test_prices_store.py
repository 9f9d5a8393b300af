"""The price book in the store: which price a call gets, whoever wrote its span, and prices that change later."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from memory_store import memory_store
from opentelemetry.sdk.trace import ReadableSpan
from recorded_spans import SECOND, START, call, span

from otel_sessions.base import names
from otel_sessions.base.errors import StoreError, StoreUnavailableError
from otel_sessions.base.group import grouped
from otel_sessions.base.guard import counters
from otel_sessions.base.price import PriceRow
from otel_sessions.prices import PriceRegistry, book_version, rows_for
from otel_sessions.store import Again, PriceChange, Store

BEGIN = datetime.fromtimestamp(START / SECOND, UTC)
GPT_4O = Decimal("0.000350000000")
"""100 tokens in, 10 out, at $2.50 and $10 per million."""
BOOK = [*rows_for("openai", "gpt-4o-2024-08-06"), *rows_for("openai", "gpt-4o")]


@pytest.fixture
def book(store: Store) -> Store:
    """A store whose price book knows gpt-4o by both of its names."""
    store.add_prices(BOOK, book_version())
    return store


@pytest.fixture(scope="module")
def shared() -> Iterator[Store]:
    """The same for tests that change no price and have a session each."""
    with memory_store() as opened:
        opened.add_prices(BOOK, book_version())
        yield opened


def user_row(**changed: Any) -> PriceRow:
    """A price of the user's own for gpt-4o: a dollar per million tokens, in and out."""
    prices = {"input": Decimal(1), "cached_input": Decimal(1), "output": Decimal(1), "reasoning": Decimal(1)}
    named = {"provider": "openai", "model": "gpt-4o-2024-08-06", "origin": "user", "source": "prices.csv"}
    return PriceRow(**{**named, **prices, **changed})


def costs(store: Store) -> list[tuple[Decimal | None, str, str]]:
    return [(c.cost_usd, c.cost_status, c.cost_source) for c in store.reader().calls("s1")]


def priced(store: Store, **given: Any) -> tuple[Decimal | None, str]:
    """Cost and status of the call, in a session of its own."""
    session = uuid.uuid4().hex
    store.insert([call(session=session, **given)], session)
    [found] = store.reader().calls(session)
    return found.cost_usd, found.cost_status


def test_a_span_from_elsewhere_is_priced_like_ours(book: Store) -> None:
    """Text values and no cost, as a Collector writes them: the amount and its source come from the book."""
    text = {names.INPUT_TOKENS: "100", names.OUTPUT_TOKENS: "10"}
    book.insert([call(more=text)], "batch")
    [(amount, status, source)] = costs(book)
    assert (amount, status) == (GPT_4O, "priced")
    assert source.startswith("genai-prices")
    assert source.endswith("openai/gpt-4o")


def test_a_cost_that_the_response_carried_stands(book: Store) -> None:
    """What OpenRouter says it charged is the cost, whatever the book says."""
    charged = {names.COST: 0.5, names.COST_STATUS: "provided", names.COST_SOURCE: "response"}
    book.insert([call(more=charged)], "batch")
    assert costs(book) == [(Decimal("0.5"), "provided", "response")]


def test_the_cost_on_a_span_counts_while_the_book_has_no_row(store: Store) -> None:
    """A process that could not register its models has priced its spans all the same."""
    store.insert([call(cost="0.25", more={names.COST_SOURCE: "genai-prices"})], "batch")
    assert costs(store) == [(Decimal("0.25"), "priced", "genai-prices")]


def test_the_users_price_wins_from_its_day_on(book: Store) -> None:
    """Over the book and over the cost on the span; calls before that day keep the list price."""
    book.replace_prices([user_row(valid_from=BEGIN + timedelta(hours=1))], 1)
    book.insert([call(1), call(2, cost="9", start=7200)], "batch")
    assert [(amount, source) for amount, _, source in costs(book)] == [
        (GPT_4O, costs(book)[0][2]),
        (Decimal("0.00011"), "prices.csv"),
    ]


def test_a_service_tier_keeps_its_own_price(book: Store) -> None:
    """A price of the user's own for the standard tier says nothing about the priority tier."""
    book.replace_prices([user_row()], 1)
    october = (datetime(2026, 11, 1, tzinfo=UTC) - BEGIN).total_seconds()
    on_priority = {names.RESPONSE_SERVICE_TIER: "priority"}
    assert priced(book, start=october, more=on_priority) == (Decimal("0.000595"), "priced")


def test_the_requested_model_prices_a_call_whose_answer_names_a_deployment(shared: Store) -> None:
    """The model that answered has no row, the one asked for has."""
    assert priced(shared, more={names.RESPONSE_MODEL: "my-deployment"}) == (GPT_4O, "priced")


@pytest.mark.parametrize(
    "more",
    [
        {names.CACHE_READ_TOKENS: 101},
        {names.CACHE_READ_TOKENS: 60, names.CACHE_CREATION_TOKENS: 60},
        {names.CACHE_CREATION_TOKENS: 10, names.CACHE_CREATION_1H_TOKENS: 11},
        {names.REASONING_TOKENS: 11},
        {names.INPUT_TOKENS: None},
        {names.INPUT_TOKENS: -100},
        {names.INPUT_TOKENS: "many"},
        {names.INPUT_TOKENS: 2**63},
        {names.OUTPUT_TOKENS: 10**15},
        {names.RESPONSE_MODEL: "no-such-model", names.REQUEST_MODEL: "nor-this"},
        {names.PROVIDER: "no-such-provider"},
    ],
    ids=str,
)
def test_usage_that_cannot_be_right_has_no_price(shared: Store, more: dict[str, Any]) -> None:
    """Parts larger than their whole, no input, absurd numbers, unknown names: no amount, and never zero."""
    assert priced(shared, more=more) == (None, "unpriced")


def test_nothing_known_is_not_a_missing_price(shared: Store) -> None:
    """Without tokens there is nothing to price."""
    assert priced(shared, input_tokens=None, output_tokens=None) == (None, "no_usage")


def test_a_batch_that_arrives_twice_is_priced_once(book: Store) -> None:
    """The book in between the two may have changed: the first price stays, once."""
    book.insert([call()], "batch")
    book.replace_prices([user_row()], 1)
    book.insert([call()], "batch")
    assert book.reader().session("s1").cost_usd == GPT_4O
    assert len(costs(book)) == 1


def test_rows_are_added_once_and_replaced_on_request(book: Store) -> None:
    """A second process that registers the same names adds nothing; the user's new file replaces the old one."""
    rows = rows_for("openai", "gpt-4o")
    assert book.add_prices(rows, book_version()) == 0
    book.replace_prices([user_row(), user_row(service_tier="flex")], 1)
    book.replace_prices([user_row(input=Decimal(2))], 2)
    found = book.reader().query("SELECT service_tier, input FROM model_prices WHERE origin = 'user'").rows
    assert found == [("", Decimal(2))]


def price(registry: PriceRegistry, one: ReadableSpan) -> None:
    list(registry.price(grouped([one])[0]))


def test_the_registry_brings_each_model_once() -> None:
    """Both names of a call, with the first batch that has them; a second publication is empty."""
    added: list[list[str]] = []
    registry = PriceRegistry(lambda rows, version: added.append(sorted({row.model for row in rows})))
    for _ in range(2):
        price(registry, call())
        price(registry, span(2, {"gen_ai.operation.name": "execute_tool"}))
        registry.publish()
    assert added == [["gpt-4o", "gpt-4o-2024-08-06"]]


def test_names_that_someone_makes_up_are_not_kept() -> None:
    """A name of a megabyte is no model; the registry forgets it at once."""
    registry = PriceRegistry(lambda rows, version: pytest.fail("nothing to add"))
    price(registry, call(more={names.RESPONSE_MODEL: "x" * 2**20, names.REQUEST_MODEL: None}))
    registry.publish()
    assert registry._names == {}


def test_a_store_that_is_away_is_asked_again() -> None:
    """The batch waits for its prices as it waits for its store; any other failure does not hold it up."""
    answers: list[Exception | None] = [StoreUnavailableError("away"), StoreError("no table"), None]
    asked: list[int] = []

    def add(rows: object, version: int) -> None:
        asked.append(version)
        if (answer := answers.pop(0)) is not None:
            raise answer

    registry = PriceRegistry(add)
    price(registry, call())
    with pytest.raises(StoreUnavailableError):
        registry.publish()
    before = counters().get("error.prices", 0)
    registry.publish()
    registry.publish()
    assert len(asked) == 2
    assert counters()["error.prices"] == before + 1


def sums(store: Store, table: str) -> list[tuple[Any, ...]]:
    """Cost, priced and unpriced calls by everything that sums them up."""
    queries = {
        "calls": "SELECT sum(cost_usd), countIf(cost_usd IS NOT NULL), countIf(cost_status = 'unpriced') FROM session_calls",
        "sessions": "SELECT sum(cost_usd), sum(calls) - sum(unpriced_calls) - sum(no_usage_calls), sum(unpriced_calls) FROM sessions",
        "steps": "SELECT sum(own_cost_usd), NULL, NULL FROM session_steps",
        "models": "SELECT sum(cost_usd), NULL, sum(unpriced_calls) FROM model_usage",
        "templates": "SELECT sumIf(cost_usd, path = '/'), NULL, NULL FROM path_templates",
    }
    return store.reader().query(queries[table]).rows


@pytest.fixture
def history(store: Store) -> Store:
    """Two sessions over three months, stored while the book was empty: unpriced, but for one call."""
    calls = [call(99, start=10, input_tokens=None, output_tokens=None)]
    for number in range(1, 41):
        session, path = f"s{number % 2 + 1}", ("/", "/a", "/a/b")[number % 3]
        given = {names.COST: 1.5, names.COST_STATUS: "provided"} if number == 1 else {}
        more = {"session.name": "triage", "session.id": session, names.CACHE_READ_TOKENS: number, **given}
        calls.append(call(number, path=path, start=number * 86_400 * 2, more=more))
    store.insert(calls, "history")
    return store


def test_history_is_priced_when_prices_come(history: Store) -> None:
    """Every sum over calls is the sum of its calls, before and after; a provided cost and unknown usage stay."""
    spans = sum(session.spans for session in history.reader().sessions())
    assert sums(history, "calls") == sums(history, "sessions") == [(Decimal("1.5"), 1, 39)]
    history.add_prices(rows_for("openai", "gpt-4o-2024-08-06"), book_version())
    history.reprice(Again())
    cached = sum(range(2, 41))
    expected = Decimal("1.5") + 39 * GPT_4O - cached * Decimal("0.00000125")
    assert sums(history, "calls") == sums(history, "sessions") == [(expected, 40, 0)]
    assert [sums(history, table)[0][0] for table in ("steps", "models", "templates")] == [expected] * 3
    assert sums(history, "models")[0][2] == 0
    assert history.reader().query("SELECT * FROM unpriced_models").rows == []
    assert sum(session.spans for session in history.reader().sessions()) == spans
    assert {row[0] for row in history.reader().query("SELECT cost_status FROM sessions").rows} == {
        "complete",
        "partial",
    }


def test_prices_that_come_leave_refused_calls_as_they_are(store: Store) -> None:
    """A step of refused calls costs 0 before and after; one with a call that had no price costs what that one does."""
    refused: dict[str, Any] = {"input_tokens": None, "output_tokens": None, "more": {"http.response.status_code": 429}}
    store.insert([call(1, path="/a", **refused), call(2, path="/b", **refused), call(3, path="/b")], "batch")
    query = "SELECT path, cost_usd, own_cost_usd, cost_p50_usd FROM path_templates ORDER BY path"
    unknown = [("/", None, 0, None), ("/a", 0, 0, 0), ("/b", None, None, None)]
    assert store.reader().query(query).rows == unknown
    store.add_prices(rows_for("openai", "gpt-4o-2024-08-06"), book_version())
    store.reprice(Again())
    cost, median = GPT_4O, float(GPT_4O)
    assert store.reader().query(query).rows == [("/", cost, 0, median), ("/a", 0, 0, 0), ("/b", cost, cost, median)]
    names_row = store.reader().query("SELECT cost_usd, cost_p50_usd, cost_max_usd FROM session_names").rows
    assert names_row == [(cost, median, cost)]


def test_a_repricing_that_is_repeated_changes_nothing(history: Store) -> None:
    """The second run finds nothing to do; taking the price away again brings the old sums back."""
    history.replace_prices([user_row()], 1)
    for _ in range(2):
        history.reprice(Again())
        assert (
            sums(history, "calls") == sums(history, "sessions") == [(Decimal("1.5") + 39 * Decimal("0.00011"), 40, 0)]
        )
    history.replace_prices([user_row(input=Decimal(2), cached_input=Decimal(2), output=Decimal(2))], 2)
    history.reprice(Again(session_id="s2"))
    assert history.reader().session("s1").cost_usd == 20 * Decimal("0.00011")
    assert history.reader().session("s2").cost_usd == Decimal("1.5") + 19 * Decimal("0.00022")
    assert sums(history, "calls") == sums(history, "sessions")


def test_what_it_would_cost_elsewhere_is_answered_without_writing(history: Store) -> None:
    """The same tokens on another model, at another time's prices, provided costs included; nothing changes."""
    before = sums(history, "calls")
    history.add_prices(rows_for("anthropic", "claude-opus-4-1"), book_version())
    [change] = history.compare_prices(Again(provider="anthropic", model="claude-opus-4-1"))
    cached = sum(range(1, 41))
    per_million = (4000 - cached) * Decimal(15) + cached * Decimal("1.5") + 400 * Decimal(75)
    assert change == PriceChange("openai", "gpt-4o-2024-08-06", 40, 40, Decimal("1.5"), per_million / 1_000_000, 39, 0)
    [nowhere] = history.compare_prices(Again(at=datetime(2026, 11, 1, tzinfo=UTC)))
    assert (nowhere.new_cost_usd, nowhere.new_unpriced_calls) == (None, 40)
    assert sums(history, "calls") == before


def test_a_repricing_that_was_cut_short_is_finished_on_request(history: Store) -> None:
    """What it had written down is applied once, although part of it had been applied before."""
    history.replace_prices([user_row()], 1)
    history.reprice(Again())
    expected = sums(history, "calls")
    history.replace_prices([user_row(input=Decimal(2), cached_input=Decimal(2), output=Decimal(2))], 2)
    _cut_short(history)
    with pytest.raises(StoreUnavailableError, match="--resume"):
        history.reprice(Again())
    history.reprice(Again(), resume=True)
    assert (
        sums(history, "calls")
        == sums(history, "sessions")
        == [(2 * (expected[0][0] - Decimal("1.5")) + Decimal("1.5"), 40, 0)]
    )


def _cut_short(store: Store) -> None:
    """Stage a run and let it fail at the corrections' last step."""
    real = store._connection.command

    def command(sql: str, *given: Any, **settings: Any) -> None:
        real(sql, *given, **settings)
        if sql.startswith("INSERT INTO typed_spans"):
            raise StoreUnavailableError("pulled the plug")

    store._connection.command = command  # type: ignore[method-assign] # a plug can be pulled nowhere else
    try:
        with pytest.raises(StoreUnavailableError, match="plug"):
            store.reprice(Again())
    finally:
        store._connection.command = real  # type: ignore[method-assign]
