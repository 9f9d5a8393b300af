"""What a call cost, by the price book, with the time at which the call was made.

Runs in the delivery chain, never on the caller's thread. ``store/schema`` says the same in SQL; tests hold both
against genai-prices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from itertools import repeat
from operator import mul, sub
from typing import Any, NamedTuple

from otel_sessions.base import names
from otel_sessions.base.group import SpanGroup
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
_TOTAL_OF = {
    **dict.fromkeys(INPUT_PRICES[1:], "input"),
    **dict.fromkeys(TOKEN_PRICES[TOKEN_PRICES.index("output") + 1 :], "output"),
}
"""The total that a kind of token is part of."""
Columns = Mapping[str, Sequence[Any]]
"""Values of several calls, by attribute name."""
Counts = Mapping[str, Sequence[int]]
"""Numbers of tokens of several calls, by kind."""
_Priced = tuple[int | None, str, str | None]
"""A :class:`Cost` with its amount in 10^-12 USD: an integer is exact, and ten times as fast as Decimal."""
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


def note_costs(group: SpanGroup) -> Iterable[SpanGroup]:
    """The stage that adds cost, cost status and cost source to LLM calls, and nothing to other spans.

    In several groups, where not all spans get the same of these.
    """
    for is_call, part in group.split(_calls(group.columns, len(group))).items():
        yield from _with_costs(part) if is_call else (part,)


def _calls(columns: Columns, rows: int) -> list[bool]:
    none = [None] * rows
    operations, billables = columns.get(names.OPERATION, none), columns.get(names.BILLABLE, none)
    return [
        billable is not False and operation.__class__ is str and operation in names.LLM_OPERATIONS
        for operation, billable in zip(operations, billables, strict=True)
    ]


def _with_costs(calls: SpanGroup) -> Iterable[SpanGroup]:
    picos, statuses, sources = zip(*_costs(calls.columns, [span.start_time or 0 for span in calls.spans]), strict=True)
    costed = calls.given({names.COST_STATUS: statuses, names.COST: picos, names.COST_SOURCE: sources})
    lacks = [(pico is None, source is None) for pico, source in zip(picos, sources, strict=True)]
    for (no_cost, no_source), part in costed.split(lacks).items():
        columns = dict(part.columns)
        if no_source:
            del columns[names.COST_SOURCE]
        if no_cost:
            del columns[names.COST]
        else:
            columns[names.COST] = [pico / _PICO_DOLLAR for pico in columns[names.COST]]
        yield SpanGroup(part.spans, columns)


def cost_of(attributes: Mapping[str, Any], start_time: int) -> Cost:
    """Cost of the call that ``attributes`` describe, at ``start_time`` (nanoseconds since 1970).

    A cost that the response itself carried is taken as it is (``provided``). The model that answered is looked up
    first, then the one asked for. Usage that contradicts itself has no price.
    """
    [(pico, status, source)] = _costs({name: (value,) for name, value in attributes.items()}, (start_time,))
    return Cost(None if pico is None else Decimal(pico).scaleb(-_DECIMALS, context=_EXACT), status, source)


def _costs(columns: Columns, starts: Sequence[int]) -> Sequence[_Priced]:
    """What :func:`cost_of` says of each of several calls, whose attributes have the same names."""
    counts = _counts(columns)
    given = [cost for cost in columns.get(names.COST, ()) if cost is not None]
    if counts is None or 0 < len(given) < len(starts):
        rows = ({name: (values[at],) for name, values in columns.items()} for at in range(len(starts)))
        return [_costs(row, (start,))[0] for row, start in zip(rows, starts, strict=True)]
    if given:
        sources = columns.get(names.COST_SOURCE, [None] * len(given))
        return [(_picos(cost), "provided", source) for cost, source in zip(given, sources, strict=True)]
    if "input" not in counts and "output" not in counts:
        return [(None, "no_usage", None)] * len(starts)
    return _priced(counts, _tariffs_in_force(columns, starts, counts.get("input", [0] * len(starts))))


def _counts(columns: Columns) -> Counts | None:
    """The numbers of tokens by kind, those that are usable; None if some calls have a usable one where others have not."""
    found: dict[str, Sequence[int]] = {}
    for name, kind in _NAMES:
        values = columns.get(name, ())
        if values and _are_counts(values):
            found[kind] = values
        elif any(_are_counts((value,)) for value in values):
            return None
    return found


def _are_counts(values: Sequence[Any]) -> bool:
    return set(map(type, values)) == {int} and min(values) >= 0 and max(values) < _BEYOND_COUNTS


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


def _tariffs_in_force(columns: Columns, starts: Sequence[int], inputs: Sequence[int]) -> Sequence[Tariff | None]:
    rows = len(starts)
    facts = list(zip(*(_texts(columns.get(name, [""] * rows)) for name in _TARIFF_NAMES), strict=True))
    tariffs = {each: _tariffs_of(*each) for each in set(facts)}
    earliest = min(starts) // _SECOND
    if all(not found or _always_holds(found[0], earliest) for found in tariffs.values()):
        firsts = {each: found[0] if found else None for each, found in tariffs.items()}
        return list(map(firsts.__getitem__, facts))
    return [
        in_force(tariffs[each], start // _SECOND, sent) for each, start, sent in zip(facts, starts, inputs, strict=True)
    ]


def _always_holds(found: Tariff, since: int) -> bool:
    return found.valid_from <= since and found.time_from == 0 and found.tier_start == 0


def _texts(values: Sequence[Any]) -> Sequence[str]:
    return values if set(map(type, values)) == {str} else [str(value or "") for value in values]


_TARIFF_NAMES = (
    names.PROVIDER, names.RESPONSE_MODEL, names.REQUEST_MODEL,
    names.RESPONSE_SPEED, names.RESPONSE_SERVICE_TIER, names.RESPONSE_REGION, names.SERVER_ADDRESS,
)  # fmt: skip


def _tariffs_of(  # noqa: PLR0913, PLR0917 - the values of _TARIFF_NAMES, "" for what is not said
    provider: str, answered: str, asked: str, speed: str, service_tier: str, region: str, host: str
) -> tuple[Tariff, ...]:
    tier = f"speed={speed}" if speed and speed != "standard" else service_tier
    is_regional = region or _is_regional(host)
    return _tariffs(book_edition(), provider, answered, asked, f"{REGIONAL} {tier}".rstrip() if is_regional else tier)


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


def _priced(counts: Counts, tariffs: Sequence[Tariff | None]) -> list[_Priced]:
    """Each call by its tariff, those of one tariff together."""
    found: list[_Priced] = [(None, "unpriced", None)] * len(tariffs)
    places: dict[int, list[int]] = {}
    for at, held in enumerate(tariffs):
        places.setdefault(id(held), []).append(at)
    for positions in places.values():
        held = tariffs[positions[0]]
        if held is not None and "input" in counts:
            some = {kind: list(map(numbers.__getitem__, positions)) for kind, numbers in counts.items()}
            for at, amount in zip(positions, _amounts(some, held), strict=True):
                if amount is not None:
                    found[at] = (_rounded_picos(amount), "priced", held.source)
    return found


def _amounts(counts: Counts, found: Tariff) -> Sequence[int | None]:
    """10^-24 dollars for each of the calls (kinds as in :class:`PriceRow`; ``input`` and ``output`` are totals).

    None if its counts contradict each other, or if nothing of what was used has a price.
    """
    parts = _parts(counts)
    weights = [found.weights[kind] for kind in parts]
    amounts = [sum(map(mul, weights, numbers), found.per_call) for numbers in zip(*parts.values(), strict=True)]
    bills_all = found.bills_input and found.bills_output and not found.ambiguous
    if bills_all and min(map(min, parts.values())) >= 0 and max(map(max, counts.values())) <= LARGEST_COUNT:
        return amounts
    calls = (dict(zip(counts, numbers, strict=True)) for numbers in zip(*counts.values(), strict=True))
    rests = zip(*parts.values(), strict=True)
    return [
        amount if min(rest) >= 0 and _has_price(call, found) else None
        for amount, rest, call in zip(amounts, rests, calls, strict=True)
    ]


def _parts(counts: Counts) -> Counts:
    """``counts`` with each token in one part only, of the totals what is in no part; below 0 where they contradict each other."""
    parts: dict[str, Sequence[int]] = {"output": [0] * len(counts["input"]), **counts}
    for kind in _OVERLAPS.keys() & counts.keys():
        for whole in _OVERLAPS[kind]:
            parts[whole] = list(map(sub, parts.get(whole, repeat(0)), counts[kind]))
    for kind in counts:
        if total := _TOTAL_OF.get(kind):
            parts[total] = list(map(sub, parts[total], parts[kind]))
    return parts


def _has_price(call: Mapping[str, int], found: Tariff) -> bool:
    sent, answered = call["input"], call.get("output", 0)
    # Not to be billed is not the same as to cost nothing.
    is_billed = not (sent or answered) or (sent and found.bills_input) or (answered and found.bills_output)
    return bool(is_billed) and max(call.values()) <= LARGEST_COUNT and not _is_ambiguous(call, found)


def _is_ambiguous(call: Mapping[str, int], found: Tariff) -> bool:
    """Some input is cached, some is audio (or image), nobody says how much is both, and it would cost something else."""
    return bool(found.ambiguous and call.get("cached_input")) and any(
        call.get(kind) and f"cached_{kind}" not in call for kind in found.ambiguous
    )


def _scaled(price: Decimal | None) -> int:
    return int((price or Decimal(0)).scaleb(18, context=_EXACT))


def _rounded_picos(amount: int) -> int:
    """``amount`` of 10^-24 dollars in 10^-12, rounded half to even."""
    picos, rest = divmod(amount, _PICO_DOLLAR)
    return picos + (2 * rest > _PICO_DOLLAR or (2 * rest == _PICO_DOLLAR and picos % 2 == 1))


def _picos(cost: object) -> int:
    """``cost`` in dollars as 10^-12 of them, rounded half to even."""
    return int(Decimal(str(cost)).quantize(_SMALLEST, context=_EXACT).scaleb(_DECIMALS, context=_EXACT))
