"""What a call costs: the price book, one call's price, the user's own prices from a file.

book      genai-prices' answer for one model name, as rows
costs     one call's price by these rows: a stage of the delivery chain
registry  brings the rows of the models that are called into the store
sheet     a user's own prices, as CSV
"""

from otel_sessions.prices.book import book_version, fetch_book, rows_for
from otel_sessions.prices.costs import Cost, cost_of, note_costs
from otel_sessions.prices.registry import PriceRegistry
from otel_sessions.prices.sheet import read_prices, write_prices

__all__ = [
    "Cost",
    "PriceRegistry",
    "book_version",
    "cost_of",
    "fetch_book",
    "note_costs",
    "read_prices",
    "rows_for",
    "write_prices",
]
