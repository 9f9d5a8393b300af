"""What a call cost, from genai-prices, with the time at which the call was made.

Runs in the delivery chain, never on the caller's thread: one look-up takes about 70 µs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import genai_prices
from opentelemetry.sdk.trace import ReadableSpan

from otel_sessions.base import names
from otel_sessions.base.guard import count

PRICED_OPERATIONS = frozenset({"chat", "text_completion", "generate_content", "embeddings"})
_PICO_DOLLAR = Decimal("0.000000000001")

# genai-prices' id of a provider, where its own matching does not know the name that a span carries.
_PROVIDERS = {"azure.ai.openai": "azure", "azure.ai.inference": "azure", "gcp.gemini": "google",
              "gcp.vertex_ai": "google", "gcp.gen_ai": "google", "aws.bedrock": "aws", "mistral_ai": "mistral",
              "x_ai": "x-ai"}  # fmt: skip

# Unit of genai-prices ← attribute on the span. Input and output are totals on both sides.
_UNITS = {
    "input_tokens": names.INPUT_TOKENS,
    "output_tokens": names.OUTPUT_TOKENS,
    "cache_read_tokens": names.CACHE_READ_TOKENS,
    "cache_write_tokens": names.CACHE_CREATION_TOKENS,
    "cache_write_1h_tokens": names.CACHE_CREATION_1H_TOKENS,
    "input_audio_tokens": names.AUDIO_INPUT_TOKENS,
    "output_audio_tokens": names.AUDIO_OUTPUT_TOKENS,
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Price of one call: ``amount`` in USD, None unless ``status`` is ``provided`` or ``priced``."""

    amount: Decimal | None
    status: str
    source: str | None = None


def priced(span: ReadableSpan) -> ReadableSpan:
    """``span`` with its cost, cost status and cost source; any other span than an LLM call's as it is."""
    attributes = span.attributes or {}
    if attributes.get(names.OPERATION) not in PRICED_OPERATIONS or attributes.get(names.BILLABLE) is False:
        return span
    cost = cost_of(attributes, span.start_time or 0)
    added: dict[str, Any] = {names.COST_STATUS: cost.status}
    if cost.amount is not None:
        added[names.COST] = float(cost.amount)
    if cost.source is not None:
        added[names.COST_SOURCE] = cost.source
    return _with_attributes(span, {**attributes, **added})


def cost_of(attributes: Mapping[str, Any], start_time: int) -> Cost:
    """Cost of the call that ``attributes`` describe, at ``start_time`` (nanoseconds since 1970).

    A cost that the response itself carried is taken as it is (``provided``).
    """
    if attributes.get(names.COST) is not None:
        return Cost(_money(Decimal(str(attributes[names.COST]))), "provided", attributes.get(names.COST_SOURCE))
    units = {unit: attributes[name] for unit, name in _UNITS.items() if _is_count(attributes.get(name))}
    if not units:
        return Cost(None, "no_usage")
    model = attributes.get(names.RESPONSE_MODEL) or attributes.get(names.REQUEST_MODEL)
    tier = attributes.get(names.RESPONSE_SERVICE_TIER)
    for name in dict.fromkeys((model, attributes.get(names.REQUEST_MODEL))):
        cost = _look_up(units, str(name), str(attributes.get(names.PROVIDER)), start_time, tier)
        if cost is not None:
            return cost
    return Cost(None, "unpriced")


def _look_up(units: dict[str, int], model: str, provider: str, start_time: int, tier: object) -> Cost | None:
    try:
        price = genai_prices.calc_price(
            genai_prices.Usage(**units),
            model,
            provider_id=_PROVIDERS.get(provider, provider),
            genai_request_timestamp=datetime.fromtimestamp(start_time / 1e9, UTC),
            price_context={"service_tier": tier} if isinstance(tier, str) else None,
        )
    except LookupError:
        return None
    except ValueError as error:
        # More cached than input tokens, say: the amount would be wrong, so there is none.
        count("price.refused", "otel-sessions: the usage of a call to %s cannot be priced: %s", model, error)
        return None
    return Cost(_money(price.total_price), "priced", f"{_book()} {price.provider.id}/{price.model.id}")


def _money(amount: Decimal) -> Decimal:
    return amount.quantize(_PICO_DOLLAR)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


@lru_cache(maxsize=1)
def _book() -> str:
    return f"genai-prices {genai_prices.__version__}"


def _with_attributes(span: ReadableSpan, attributes: Mapping[str, Any]) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
