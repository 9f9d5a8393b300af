"""What a call costs: the price book, one call's price, the user's own prices from a file."""

from otel_sessions.prices.book import book_version, rows_for
from otel_sessions.prices.costs import Cost, cost_of, priced
from otel_sessions.prices.registry import PriceRegistry

__all__ = ["Cost", "PriceRegistry", "book_version", "cost_of", "priced", "rows_for"]
