"""Brings the prices of the models that spans name into the store, before the spans themselves arrive there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from otel_sessions.base import names
from otel_sessions.base.errors import StoreUnavailableError
from otel_sessions.base.group import SpanGroup
from otel_sessions.base.guard import count
from otel_sessions.base.price import PriceRow
from otel_sessions.prices.book import LONGEST_NAME, book_version, rows_for
from otel_sessions.prices.costs import note_costs

AddPrices = Callable[[Sequence[PriceRow], int], object]
"""Takes rows and their version; knows which of them it has already."""

_MOST_NAMES = 10_000
"""Names in one process beyond which it registers no more: someone makes them up."""


class PriceRegistry:
    """Prices spans, and hands the price rows of each model that they name to ``add``, once."""

    def __init__(self, add: AddPrices) -> None:
        self._add = add
        # Insertion order: what is published is a beginning of it.
        self._names: dict[tuple[str, str], None] = {}
        self._published = 0

    def price(self, group: SpanGroup) -> Iterable[SpanGroup]:
        """The stage that adds what calls cost; their models are registered with the next batch."""
        for part in note_costs(group):
            if names.COST_STATUS in part.columns and names.OPERATION in part.columns:
                self._register_all(part)
            yield part

    def _register_all(self, calls: SpanGroup) -> None:
        unknown = [None] * len(calls)
        providers = calls.columns.get(names.PROVIDER, unknown)
        for name in (names.RESPONSE_MODEL, names.REQUEST_MODEL):
            for provider, model in set(zip(providers, calls.columns.get(name, unknown), strict=True)):
                if model and (key := (str(provider or ""), str(model))) not in self._names:
                    self._register(*key)

    def _register(self, provider: str, model: str) -> None:
        if len(self._names) < _MOST_NAMES and max(len(model), len(provider)) <= LONGEST_NAME:
            self._names[provider, model] = None

    def publish(self) -> None:
        """Add the rows of names that are new since the last time. Call it before their spans are inserted.

        Raises :class:`StoreUnavailableError`; the next call tries again. Any other failure leaves these spans with
        the cost that they carry.
        """
        known = len(self._names)
        if known == self._published:
            return
        rows = [row for name in islice(self._names, self._published, known) for row in rows_for(*name)]
        try:
            if rows:
                self._add(rows, book_version())
        except StoreUnavailableError:
            raise
        except Exception:  # noqa: BLE001 - a span without a row in the price book is worth more than no span
            count("error.prices", "otel-sessions: the price book in the store was not completed", exc_info=True)
        self._published = known
