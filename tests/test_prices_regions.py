"""Calls that must be answered in one region: what they cost more, in Python as in SQL, from whatever says so."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from memory_store import memory_store
from recorded_spans import START, call

from otel_sessions.base import names
from otel_sessions.base.price import tiers_of
from otel_sessions.prices import book_version, cost_of, rows_for
from otel_sessions.store import Again, Store

HOST, REGION, TIER, SPEED = (
    names.SERVER_ADDRESS,
    names.RESPONSE_REGION,
    names.RESPONSE_SERVICE_TIER,
    names.RESPONSE_SPEED,
)
OPENAI, ANTHROPIC, VERTEX, XAI = "openai", "anthropic", "gcp.vertex_ai", "x_ai"
CASES: list[tuple[str, str, dict[str, Any], str]] = [
    (OPENAI, "gpt-5.4", {HOST: "eu.api.openai.com"}, "1.1"),
    (OPENAI, "gpt-5.4-2026-03-05", {HOST: "us.api.openai.com", TIER: "default"}, "1.1"),
    (OPENAI, "gpt-5.4", {HOST: "eu.api.openai.com", TIER: "flex"}, "1.1"),
    (OPENAI, "gpt-5.4", {HOST: "api.openai.com"}, "1"),
    (OPENAI, "gpt-4.1", {HOST: "eu.api.openai.com"}, "1"),
    (OPENAI, "gpt-5-mini", {HOST: "eu.api.openai.com", TIER: "flex"}, "1"),
    (OPENAI, "gpt-5.4", {HOST: "eu.api.openai.com.example.org"}, "1"),
    (ANTHROPIC, "claude-opus-4-6", {REGION: "us"}, "1.1"),
    (ANTHROPIC, "claude-opus-5", {REGION: "us", SPEED: "fast"}, "1.1"),
    (ANTHROPIC, "claude-opus-5", {REGION: "us", SPEED: "standard", TIER: "standard"}, "1.1"),
    (ANTHROPIC, "claude-opus-4-6", {HOST: "api.anthropic.com"}, "1"),
    (VERTEX, "claude-sonnet-4-5@20250929", {HOST: "europe-west1-aiplatform.googleapis.com"}, "1.1"),
    (VERTEX, "claude-opus-5", {HOST: "aiplatform.eu.rep.googleapis.com"}, "1.1"),
    (VERTEX, "claude-opus-5", {HOST: "aiplatform.googleapis.com"}, "1"),
    (VERTEX, "claude-sonnet-4@20250514", {HOST: "us-east5-aiplatform.googleapis.com"}, "1"),
    (VERTEX, "claude-3-7-sonnet@20250219", {HOST: "us-east5-aiplatform.googleapis.com"}, "1"),
    (VERTEX, "gemini-3.5-flash", {HOST: "us-central1-aiplatform.googleapis.com"}, "1.1"),
    (VERTEX, "gemini-2.5-pro", {HOST: "us-central1-aiplatform.googleapis.com"}, "1"),
    (XAI, "grok-4.6", {HOST: "us.api.x.ai"}, "1.1"),
    (XAI, "grok-4.6", {HOST: "api.x.ai"}, "1"),
]
IN_REGION = (HOST, REGION)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with memory_store() as opened:
        opened.add_prices([row for provider, model, _, _ in CASES for row in rows_for(provider, model)], book_version())
        yield opened


def usage(provider: str, model: str, more: dict[str, Any]) -> dict[str, Any]:
    """A call with cached input, of which nothing but ``more`` says where it was answered."""
    return {
        names.OPERATION: "chat",
        names.PROVIDER: provider,
        names.REQUEST_MODEL: model,
        names.RESPONSE_MODEL: model,
        names.INPUT_TOKENS: 1000,
        names.CACHE_READ_TOKENS: 400,
        names.OUTPUT_TOKENS: 10,
        **more,
    }


def amount(attributes: dict[str, Any]) -> Decimal:
    """What the process that made the call says it cost."""
    cost = cost_of(attributes, START).amount
    assert cost is not None
    return cost


def stored(store: Store, attributes: dict[str, Any]) -> tuple[Decimal | None, str]:
    """What the store says it cost, and on which service tier it was answered."""
    session = uuid.uuid4().hex
    store.insert([call(session=session, more=attributes)], session)
    [found] = store.reader().calls(session)
    return found.cost_usd, found.service_tier


@pytest.mark.parametrize(("provider", "model", "more", "factor"), CASES)
def test_a_region_costs_a_tenth_more_where_it_does(
    store: Store, provider: str, model: str, more: dict[str, Any], factor: str
) -> None:
    """Newer models at OpenAI's and Vertex AI's regional hosts, xAI's, and what Anthropic kept in a country; older ones not."""
    regional = usage(provider, model, more)
    anywhere = {name: value for name, value in regional.items() if name not in IN_REGION}
    assert amount(regional) == amount(anywhere) * Decimal(factor)
    assert stored(store, regional)[0] == amount(regional)
    assert stored(store, anywhere)[0] == amount(anywhere)


def test_searches_cost_the_same_everywhere(store: Store) -> None:
    """Only tokens are dearer."""
    with_search = usage(ANTHROPIC, "claude-opus-5", {REGION: "us", names.WEB_SEARCHES: 3})
    without = usage(ANTHROPIC, "claude-opus-5", {REGION: "us"})
    assert amount(with_search) - amount(without) == Decimal("0.03")
    assert stored(store, with_search)[0] == amount(with_search)


def test_the_service_tier_says_so() -> None:
    """And which prices are asked in turn."""
    assert tiers_of("regional flex") == ("regional flex", "regional", "flex", "")
    assert tiers_of("flex") == ("flex", "")


def test_a_region_is_known_when_history_is_priced_again() -> None:
    """The call keeps its region in its service tier, whatever told it."""
    with memory_store() as store:
        flex = usage(OPENAI, "gpt-5.4", {HOST: "eu.api.openai.com", TIER: "flex"})
        kept = usage(ANTHROPIC, "claude-opus-5", {REGION: "us"})
        assert [stored(store, each) for each in (flex, kept)] == [(None, "regional flex"), (None, "regional")]
        store.add_prices([*rows_for(OPENAI, "gpt-5.4"), *rows_for(ANTHROPIC, "claude-opus-5")], book_version())
        store.reprice(Again())
        found = store.reader().query("SELECT cost_usd, service_tier FROM session_calls ORDER BY service_tier").rows
        assert found == [(amount(kept), "regional"), (amount(flex), "regional flex")]
