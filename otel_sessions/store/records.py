"""What a reader returns: one frozen dataclass per view, field by field the view's columns, in their order.

Times are aware datetimes in UTC (microseconds), money is Decimal, NULL is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A row of the view ``sessions``; ``docs/schema.md`` says what each column means."""

    session_id: str
    session_name: str
    user_ids: list[str]
    started_at: datetime
    ended_at: datetime
    wall_seconds: float
    llm_seconds: float
    calls: int
    errors: int
    input_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    total_tokens: int
    cost_usd: Decimal | None
    cost_status: str
    unpriced_calls: int
    no_usage_calls: int
    latency_p50_seconds: float | None
    latency_p95_seconds: float | None
    models: list[str]
    providers: list[str]
    services: list[str]
    spans: int


@dataclass(frozen=True, slots=True)
class StepRow:
    """A row of the view ``session_steps``; ``docs/schema.md`` says what each column means."""

    session_id: str
    path: str
    parent_path: str
    depth: int
    started_at: datetime
    ended_at: datetime
    wall_seconds: float
    own_calls: int
    own_errors: int
    own_llm_seconds: float
    own_input_tokens: int
    own_output_tokens: int
    own_cost_usd: Decimal | None
    own_unpriced_calls: int
    calls: int
    errors: int
    llm_seconds: float
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    cost_status: str
    unpriced_calls: int
    spans: int


@dataclass(frozen=True, slots=True)
class CallRow:
    """A row of the view ``session_calls``; ``docs/schema.md`` says what each column means."""

    session_id: str
    session_source: str
    session_name: str
    path: str
    trace_id: str
    span_id: str
    parent_span_id: str
    started_at: datetime
    ended_at: datetime
    duration_seconds: float
    ttft_seconds: float | None
    provider: str
    request_model: str
    response_model: str
    operation: str
    input_tokens: int | None
    cached_input_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    total_tokens: int | None
    cost_usd: Decimal | None
    cost_status: str
    cost_source: str
    status: str
    error_type: str
    http_status: int
    finish_reasons: list[str]
    streamed: bool
    response_end: str
    user_id: str
    service: str
    server_address: str
    service_tier: str
    response_id: str
    scope: str


@dataclass(frozen=True, slots=True)
class AttributeRow:
    """An attribute of a span, the column of ``llm_calls`` that it feeds, and its outcome.

    ``used``, ``passed over`` (another attribute is believed more), ``empty`` or ``not read``.
    """

    trace_id: str
    column: str
    attribute: str
    value: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a span: ``counted``, or why it is not, and the span that counts instead."""

    outcome: str
    session_id: str
    session_source: str
    superseded_by: str


@dataclass(frozen=True, slots=True)
class Table:
    """The result of any query: column names, their ClickHouse types, and the rows."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class PriceChange:
    """What the calls of one model cost and would cost at other prices; costs are sums over calls with a price."""

    provider: str
    model: str
    calls: int
    changed_calls: int
    old_cost_usd: Decimal | None
    new_cost_usd: Decimal | None
    old_unpriced_calls: int
    new_unpriced_calls: int


@dataclass(frozen=True, slots=True)
class UnpricedRow:
    """A row of the view ``unpriced_models``."""

    provider: str
    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    first_seen: datetime
    last_seen: datetime
