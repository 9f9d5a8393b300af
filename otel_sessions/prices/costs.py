"""What a call cost, by the price book, with the time at which the call was made.

Runs in the delivery chain, never on the caller's thread. ``store/schema`` says the same in SQL; tests hold both
against genai-prices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from otel_sessions.base import names
from otel_sessions.base.price import INPUT_PRICES, LARGEST_COUNT, TOKEN_PRICES, PriceRow
from otel_sessions.prices.book import book_edition, rows_for

# Amounts are integers, which are exact and ten times as fast as Decimal. A price has at most 18 decimals, and is per
# million: 24 decimals of a dollar. Costs have 12.
_DECIMALS = 12
_SMALLEST = Decimal("0.000000000001")
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_PICO_DOLLAR = 10**12
_SECOND = 10**9
_DAY = 86_400

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
_NAMES = tuple((name, kind) for kind, name in _COUNTS.items())
_INPUT_PARTS = frozenset(INPUT_PRICES[1:])
_OUTPUT_PARTS = frozenset(TOKEN_PRICES[TOKEN_PRICES.index("output") + 1 :])
# Kinds of token that are part of two others, or of a part: what they are part of.
_OVERLAPS = {
    "cache_write_1h": ("cache_write",),
    "cached_audio_input": ("audio_input", "cached_input"),
    "cached_image_input": ("image_input", "cached_input"),
}


class Cost(NamedTuple):
    """Price of one call: ``amount`` in USD, None unless ``status`` is ``provided`` or ``priced``."""

    amount: Decimal | None
    status: str
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Tariff:
    """A :class:`PriceRow` as a call needs it: times in seconds, prices in 10^-24 dollars."""

    row: PriceRow
    valid_from: int
    weights: Mapping[str, int]
    per_call: int
    # Kinds of input for which it matters how many tokens are both cached and of this kind.
    ambiguous: tuple[str, ...]


def tariff(row: PriceRow) -> Tariff:
    """``row`` as a call needs it."""
    weights = {kind: _scaled(getattr(row, kind)) for kind in TOKEN_PRICES if getattr(row, kind) is not None}
    plain, cached = weights.get("input", 0), weights.get("cached_input", 0)
    return Tariff(
        row=row,
        valid_from=int(row.valid_from.timestamp()),
        weights={**weights, "web_search": 1000 * _scaled(row.web_search)},
        per_call=1000 * _scaled(row.request),
        ambiguous=tuple(
            kind
            for kind in ("audio_input", "image_input")
            if weights.get(f"cached_{kind}", 0) != weights.get(kind, 0) + cached - plain
        ),
    )


def note_cost(attributes: dict[str, Any], start_time: int) -> bool:
    """Add cost, cost status and cost source of the LLM call that ``attributes`` describe; False if it is none."""
    if attributes.get(names.OPERATION) not in names.LLM_OPERATIONS or attributes.get(names.BILLABLE) is False:
        return False
    amount, status, source = cost_of(attributes, start_time)
    attributes[names.COST_STATUS] = status
    if amount is not None:
        attributes[names.COST] = float(amount)
    if source is not None:
        attributes[names.COST_SOURCE] = source
    return True


def cost_of(attributes: Mapping[str, Any], start_time: int) -> Cost:
    """Cost of the call that ``attributes`` describe, at ``start_time`` (nanoseconds since 1970).

    A cost that the response itself carried is taken as it is (``provided``). The model that answered is looked up
    first, then the one asked for. Usage that contradicts itself has no price.
    """
    if attributes.get(names.COST) is not None:
        return Cost(_rounded(attributes[names.COST]), "provided", attributes.get(names.COST_SOURCE))
    counts = _counts(attributes)
    if "input" not in counts and "output" not in counts:
        return Cost(None, "no_usage")
    found = _tariff(attributes, counts.get("input", 0), start_time // _SECOND)
    amount = amount_of(counts, found) if found is not None else None
    if found is None or amount is None:
        return Cost(None, "unpriced")
    return Cost(amount, "priced", found.row.source)


def amount_of(counts: Mapping[str, int], found: Tariff) -> Decimal | None:
    """USD for ``counts`` (kinds as in :class:`PriceRow`; ``input`` and ``output`` are totals).

    None if the counts contradict each other, if the input is unknown, or if nothing of what was used has a price.
    """
    tokens = _disjoint(counts)
    if tokens is None or "input" not in counts or _is_ambiguous(counts, found) or not _is_billed(counts, found):
        return None
    weights = found.weights
    return _money(found.per_call + sum([weights.get(kind, 0) * number for kind, number in tokens.items()]))


def _counts(attributes: Mapping[str, Any]) -> dict[str, int]:
    return {kind: attributes[name] for name, kind in _NAMES if name in attributes and _is_count(attributes[name])}


def _tariff(attributes: Mapping[str, Any], input_tokens: int, second: int) -> Tariff | None:
    provider = str(attributes.get(names.PROVIDER) or "")
    for name in (names.RESPONSE_MODEL, names.REQUEST_MODEL):
        model = attributes.get(name)
        if model and (found := _tariffs(book_edition(), provider, str(model))):
            return in_force(found, _tier(attributes), second, input_tokens)
    return None


@lru_cache(maxsize=4096)
def _tariffs(_edition: int, provider: str, model: str) -> tuple[Tariff, ...]:
    return tuple(map(tariff, rows_for(provider, model)))


def _tier(attributes: Mapping[str, Any]) -> str:
    if attributes.get(names.RESPONSE_SPEED):
        return f"speed={attributes[names.RESPONSE_SPEED]}"
    return str(attributes.get(names.RESPONSE_SERVICE_TIER) or "")


def in_force(tariffs: Iterable[Tariff], tier: str, second: int, input_tokens: int) -> Tariff | None:
    """The first of ``tariffs``, in the order of :func:`rows_for`, that holds for a call at ``second`` since 1970."""
    for found in tariffs:
        row = found.row
        if (
            row.service_tier in ("", tier)
            and found.valid_from <= second
            and row.time_from <= second % _DAY
            and (row.tier_start == 0 or row.tier_start < input_tokens)
        ):
            return found
    return None


def _disjoint(counts: Mapping[str, int]) -> dict[str, int] | None:
    """``counts`` with each token in one kind only; None if some kind would be left with less than none."""
    tokens = dict(counts)
    for kind in _OVERLAPS.keys() & counts.keys():
        for whole in _OVERLAPS[kind]:
            tokens[whole] = tokens.get(whole, 0) - counts[kind]
    inputs, outputs = counts.get("input", 0), counts.get("output", 0)
    for kind, number in tokens.items():
        if kind in _INPUT_PARTS:
            inputs -= number
        elif kind in _OUTPUT_PARTS:
            outputs -= number
    tokens["input"], tokens["output"] = inputs, outputs
    sound = min(tokens.values()) >= 0 and max(counts.values()) <= LARGEST_COUNT
    return tokens if sound else None


def _is_ambiguous(counts: Mapping[str, int], found: Tariff) -> bool:
    """Some input is cached, some is audio (or image), nobody says how much is both, and it would cost something else."""
    return bool(found.ambiguous and counts.get("cached_input")) and any(
        counts.get(kind) and f"cached_{kind}" not in counts for kind in found.ambiguous
    )


def _is_billed(counts: Mapping[str, int], found: Tariff) -> bool:
    """True unless everything that was used has no price, which is not the same as costing nothing."""
    sent, answered = counts.get("input"), counts.get("output")
    return not (sent or answered) or bool(
        (sent and "input" in found.weights) or (answered and "output" in found.weights)
    )


def _scaled(price: Decimal | None) -> int:
    return int((price or Decimal(0)).scaleb(18, context=_EXACT))


def _money(amount: int) -> Decimal:
    """``amount`` of 10^-24 dollars, rounded half to even."""
    pico, rest = divmod(amount, _PICO_DOLLAR)
    return Decimal(pico + (2 * rest > _PICO_DOLLAR or (2 * rest == _PICO_DOLLAR and pico % 2 == 1))).scaleb(-_DECIMALS)


def _rounded(amount: object) -> Decimal:
    return Decimal(str(amount)).quantize(_SMALLEST, context=_EXACT)


def _is_count(value: object) -> bool:
    return value.__class__ is int and 0 <= value < 2**64
