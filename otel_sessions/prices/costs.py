"""What a call cost, by the price book, with the time at which the call was made.

Runs in the delivery chain, never on the caller's thread. ``store/schema`` says the same in SQL; tests hold both
against genai-prices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from otel_sessions.base import names
from otel_sessions.base.price import LARGEST_COUNT, TOKEN_PRICES, PriceRow
from otel_sessions.prices.book import rows_for

# Some prices have 18 decimals, and 28 digits would round the products of large calls.
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_PICO_DOLLAR = Decimal("0.000000000001")
_MILLION = Decimal(1_000_000)
_THOUSAND = Decimal(1_000)

_COUNTS = {
    "input": names.INPUT_TOKENS,
    "cached_input": names.CACHE_READ_TOKENS,
    "cache_write": names.CACHE_CREATION_TOKENS,
    "cache_write_1h": names.CACHE_CREATION_1H_TOKENS,
    "audio_input": names.AUDIO_INPUT_TOKENS,
    "cached_audio_input": names.CACHED_AUDIO_TOKENS,
    "image_input": names.IMAGE_INPUT_TOKENS,
    "cached_image_input": names.CACHED_IMAGE_TOKENS,
    "video_input": names.VIDEO_INPUT_TOKENS,
    "output": names.OUTPUT_TOKENS,
    "reasoning": names.REASONING_TOKENS,
    "audio_output": names.AUDIO_OUTPUT_TOKENS,
    "image_output": names.IMAGE_OUTPUT_TOKENS,
    "video_output": names.VIDEO_OUTPUT_TOKENS,
    "web_search": names.WEB_SEARCHES,
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
    if attributes.get(names.OPERATION) not in names.LLM_OPERATIONS or attributes.get(names.BILLABLE) is False:
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

    A cost that the response itself carried is taken as it is (``provided``). The model that answered is looked up
    first, then the one asked for. Usage that contradicts itself has no price.
    """
    if attributes.get(names.COST) is not None:
        return Cost(_money(Decimal(str(attributes[names.COST]))), "provided", attributes.get(names.COST_SOURCE))
    counts = _counts(attributes)
    if not {"input", "output"} & counts.keys():
        return Cost(None, "no_usage")
    row = _row(attributes, counts.get("input", 0), datetime.fromtimestamp(start_time / 1e9, UTC))
    amount = amount_of(counts, row) if row is not None else None
    if row is None or amount is None:
        return Cost(None, "unpriced")
    return Cost(amount, "priced", row.source)


def amount_of(counts: Mapping[str, int], row: PriceRow) -> Decimal | None:
    """USD for ``counts`` (kinds as in :class:`PriceRow`; ``input`` and ``output`` are totals) at the prices of ``row``.

    None if the counts contradict each other, if the input is unknown, or if nothing of what was used has a price.
    """
    tokens = _disjoint(counts)
    if tokens is None or "input" not in counts or _ambiguous(counts, row) or not _billed(counts, row):
        return None
    amount = Decimal(0)
    for kind in TOKEN_PRICES:
        price = getattr(row, kind)
        if tokens[kind] and price:
            amount = _EXACT.add(amount, _EXACT.multiply(price, Decimal(tokens[kind])))
    amount = _EXACT.divide(amount, _MILLION)
    per_use = (row.request or 0) + counts.get("web_search", 0) * (row.web_search or 0)
    return _money(_EXACT.add(amount, Decimal(per_use) / _THOUSAND))


def _counts(attributes: Mapping[str, Any]) -> dict[str, int]:
    return {kind: attributes[name] for kind, name in _COUNTS.items() if _is_count(attributes.get(name))}


def _row(attributes: Mapping[str, Any], input_tokens: int, at: datetime) -> PriceRow | None:
    provider = str(attributes.get(names.PROVIDER) or "")
    tier = _tier(attributes)
    models = (attributes.get(names.RESPONSE_MODEL), attributes.get(names.REQUEST_MODEL))
    rows = next((rows for model in models if model and (rows := rows_for(provider, str(model)))), ())
    return in_force(rows, tier, at, input_tokens)


def _tier(attributes: Mapping[str, Any]) -> str:
    if attributes.get(names.RESPONSE_SPEED):
        return f"speed={attributes[names.RESPONSE_SPEED]}"
    return str(attributes.get(names.RESPONSE_SERVICE_TIER) or "")


def in_force(rows: Iterable[PriceRow], tier: str, at: datetime, input_tokens: int) -> PriceRow | None:
    """The first of ``rows``, in the order of :func:`rows_for`, whose conditions hold for a call."""
    second = at.hour * 3600 + at.minute * 60 + at.second
    return next(
        (
            row
            for row in rows
            if row.service_tier in ("", tier)
            and row.valid_from <= at
            and row.time_from <= second
            and (row.tier_start == 0 or row.tier_start < input_tokens)
        ),
        None,
    )


def _disjoint(counts: Mapping[str, int]) -> dict[str, int] | None:
    """``counts`` with each token in one kind only; None if some kind would be left with less than none."""
    tokens = {kind: counts.get(kind, 0) for kind in TOKEN_PRICES}
    tokens["cache_write"] -= tokens["cache_write_1h"]
    tokens["audio_input"] -= tokens["cached_audio_input"]
    tokens["image_input"] -= tokens["cached_image_input"]
    tokens["cached_input"] -= tokens["cached_audio_input"] + tokens["cached_image_input"]
    tokens["input"] -= sum(tokens[kind] for kind in TOKEN_PRICES[1 : TOKEN_PRICES.index("output")])
    tokens["output"] -= sum(tokens[kind] for kind in TOKEN_PRICES[TOKEN_PRICES.index("output") + 1 :])
    sound = min(tokens.values()) >= 0 and max(counts.values(), default=0) <= LARGEST_COUNT
    return tokens if sound else None


def _ambiguous(counts: Mapping[str, int], row: PriceRow) -> bool:
    """Some input is cached, some is audio (or image), nobody says how much is both, and it would cost something else."""
    return any(
        counts.get("cached_input")
        and counts.get(kind)
        and f"cached_{kind}" not in counts
        and getattr(row, f"cached_{kind}") != _sum(getattr(row, kind), row.cached_input, -(row.input or Decimal(0)))
        for kind in ("audio_input", "image_input")
    )


def _sum(*amounts: Decimal | None) -> Decimal:
    return sum((amount for amount in amounts if amount is not None), Decimal(0))


def _billed(counts: Mapping[str, int], row: PriceRow) -> bool:
    """True unless everything that was used has no price, which is not the same as costing nothing."""
    used = [kind for kind in ("input", "output") if counts.get(kind)]
    return not used or any(getattr(row, kind) is not None for kind in used)


def _money(amount: Decimal) -> Decimal:
    return amount.quantize(_PICO_DOLLAR, context=_EXACT)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64


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
