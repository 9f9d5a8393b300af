"""The price book: genai-prices' answer for one model name, as rows that need no more than a sum of products.

genai-prices matches the name; its prices depend on the date, on the time of day, on the service tier and on the size
of the input, and a kind of token without a price of its own costs what the more general kind does. Here these rules
are applied once per name: conditions become rows, and each row says what a token of each *disjoint* kind costs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import groupby, product
from operator import attrgetter
from typing import Any, cast

import genai_prices
from genai_prices import data_snapshot
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceCalculation,
    PriceVariant,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.update_prices import DEFAULT_UPDATE_URL
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_sessions.base.errors import OtelSessionsError
from otel_sessions.base.price import ALWAYS, PRICES, REGIONAL, TOKEN_PRICES, PriceRow

_MILLION = 1_000_000
LONGEST_NAME = 256
"""Characters. Nothing longer is the name of a provider or a model."""

# genai-prices' id of a provider, by how the names begin that it does not match itself. The first that fits counts.
_PROVIDERS = (
    ("azure", "azure"), ("az.ai", "azure"), ("microsoft", "azure"), ("gcp.", "google"), ("aws", "aws"), ("x_ai", "x-ai"),
    ("grok", "x-ai"), ("together", "together"), ("fireworks", "fireworks"), ("z_ai", "zai"), ("z.ai", "zai"),
)  # fmt: skip

# Models that cost more where a region is asked for, by genai-prices' id of the provider; genai-prices knows it of AWS
# alone, where such models have names of their own. Anthropic (from 4.6 on, older ones refuse): platform.claude.com, Data
# residency; on Vertex AI from 4.5 on: Claude on Vertex AI. OpenAI, models since March 2026: developers.openai.com, Data
# residency. xAI: docs.x.ai, Regional endpoints. Gemini on Vertex AI: LiteLLM's catalogue of November 2026, which says the
# same of all others but xAI.
_DEARER_IN_REGION = {
    "anthropic": re.compile(r"claude-"),
    "google": re.compile(
        r"claude-[a-z]+-(?:4-[5-9]|[5-9]|\d\d)(?!\d)|gemini-(?:3\.[5-9]|3\.1-flash-(?:lite|image)|[4-9]|\d\d)"
    ),
    "openai": re.compile(r"gpt-(?:5\.[4-9]|[6-9]|\d\d)"),
    "x-ai": re.compile(r"grok-"),
}
_IN_REGION = Decimal("1.1")

# Kind of token → the units of genai-prices in which such a token is counted.
_UNITS: dict[str, tuple[str, ...]] = {
    "input": ("input_tokens",),
    "cached_input": ("input_tokens", "cache_read_tokens"),
    "cache_write": ("input_tokens", "cache_write_tokens"),
    "cache_write_1h": ("input_tokens", "cache_write_tokens", "cache_write_1h_tokens"),
    "audio_input": ("input_tokens", "input_audio_tokens"),
    "cached_audio_input": ("input_tokens", "cache_read_tokens", "input_audio_tokens", "cache_audio_read_tokens"),
    "image_input": ("input_tokens", "input_image_tokens"),
    "cached_image_input": ("input_tokens", "cache_read_tokens", "input_image_tokens", "cache_image_read_tokens"),
    "video_input": ("input_tokens", "input_video_tokens"),
    "output": ("output_tokens",),
    "reasoning": ("output_tokens", "output_reasoning_tokens"),
    "audio_output": ("output_tokens", "output_audio_tokens"),
    "image_output": ("output_tokens", "output_image_tokens"),
    "video_output": ("output_tokens", "output_video_tokens"),
}
_PER_THOUSAND = {"request": "requests_kcount", "web_search": "web_searches_kcount"}


def rows_for(provider: str, model: str) -> tuple[PriceRow, ...]:
    """All rows of one model, spelled as on the span; empty if genai-prices does not know it or has no token price.

    What wins for a call comes first, see :func:`in_force`. Takes some milliseconds the first time a name is seen.
    """
    if max(len(provider), len(model)) > LONGEST_NAME:
        return ()
    return _rows_for(book_edition(), provider, model)


def book_edition() -> int:
    """A number that is another one when the application has fetched an update."""
    return id(data_snapshot.get_snapshot())


def book_version() -> int:
    """A number that grows with the version of genai-prices; the one that goes with rows written without being asked.

    Smaller than any time in microseconds, so that what was written on request is not replaced by what was not.
    """
    parts = [int(part) for part in re.findall(r"\d+", genai_prices.__version__)[:3]]
    return sum(part * 1000**place for place, part in enumerate(reversed(parts)))


def fetch_book(url: str = DEFAULT_UPDATE_URL) -> str:
    """Take the newest prices from genai-prices' repository (GitHub) into use in this process; return their edition.

    Raises :class:`OtelSessionsError` if they cannot be had.
    """
    with suppress_instrumentation():
        try:
            snapshot = genai_prices.UpdatePrices(url=url).fetch()
        except Exception as error:
            raise OtelSessionsError(f"the prices could not be fetched: {error or type(error).__name__}") from error
    data_snapshot.set_custom_snapshot(snapshot)
    return _edition()


def _edition() -> str:
    snapshot = data_snapshot.get_snapshot()
    fetched = snapshot.from_auto_update
    return f"genai-prices of {snapshot.timestamp:%Y-%m-%d}" if fetched else f"genai-prices {genai_prices.__version__}"


@lru_cache(maxsize=4096)
def _rows_for(_snapshot: int, provider: str, model: str) -> tuple[PriceRow, ...]:
    found = _find(provider, model)
    if found is None:
        return ()
    source = f"{_edition()} {found.provider.id}/{found.model.id}"
    named = PriceRow(provider=provider, model=model, source=source)
    # Prices of another provider's model hold without that one's service tiers.
    variants = found.model.price_variants or () if any(found.model is own for own in found.provider.models) else ()
    rows = [row for tier in _service_tiers(variants) for row in _rows(found.model, named, tier, variants)]
    kept = _without_copies(sorted(rows, key=_precedence))
    return tuple(sorted([*kept, *map(_in_region, kept)], key=_precedence) if _costs_more_in_region(found) else kept)


def _costs_more_in_region(found: PriceCalculation) -> bool:
    pattern = _DEARER_IN_REGION.get(found.provider.id)
    return pattern is not None and pattern.match(found.model.id) is not None


def _in_region(row: PriceRow) -> PriceRow:
    """What ``row`` says, for calls that must be answered in one region: every kind of token costs more."""
    prices: dict[str, Any] = {
        kind: _decimal(price * _IN_REGION) for kind in TOKEN_PRICES if (price := getattr(row, kind)) is not None
    }
    tier = f"{REGIONAL} {row.service_tier}".rstrip()
    return replace(row, service_tier=tier, source=f"{row.source}, +10 % in a region", **prices)


def _find(provider: str, model: str) -> PriceCalculation | None:
    for provider_id in dict.fromkeys((*_aliases(provider.lower()), provider, re.split(r"[./]", provider)[0])):
        try:
            return genai_prices.calc_price(genai_prices.Usage(), model, provider_id=provider_id)
        except LookupError:
            continue
    return None


def _aliases(provider: str) -> Iterator[str]:
    return (found for prefix, found in _PROVIDERS if provider.startswith(prefix))


def _service_tiers(variants: Iterable[PriceVariant]) -> list[str]:
    """The values of ``service_tier`` that a call must show to get other prices; the empty one first."""
    tiers = [_tier_of(variant.when) for variant in variants]
    return ["", *dict.fromkeys(tier for tier in tiers if tier is not None)]


def _tier_of(when: dict[str, str]) -> str | None:
    match [*when.items()]:
        case [("service_tier", tier)]:
            return tier
        case [("processing", "batch")]:
            return "batch"
        case [("speed", speed)]:
            return f"speed={speed}"
    return None


def context_of(tier: str) -> dict[str, str]:
    """genai-prices' price context of a service tier as rows and calls spell it; the reverse of the above."""
    if tier == "":
        return {}
    if tier == "batch":
        return {"processing": "batch", "service_tier": "batch"}
    name, _, speed = tier.partition("=")
    return {"speed": speed} if name == "speed" and speed else {"service_tier": tier}


def _rows(model: ModelInfo, named: PriceRow, tier: str, variants: Iterable[PriceVariant]) -> Iterator[PriceRow]:
    conditions = [*(price.constraint for price in _conditional(model)), *(variant.constraint for variant in variants)]
    days = {item.start_date for item in conditions if isinstance(item, StartDateConstraint)}
    for day, since in product(sorted({ALWAYS.date(), *days}), sorted({0, *_changes(conditions)})):
        prices = model.get_prices(_moment(day, since), context_of(tier) if variants else None)
        for start in _starts(prices):
            effective = _effective(prices, start, model.id.endswith(":free"))
            if effective is not None:
                valid_from = _moment(day, 0)
                row = replace(named, service_tier=tier, valid_from=valid_from, time_from=since, tier_start=start)
                yield replace(row, **cast("dict[str, Any]", effective))


def _conditional(model: ModelInfo) -> list[ConditionalPrice]:
    return model.prices if isinstance(model.prices, list) else []


def _changes(conditions: Iterable[object]) -> Iterator[int]:
    """Seconds since midnight UTC at which a price that depends on the time of day changes."""
    for item in conditions:
        if isinstance(item, TimeOfDateConstraint):
            yield from (_second(item.start_time), _second(item.end_time))


def _second(moment: time) -> int:
    utc = datetime.combine(date(1970, 1, 2), moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    return utc.hour * 3600 + utc.minute * 60 + utc.second


def _moment(day: date, second: int) -> datetime:
    return datetime.combine(day, time(), UTC) + timedelta(seconds=second)


def _starts(prices: ModelPrice) -> list[int]:
    tiered = [value for value in vars(prices).values() if isinstance(value, TieredPrices)]
    return sorted({0, *(tier.start for value in tiered for tier in value.tiers)})


def _effective(prices: ModelPrice, tier_start: int, free: bool) -> dict[str, Decimal | None] | None:  # noqa: FBT001
    """Each price of a row; None if tokens are not what this model is billed by, or nothing is known."""
    flat = {key: _at(value, tier_start) for key, value in vars(prices).items() if value is not None}
    if not flat and free:
        # genai-prices says "no price" both for free models and for unknown ones; this name says which.
        return dict.fromkeys(TOKEN_PRICES, Decimal(0))
    if not {"input_mtok", "output_mtok"} & flat.keys():
        return None
    return dict(zip(PRICES, _of_each_kind(frozenset(flat.items())), strict=True))


def _at(value: Decimal | TieredPrices, tier_start: int) -> Decimal:
    if isinstance(value, Decimal):
        return value
    return next((tier.price for tier in reversed(value.tiers) if tier.start <= tier_start), value.base)


@lru_cache(maxsize=4096)
def _of_each_kind(flat: frozenset[tuple[str, Decimal]]) -> tuple[Decimal | None, ...]:
    """What a million tokens of each kind cost, in the order of ``PRICES``, by genai-prices' own rules."""
    prices = dict(flat)
    per_use = [prices.pop(key, None) for key in _PER_THOUSAND.values()]
    billed = {"input": "input_mtok" in prices, "output": "output_mtok" in prices}
    price = ModelPrice(**prices)
    of_tokens = [
        _decimal(price.calc_price(genai_prices.Usage(**dict.fromkeys(units, _MILLION)))["total_price"])
        if billed[units[0].partition("_")[0]]
        else None
        for units in _UNITS.values()
    ]
    return (*of_tokens, *per_use)


def _decimal(value: Decimal) -> Decimal:
    """Without trailing zeros, so that equal prices are equal texts."""
    return value.normalize() + 0


def _precedence(row: PriceRow) -> tuple[object, ...]:
    return (
        row.origin != "user",
        row.service_tier == "",
        row.service_tier,
        -row.valid_from.timestamp(),
        -row.time_from,
        -row.tier_start,
    )


def _without_copies(rows: list[PriceRow]) -> list[PriceRow]:
    """``rows`` without days on which nothing changes, and without service tiers that cost what the standard one does."""
    kept = {tier: _without_idle_days([row for row in rows if row.service_tier == tier]) for tier in _tiers_of(rows)}
    standard = _conditions_and_prices(kept.get("", []))
    return [
        row
        for tier, of_tier in kept.items()
        if tier == "" or _conditions_and_prices(of_tier) != standard
        for row in of_tier
    ]


def _tiers_of(rows: Iterable[PriceRow]) -> list[str]:
    return [*dict.fromkeys(row.service_tier for row in rows)]


def _without_idle_days(rows: list[PriceRow]) -> list[PriceRow]:
    kept: list[list[PriceRow]] = []
    for _, of_day in groupby(reversed(rows), key=attrgetter("valid_from")):
        day = [*of_day]
        if not kept or _of_one_day(day) != _of_one_day(kept[-1]):
            kept.append(day)
    return [row for day in reversed(kept) for row in reversed(day)]


def _of_one_day(rows: Iterable[PriceRow]) -> list[PriceRow]:
    return [replace(row, valid_from=ALWAYS) for row in rows]


def _conditions_and_prices(rows: Iterable[PriceRow]) -> list[PriceRow]:
    return [replace(row, service_tier="") for row in rows]
