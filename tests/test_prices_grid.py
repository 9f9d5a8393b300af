"""Every model, tier, cache share, date and service tier: Python and SQL against genai-prices itself, to the last digit."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any

import genai_prices
import pytest
from genai_prices import data_snapshot
from memory_store import memory_store
from recorded_spans import SECOND, START, call

from otel_sessions.base import names
from otel_sessions.base.group import grouped
from otel_sessions.base.price import REGIONAL
from otel_sessions.prices import book_version, cost_of, note_costs, rows_for
from otel_sessions.prices.book import context_of
from otel_sessions.store import Store

CASES_PER_MODEL = 12
BATCH = 8_192
PICO = Decimal("0.000000000001")
INPUTS = (0, 1, 1000, 31_999, 128_000, 128_001, 199_999, 200_000, 200_001, 272_000, 272_001, 600_000, 2_000_000)
SERVICE_TIERS = ("default", "flex", "priority", "batch", "fast", "no-such-tier")
SHARES = (0, 0.1, 0.5, 0.9, 1)

# Unit of genai-prices ← attribute on the span.
UNITS = {
    "input_tokens": names.INPUT_TOKENS,
    "output_tokens": names.OUTPUT_TOKENS,
    "cache_read_tokens": names.CACHE_READ_TOKENS,
    "cache_write_tokens": names.CACHE_CREATION_TOKENS,
    "cache_write_1h_tokens": names.CACHE_CREATION_1H_TOKENS,
    "input_audio_tokens": names.AUDIO_INPUT_TOKENS,
    "cache_audio_read_tokens": names.CACHED_AUDIO_TOKENS,
    "input_image_tokens": names.IMAGE_INPUT_TOKENS,
    "cache_image_read_tokens": names.CACHED_IMAGE_TOKENS,
    "input_video_tokens": names.VIDEO_INPUT_TOKENS,
    "output_reasoning_tokens": names.REASONING_TOKENS,
    "output_audio_tokens": names.AUDIO_OUTPUT_TOKENS,
    "output_image_tokens": names.IMAGE_OUTPUT_TOKENS,
    "output_video_tokens": names.VIDEO_OUTPUT_TOKENS,
    "web_searches": names.WEB_SEARCHES,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One point of the grid."""

    provider: str
    model: str
    units: dict[str, int]
    at: datetime
    tier: str

    @property
    def attributes(self) -> dict[str, Any]:
        """What the span of this call carries."""
        tier = self.tier.removeprefix(REGIONAL).strip()
        speed = tier.removeprefix("speed=") if tier.startswith("speed=") else None
        found = {
            names.OPERATION: "chat",
            names.PROVIDER: self.provider,
            names.RESPONSE_MODEL: self.model,
            names.RESPONSE_SERVICE_TIER: None if speed else tier or None,
            names.RESPONSE_REGION: "us" if self.tier.startswith(REGIONAL) else None,
            names.RESPONSE_SPEED: speed,
            **{UNITS[unit]: count for unit, count in self.units.items()},
        }
        return {name: value for name, value in found.items() if value is not None}

    @property
    def nanoseconds(self) -> int:
        """When the call was made."""
        return int(self.at.timestamp()) * SECOND

    def by_genai_prices(self) -> Decimal | None:
        """The cost by genai-prices, None where it refuses or knows no price for anything that was used."""
        try:
            price = genai_prices.calc_price(
                genai_prices.Usage(**self.units),
                self.model,
                provider_id=self.provider,
                genai_request_timestamp=self.at,
                price_context=context_of(self.tier.removeprefix(REGIONAL).strip()) or None,
            )
        except (LookupError, ValueError):
            return None
        tokens = self.units["input_tokens"] + self.units["output_tokens"]
        billed = {key for key, value in vars(price.model_price).items() if value is not None}
        # Zero is an answer where there is a price and nothing to pay; else it is genai-prices' word for "unknown".
        if (
            price.total_price == 0
            and not self.model.endswith(":free")
            and (tokens or not billed & {"input_mtok", "output_mtok"})
        ):
            return None
        # A region adds a tenth to what tokens cost; genai-prices knows nothing of that.
        dearer = (price.input_price + price.output_price) / 10 if self.tier.startswith(REGIONAL) else 0
        return (price.total_price + dearer).quantize(PICO)


def grid() -> Iterator[Case]:
    """A dozen calls to each of the models that genai-prices knows; the same ones in every run."""
    chance = random.Random(20_260_101)
    for provider in data_snapshot.get_snapshot().providers:
        for model in provider.models:
            tiers = [row.service_tier for row in rows_for(provider.id, model.id)]
            for _ in range(CASES_PER_MODEL):
                at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=chance.randrange(3 * 365 * 86_400))
                tier = chance.choice([*SERVICE_TIERS, *tiers]) if chance.random() < 0.5 else ""
                yield Case(provider.id, model.id, _units(chance), at, tier)


def _units(chance: random.Random) -> dict[str, int]:
    units = {"input_tokens": chance.choice(INPUTS), "output_tokens": chance.choice((0, 1, 500, 70_000))}
    left = units["input_tokens"]
    for unit, probability in (("cache_read_tokens", 0.6), ("cache_write_tokens", 0.3)):
        if chance.random() < probability:
            units[unit] = int(left * chance.choice(SHARES))
            left -= units[unit]
    if units.get("cache_write_tokens") and chance.random() < 0.5:
        units["cache_write_1h_tokens"] = int(units["cache_write_tokens"] * chance.choice(SHARES))
    units |= _modality(chance, left, units.get("cache_read_tokens", 0))
    if chance.random() < 0.4:
        kind = chance.choice(("reasoning", "audio", "image", "video"))
        units[f"output_{kind}_tokens"] = int(units["output_tokens"] * chance.choice(SHARES))
    if chance.random() < 0.1:
        units["web_searches"] = chance.choice((1, 3))
    return units


def _modality(chance: random.Random, left: int, cached: int) -> dict[str, int]:
    if chance.random() > 0.3:
        return {}
    kind = chance.choice(("audio", "image", "video"))
    units = {f"input_{kind}_tokens": int(left * chance.choice(SHARES))}
    if cached and kind != "video" and chance.random() < 0.7:
        both = int(cached * chance.choice(SHARES))
        return {f"input_{kind}_tokens": units[f"input_{kind}_tokens"] + both, f"cache_{kind}_read_tokens": both}
    return units


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [*grid()]


@pytest.fixture(scope="module")
def expected(cases: list[Case]) -> list[Decimal | None]:
    return [case.by_genai_prices() for case in cases]


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with memory_store() as opened:
        yield opened


def differences(
    cases: list[Case], expected: list[Decimal | None], found: list[Decimal | None]
) -> list[tuple[Case, Decimal | None, Decimal | None]]:
    """The cases in which two prices differ, a price and none included."""
    return [three for three in zip(cases, expected, found, strict=True) if three[1] != three[2]]


def test_the_grid_is_worth_its_name(cases: list[Case], expected: list[Decimal | None]) -> None:
    """At least 20,000 points with a price, 46 providers, all service tiers and kinds of tokens among them."""
    priced = [case for case, amount in zip(cases, expected, strict=True) if amount is not None]
    units = Counter(unit for case in priced for unit, count in case.units.items() if count)
    assert len(priced) >= 20_000
    assert len({case.provider for case in priced}) >= 46  # of 47; one bills by the minute alone
    assert min(units[unit] for unit in UNITS) > 100
    tiers = {case.tier for case in priced}
    assert {"flex", "priority", "batch", "fast", "speed=fast", "regional", "regional flex"} <= tiers


def test_python_says_what_genai_prices_says(cases: list[Case], expected: list[Decimal | None]) -> None:
    """The cost on the span is genai-prices' in all points of the grid."""
    found = [cost_of(case.attributes, case.nanoseconds).amount for case in cases]
    assert differences(cases, expected, found) == []


def test_many_calls_at_once_cost_what_each_costs_alone(cases: list[Case], expected: list[Decimal | None]) -> None:
    """Calls are priced in groups; whatever stands beside it, each costs what genai-prices says of it alone."""
    order = random.Random(7).sample(range(len(cases)), len(cases))
    found: dict[int, float | None] = {}
    for first in range(0, len(order), 512):
        spans = [
            call(at, start=cases[at].nanoseconds / SECOND - START / SECOND, more=_only(cases[at].attributes))
            for at in order[first : first + 512]
        ]
        for group in chain.from_iterable(map(note_costs, grouped(spans))):
            costs = group.columns.get(names.COST, [None] * len(group))
            found |= {span.context.span_id: cost for span, cost in zip(group.spans, costs, strict=True)}
    assert [found[at] for at in range(len(cases))] == [None if amount is None else float(amount) for amount in expected]


def test_sql_says_what_genai_prices_says(store: Store, cases: list[Case], expected: list[Decimal | None]) -> None:
    """The cost that the database works out, from the attributes alone, is genai-prices' in all points of the grid."""
    models = dict.fromkeys((case.provider, case.model) for case in cases)
    store.add_prices([row for name in models for row in rows_for(*name)], book_version())
    for first in range(0, len(cases), BATCH):
        batch = [
            call(first + at + 1, start=case.nanoseconds / SECOND - START / SECOND, more=_only(case.attributes))
            for at, case in enumerate(cases[first : first + BATCH])
        ]
        store.insert(batch, f"batch-{first}")
    rows = store.reader().query("SELECT cost_usd, cost_status FROM session_calls ORDER BY span_id").rows
    assert differences(cases, expected, [amount for amount, _ in rows]) == []
    assert {(amount is None, status) for amount, status in rows} == {(False, "priced"), (True, "unpriced")}


def _only(attributes: dict[str, Any]) -> dict[str, Any]:
    return {names.REQUEST_MODEL: None, names.INPUT_TOKENS: None, names.OUTPUT_TOKENS: None, **attributes}
