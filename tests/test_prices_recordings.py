"""Recorded provider traffic, captured, priced: the same amount from Python, from SQL and from genai-prices."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import genai_prices
import httpx2
import pytest
from memory_store import memory_store
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from test_prices_grid import PICO, UNITS

from otel_sessions.base import names
from otel_sessions.base.group import grouped
from otel_sessions.prices import PriceRegistry, cost_of

FOLDER = os.environ.get("OTEL_SESSIONS_RECORDINGS", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="OTEL_SESSIONS_RECORDINGS is not set")


def recordings() -> Iterator[dict[str, Any]]:
    for file in sorted(Path(FOLDER).glob("*.jsonl")):
        yield from (json.loads(line) for line in file.read_text().splitlines())


def body(side: dict[str, str] | None) -> bytes:
    side = side or {}
    return base64.b64decode(side["base64"]) if "base64" in side else side.get("text", "").encode()


def replay(recording: dict[str, Any]) -> None:
    headers = {"content-type": recording["content_type"]} if recording["content_type"] else {}
    answer = httpx2.Response(recording["status"], headers=headers, content=body(recording["response"]))
    with httpx2.Client(transport=httpx2.MockTransport(lambda _: answer)) as client:
        client.request(recording["method"], recording["url"], content=body(recording["request"]))


def by_genai_prices(span: ReadableSpan, source: str) -> Decimal:
    """The cost by genai-prices, at the provider that the price book found."""
    attributes = span.attributes or {}
    provider, _, model = source.rpartition(" ")[2].partition("/")
    units = {unit: attributes[name] for unit, name in UNITS.items() if name in attributes}
    for name in (attributes.get(names.RESPONSE_MODEL), attributes.get(names.REQUEST_MODEL)):
        try:
            price = genai_prices.calc_price(
                genai_prices.Usage(**units),  # type: ignore[arg-type] # token counts
                str(name),
                provider_id=provider,
                genai_request_timestamp=datetime.fromtimestamp((span.start_time or 0) / 1e9, UTC),
                price_context={"service_tier": str(attributes.get(names.RESPONSE_SERVICE_TIER))},
            )
        except LookupError:
            continue
        assert price.model.id == model
        return price.total_price.quantize(PICO)
    raise AssertionError(f"{source} prices what genai-prices does not know")


def test_recorded_traffic_costs_what_genai_prices_says(exporter: InMemorySpanExporter) -> None:
    """Every exchange that has a price has the same one three times; the others are NULL three times."""
    for recording in recordings():
        replay(recording)
    spans = [
        s for s in exporter.get_finished_spans() if (s.attributes or {}).get(names.OPERATION) in names.LLM_OPERATIONS
    ]
    python = {_key(span): cost_of(span.attributes or {}, span.start_time or 0) for span in spans}
    priced = [span for span in spans if python[_key(span)].status == "priced"]
    differences = [
        span.attributes
        for span in priced
        if python[_key(span)].amount != by_genai_prices(span, python[_key(span)].source or "")
    ]
    assert differences == []
    assert len(priced) > 450
    assert _in_sql(spans) == {key: cost.amount for key, cost in python.items() if cost.status != "no_usage"}


def _key(span: ReadableSpan) -> str:
    return f"{span.context.span_id:016x}" if span.context else ""


def _in_sql(spans: list[ReadableSpan]) -> dict[str, Decimal | None]:
    with memory_store() as store:
        registry = PriceRegistry(store.add_prices)
        for span in spans:
            list(registry.price(grouped([span])[0]))
        registry.publish()
        # Without the cost that Python put on them: the database has to find it.
        store.insert(spans, "batch")
        found = store.reader().query("SELECT span_id, cost_usd FROM session_calls WHERE cost_status != 'no_usage'")
        return dict(found.rows)
