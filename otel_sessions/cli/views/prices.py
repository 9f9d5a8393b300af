"""Prices, models without one, and what a change of prices does, as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from rich.text import Text

from otel_sessions.base.price import ALWAYS, PriceRow
from otel_sessions.cli import text
from otel_sessions.cli.document import decimal_text
from otel_sessions.cli.views.grid import Column, figures, table
from otel_sessions.cli.views.listing import failed, plain
from otel_sessions.store import PriceChange, UnpricedRow

_SHOWN = (("INPUT", "input", 90), ("CACHED", "cached_input", 60), ("WRITE", "cache_write", 30), ("OUTPUT", "output", 85),
          ("REASONING", "reasoning", 15), ("AUDIO IN", "audio_input", 10), ("SEARCH/K", "web_search", 5))  # fmt: skip


def prices(rows: Sequence[PriceRow], width: int) -> list[Text]:
    """The price book's rows; dollars per million tokens."""
    columns = [
        Column("PROVIDER", [plain(row.provider) for row in rows], 80, right=False, cut=10),
        Column("MODEL", [plain(row.model, "cyan") for row in rows], right=False, fold=16),
        Column("TIER", [Text(text.printable(row.service_tier) or "standard") for row in rows], 50, right=False, cut=10),
        Column("FROM", [Text(_since(row)) for row in rows], 70, right=False),
        figures("ABOVE", rows, lambda row: text.count(row.tier_start) if row.tier_start else "", 40),
        *(figures(title, rows, _price(name), weight) for title, name, weight in _SHOWN),
        Column(
            "SOURCE",
            [plain(row.source, "" if row.origin == "user" else "dim") for row in rows],
            20,
            right=False,
            cut=12,
        ),
    ]
    return table(columns, width)


def unpriced(rows: Sequence[UnpricedRow], width: int) -> list[Text]:
    """Models with calls that have no price."""
    columns = [
        Column("PROVIDER", [plain(row.provider) for row in rows], 80, right=False, cut=10),
        Column("MODEL", [plain(row.model, "cyan") for row in rows], right=False, fold=16),
        figures("CALLS", rows, lambda row: text.count(row.calls), 70),
        figures("INPUT", rows, lambda row: text.count(row.input_tokens), 50),
        figures("OUTPUT", rows, lambda row: text.count(row.output_tokens), 40),
        figures("FIRST", rows, lambda row: text.moment(row.first_seen), 10),
        figures("LAST", rows, lambda row: text.moment(row.last_seen), 20),
    ]
    return table(columns, width)


def changes(rows: Sequence[PriceChange], width: int) -> list[Text]:
    """What each model's calls cost and would cost, and the sums."""
    every = [*rows, _sum(rows)]
    known = [cost for row in every for cost in (row.old_cost_usd, row.new_cost_usd) if cost is not None]
    places = text.places(max(known, default=None))
    columns = [
        Column("PROVIDER", [plain(row.provider) for row in every], 30, right=False, cut=10),
        Column("MODEL", [plain(row.model, "cyan") for row in rows] + [Text("all", "bold")], right=False, fold=16),
        figures("CALLS", every, lambda row: text.count(row.calls), 60),
        figures("CHANGED", every, lambda row: text.count(row.changed_calls), 50),
        figures("COST", every, lambda row: _cost(row.old_cost_usd, places), 80),
        figures("NEW COST", every, lambda row: _cost(row.new_cost_usd, places), 90),
        figures("UNPRICED", every, lambda row: failed(row.old_unpriced_calls), 20),
        figures("NOW UNPRICED", every, lambda row: failed(row.new_unpriced_calls), 40),
    ]
    return table(columns, width)


def _price(name: str) -> Callable[[PriceRow], Text]:
    def cell(row: PriceRow) -> Text:
        value = getattr(row, name)
        return Text(text.NOTHING, "dim") if value is None else Text(decimal_text(value))

    return cell


def _cost(amount: Decimal | None, places: int) -> Text:
    return Text("unknown", "yellow") if amount is None else Text(text.money(amount, places))


def _total(costs: Iterable[Decimal | None]) -> Decimal | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known, Decimal(0)) if known else None


def _since(row: PriceRow) -> str:
    day = "" if row.valid_from == ALWAYS else f"{row.valid_from:%Y-%m-%d}"
    hour = f" {row.time_from // 3600:02}:{row.time_from % 3600 // 60:02}" if row.time_from else ""
    return f"{day}{hour}".strip()


def _sum(rows: Sequence[PriceChange]) -> PriceChange:
    return PriceChange(
        "",
        "",
        sum(row.calls for row in rows),
        sum(row.changed_calls for row in rows),
        _total(row.old_cost_usd for row in rows),
        _total(row.new_cost_usd for row in rows),
        sum(row.old_unpriced_calls for row in rows),
        sum(row.new_unpriced_calls for row in rows),
    )
