"""What a call cost, by the price book, with the time at which the call was made.

Runs in the delivery chain, never on the caller's thread. ``store/schema`` says the same in SQL; tests hold both
against genai-prices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from otel_sessions.base import names
from otel_sessions.base.price import INPUT_PRICES, LARGEST_COUNT, REGIONAL, TOKEN_PRICES, PriceRow, tiers_of
from otel_sessions.prices.book import book_edition, rows_for

# Amounts are integers, which are exact and ten times as fast as Decimal. A price has at most 18 decimals, and is per
# million: 24 decimals of a dollar. Costs have 12.
_DECIMALS = 12
_SMALLEST = Decimal("0.000000000001")
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_PICO_DOLLAR = 10**12
_SECOND = 10**9
_DAY = 86_400
_BEYOND_COUNTS = 2**64

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
_TOTALS = ("input", "output")
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
    """A :class:`PriceRow` as a call needs it: times in seconds, prices in 10^-24 dollars, 0 for what is not billed."""

    valid_from: int
    time_from: int
    tier_start: int
    weights: Mapping[str, int]
    per_call: int
    bills_input: bool
    bills_output: bool
    # Kinds of input for which it matters how many tokens are both cached and of this kind.
    ambiguous: tuple[str, ...]
    source: str


def tariff(row: PriceRow) -> Tariff:
    """``row`` as a call needs it."""
    weights = {kind: _scaled(getattr(row, kind)) for kind in TOKEN_PRICES}
    return Tariff(
        valid_from=int(row.valid_from.timestamp()),
        time_from=row.time_from,
        tier_start=row.tier_start,
        weights={**weights, "web_search": 1000 * _scaled(row.web_search)},
        per_call=1000 * _scaled(row.request),
        bills_input=row.input is not None,
        bills_output=row.output is not None,
        ambiguous=tuple(
            kind
            for kind in ("audio_input", "image_input")
            if weights[f"cached_{kind}"] != weights[kind] + weights["cached_input"] - weights["input"]
        ),
        source=row.source,
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
    found = in_force(_tariffs_of(attributes), start_time // _SECOND, counts.get("input", 0))
    amount = _amount(counts, found) if found is not None else None
    if found is None or amount is None:
        return Cost(None, "unpriced")
    return Cost(_money(amount), "priced", found.source)


def in_force(tariffs: Iterable[Tariff], second: int, input_tokens: int) -> Tariff | None:
    """The first of ``tariffs``, in the order of :func:`rows_for`, that holds for a call at ``second`` since 1970."""
    for found in tariffs:
        if (
            found.valid_from <= second
            and found.time_from <= second % _DAY
            and (found.tier_start == 0 or found.tier_start < input_tokens)
        ):
            return found
    return None


def _tariffs_of(attributes: Mapping[str, Any]) -> tuple[Tariff, ...]:
    get = attributes.get
    return _tariffs(
        book_edition(),
        str(get(names.PROVIDER) or ""),
        str(get(names.RESPONSE_MODEL) or ""),
        str(get(names.REQUEST_MODEL) or ""),
        _tier_of(attributes),
    )


def _tier_of(attributes: Mapping[str, Any]) -> str:
    get = attributes.get
    speed = get(names.RESPONSE_SPEED)
    tier = f"speed={speed}" if speed and speed != "standard" else str(get(names.RESPONSE_SERVICE_TIER) or "")
    is_regional = get(names.RESPONSE_REGION) or _is_regional(str(get(names.SERVER_ADDRESS) or ""))
    return f"{REGIONAL} {tier}".rstrip() if is_regional else tier


@lru_cache(maxsize=1024)
def _is_regional(host: str) -> bool:
    return _REGIONAL_HOST.fullmatch(host) is not None


# End points of OpenAI, xAI and Vertex AI that answer in their own region, or in one of several countries.
_REGIONAL_HOST = re.compile(
    r"[a-z]+\.api\.(openai\.com|x\.ai)|[a-z0-9-]+-aiplatform\.googleapis\.com|aiplatform\.[a-z]+\.rep\.googleapis\.com"
)


@lru_cache(maxsize=4096)
def _tariffs(_edition: int, provider: str, answered: str, asked: str, tier: str) -> tuple[Tariff, ...]:
    """Those of the model that answered, or else of the one asked for, that hold for ``tier``."""
    rows = (answered and rows_for(provider, answered)) or (asked and rows_for(provider, asked)) or ()
    return tuple(tariff(row) for held in dict.fromkeys(tiers_of(tier)) for row in rows if row.service_tier == held)


def _counts(attributes: Mapping[str, Any]) -> dict[str, int]:
    return {
        kind: count
        for name, kind in _NAMES
        if name in attributes and (count := attributes[name]).__class__ is int and 0 <= count < _BEYOND_COUNTS
    }


def _amount(counts: Mapping[str, int], found: Tariff) -> int | None:
    """10^-24 dollars for ``counts`` (kinds as in :class:`PriceRow`; ``input`` and ``output`` are totals).

    None if the counts contradict each other, if the input is unknown, or if nothing of what was used has a price.
    """
    if "input" not in counts or max(counts.values()) > LARGEST_COUNT or _is_ambiguous(counts, found):
        return None
    sent, answered = counts["input"], counts.get("output", 0)
    if (sent or answered) and not ((sent and found.bills_input) or (answered and found.bills_output)):
        # Not to be billed is not the same as to cost nothing.
        return None
    weights, amount = found.weights, found.per_call
    # What is left of each total without its parts.
    for kind, number in _apart(counts).items():
        if number < 0:
            return None
        if kind in _INPUT_PARTS:
            sent -= number
        elif kind in _OUTPUT_PARTS:
            answered -= number
        elif kind in _TOTALS:
            continue
        amount += weights[kind] * number
    return amount + weights["input"] * sent + weights["output"] * answered if sent >= 0 and answered >= 0 else None


def _apart(counts: Mapping[str, int]) -> Mapping[str, int]:
    """``counts`` with each token in one part only; below 0 where they contradict each other."""
    if _OVERLAPS.keys().isdisjoint(counts):
        return counts
    tokens = dict(counts)
    for kind in _OVERLAPS.keys() & counts.keys():
        for whole in _OVERLAPS[kind]:
            tokens[whole] = tokens.get(whole, 0) - counts[kind]
    return tokens


def _is_ambiguous(counts: Mapping[str, int], found: Tariff) -> bool:
    """Some input is cached, some is audio (or image), nobody says how much is both, and it would cost something else."""
    return bool(found.ambiguous and counts.get("cached_input")) and any(
        counts.get(kind) and f"cached_{kind}" not in counts for kind in found.ambiguous
    )


def _scaled(price: Decimal | None) -> int:
    return int((price or Decimal(0)).scaleb(18, context=_EXACT))


def _money(amount: int) -> Decimal:
    """``amount`` of 10^-24 dollars, rounded half to even."""
    pico, rest = divmod(amount, _PICO_DOLLAR)
    return Decimal(pico + (2 * rest > _PICO_DOLLAR or (2 * rest == _PICO_DOLLAR and pico % 2 == 1))).scaleb(-_DECIMALS)


def _rounded(amount: object) -> Decimal:
    return Decimal(str(amount)).quantize(_SMALLEST, context=_EXACT)
