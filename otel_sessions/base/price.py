"""What one line of the price book says; travels between prices and store."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

ALWAYS: Final = datetime(1970, 1, 1, tzinfo=UTC)
REGIONAL: Final = "regional"
"""Service tier of calls that had to be answered in one region; others follow it: ``regional flex``."""
LARGEST_COUNT: Final = 10**12
"""Tokens of one kind in one call. More is taken for a mistake: such a call has no price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    """Prices of one model under one condition, in USD: per million tokens, ``request`` and ``web_search`` per thousand.

    ``provider`` and ``model`` are spelled as on the span. The row is in force from ``valid_from`` (UTC) on, each day
    from ``time_from`` (seconds since midnight UTC), for calls with more than ``tier_start`` input tokens (0: all),
    answered on ``service_tier`` (empty: any that has no row of its own; :func:`tiers_of` has the order). A price is that
    of the tokens which are of no more special kind: ``input`` is for what is neither cached nor audio, and so on. None:
    such tokens are not billed.
    """

    provider: str
    model: str
    service_tier: str = ""
    valid_from: datetime = ALWAYS
    time_from: int = 0
    tier_start: int = 0
    input: Decimal | None = None
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    audio_input: Decimal | None = None
    cached_audio_input: Decimal | None = None
    image_input: Decimal | None = None
    cached_image_input: Decimal | None = None
    video_input: Decimal | None = None
    output: Decimal | None = None
    reasoning: Decimal | None = None
    audio_output: Decimal | None = None
    image_output: Decimal | None = None
    video_output: Decimal | None = None
    request: Decimal | None = None
    web_search: Decimal | None = None
    origin: str = "book"
    """``user`` for the user's own prices, which win over those of the ``book``."""
    source: str = ""
    """Where the prices come from, in words, e.g. ``genai-prices 0.2.3 openai/gpt-4o``."""


def tiers_of(service_tier: str) -> tuple[str, ...]:
    """The service tiers of rows that hold for a call on ``service_tier``, first the one that wins."""
    if not service_tier.startswith(REGIONAL):
        return service_tier, ""
    return service_tier, REGIONAL, service_tier.removeprefix(REGIONAL).strip(), ""


CONDITIONS: Final = ("provider", "model", "service_tier", "valid_from", "time_from", "tier_start")
PRICES: Final = tuple(f.name for f in fields(PriceRow) if f.name not in {*CONDITIONS, "origin", "source"})
TOKEN_PRICES: Final = PRICES[:-2]
INPUT_PRICES: Final = PRICES[: PRICES.index("output")]
