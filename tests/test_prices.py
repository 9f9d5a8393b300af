"""Prices: the amount, and above all the cases in which there is none."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from otel_sessions.base import names
from otel_sessions.base.group import grouped
from otel_sessions.prices import cost_of, note_costs

AT = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp() * 1e9)


def call(**changed: Any) -> dict[str, Any]:
    attributes = {
        names.OPERATION: "chat",
        names.PROVIDER: "openai",
        names.REQUEST_MODEL: "gpt-4o",
        names.RESPONSE_MODEL: "gpt-4o-2024-08-06",
        names.INPUT_TOKENS: 1000,
        names.CACHE_READ_TOKENS: 400,
        names.OUTPUT_TOKENS: 10,
    }
    return {key: value for key, value in {**attributes, **changed}.items() if value is not None}


def priced(attributes: dict[str, Any]) -> dict[str, Any]:
    """``attributes`` after the stage."""
    span = ReadableSpan("x", attributes=attributes, start_time=AT, end_time=AT + 5)
    [group] = note_costs(grouped([span])[0])
    assert list(group.spans) == [span]
    return next(group.rows())


def test_cached_input_is_part_of_the_input_and_has_its_own_price() -> None:
    """600 tokens at $2.50, 400 cached at $1.25 and 10 out at $10 per million: OpenAI's list price of gpt-4o."""
    cost = cost_of(call(), AT)
    assert cost.amount == (600 * Decimal("2.5") + 400 * Decimal("1.25") + 10 * Decimal(10)) / 1_000_000
    assert cost.status == "priced"
    assert cost.source is not None
    assert cost.source.endswith("openai/gpt-4o")


def test_a_cost_that_the_response_carried_is_never_replaced() -> None:
    """OpenRouter, say, returns what it charged: that is the cost, digit for digit."""
    cost = cost_of(call(**{names.COST: 0.00123456789}), AT)
    assert (cost.amount, cost.status) == (Decimal("0.001234567890"), "provided")


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({names.RESPONSE_MODEL: "no-such-model", names.REQUEST_MODEL: "nor-this"}, "unpriced"),
        ({names.PROVIDER: "no-such-provider"}, "unpriced"),
        ({names.CACHE_READ_TOKENS: 5000}, "unpriced"),
        ({names.REASONING_TOKENS: 11}, "unpriced"),
        ({names.INPUT_TOKENS: None, names.CACHE_READ_TOKENS: None}, "unpriced"),
        ({names.INPUT_TOKENS: 2**63}, "unpriced"),
        ({names.RESPONSE_MODEL: "whisper-1", names.REQUEST_MODEL: None}, "unpriced"),
        ({names.PROVIDER: "github-copilot", names.RESPONSE_MODEL: "gpt-4o"}, "unpriced"),
        ({names.INPUT_TOKENS: None, names.OUTPUT_TOKENS: None, names.CACHE_READ_TOKENS: None}, "no_usage"),
        ({names.INPUT_TOKENS: "many", names.OUTPUT_TOKENS: -1, names.CACHE_READ_TOKENS: 2**64}, "no_usage"),
    ],
)
def test_an_unknown_cost_is_none_and_says_why(changed: dict[str, Any], status: str) -> None:
    """Without a price or without usage there is no amount, in particular not zero."""
    cost = cost_of(call(**changed), AT)
    assert (cost.amount, cost.status) == (None, status)


def test_the_requested_model_is_tried_when_the_answering_one_has_no_price() -> None:
    """A response that names a deployment instead of a model is priced by what was asked for."""
    assert cost_of(call(**{names.RESPONSE_MODEL: "my-deployment"}), AT) == cost_of(call(), AT)


def test_the_service_tier_of_the_response_counts() -> None:
    """A call that was answered on the flex tier costs half."""
    model = {names.RESPONSE_MODEL: "gpt-5-mini", names.REQUEST_MODEL: "gpt-5-mini"}
    standard, flex = cost_of(call(**model), AT), cost_of(call(**model, **{names.RESPONSE_SERVICE_TIER: "flex"}), AT)
    assert standard.amount is not None
    assert flex.amount == standard.amount / 2


@pytest.mark.parametrize(
    "attributes",
    [{}, {names.OPERATION: "execute_tool"}, call(**{names.BILLABLE: False})],
    ids=["other", "tool", "twin"],
)
def test_only_billable_llm_calls_are_priced(attributes: dict[str, Any]) -> None:
    """Tool spans, HTTP spans and the second description of an exchange stay as they are."""
    assert priced(attributes) == attributes


def test_an_llm_call_gets_its_cost_with_status_and_source() -> None:
    """Pricing adds cost, status and source, nothing else."""
    added = priced(call())
    assert added.keys() - call().keys() == {names.COST, names.COST_STATUS, names.COST_SOURCE}
    assert added[names.COST] == 0.0021


def test_python_and_sql_agree_on_what_an_llm_call_is() -> None:
    """What the store counts as a call is what gets a price: the list in SQL is the list of names."""
    schema = (files("otel_sessions") / "store" / "schema" / "002_typed_spans.sql").read_text(encoding="utf-8")
    lists = re.findall(r"IN \(('chat'[^)]*)\)", schema)
    assert lists
    assert {frozenset(re.findall(r"'(\w+)'", found)) for found in lists} == {names.LLM_OPERATIONS}
