"""Recorded provider traffic through the instrumented client: `python -m bench.recordings [FILE ...]`.

Per file: exchanges, LLM calls among them, how many agree with the provider's own JSON in each fact, and how many in
the cost that genai-prices calculates from the same JSON; then every mismatch. Files default to those in the folder that
`OTEL_SESSIONS_RECORDINGS` names.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import genai_prices
import httpx2
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bench.recorded import Facts, Recording, body, expected, folder, recordings
from otel_sessions import capture
from otel_sessions.base import names
from otel_sessions.base.settings import Settings
from otel_sessions.prices.costs import cost_of

ATTRIBUTES = {
    "operation": names.OPERATION,
    "provider": names.PROVIDER,
    "request_model": names.REQUEST_MODEL,
    "response_model": names.RESPONSE_MODEL,
    "finish_reasons": names.FINISH_REASONS,
    "input": names.INPUT_TOKENS,
    "output": names.OUTPUT_TOKENS,
    "cache_read": names.CACHE_READ_TOKENS,
    "cache_write": names.CACHE_CREATION_TOKENS,
    "reasoning": names.REASONING_TOKENS,
    "searches": names.WEB_SEARCHES,
    "tier": names.RESPONSE_SERVICE_TIER,
}
PROVIDERS = {
    "azure.ai.openai": "azure",
    "openai": "openai",
    "anthropic": "anthropic",
    "gcp.gemini": "google",
    "groq": "groq",
    "mistral_ai": "mistral",
    "deepseek": "deepseek",
    "cohere": "cohere",
    "aws.bedrock": "aws",
    "together": "together",
    "voyage": "voyageai",
}
"""Our provider → genai-prices' id."""
USAGE = ("input", "output", "cache_read", "cache_write", "reasoning", "searches")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One exchange: ``wanted`` by the provider's JSON, ``measured`` by the span, whose price is ``cost``."""

    recording: Recording
    wanted: Facts | None
    measured: Facts | None
    cost: Decimal | None = None

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Fact → (wanted, measured), where they differ; ``call`` if one is a call and the other is not."""
        if self.wanted is None or self.measured is None:
            return {} if self.wanted is self.measured else {"call": (self.wanted, self.measured)}
        pairs = zip(asdict(self.wanted).items(), asdict(self.measured).values(), strict=True)
        found = {name: (wanted, measured) for (name, wanted), measured in pairs if wanted != measured}
        cost = price(self.wanted)
        return found if cost == self.cost else found | {"cost": (cost, self.cost)}


def price(facts: Facts) -> Decimal | None:
    """What genai-prices says, of the model that answered, else of the one asked for; ``None`` if it does not know."""
    provider = PROVIDERS.get(facts.provider)
    if provider is None or (facts.input is None and facts.output is None):
        return None
    usage = genai_prices.Usage(
        input_tokens=facts.input,
        output_tokens=facts.output,
        cache_read_tokens=facts.cache_read,
        cache_write_tokens=facts.cache_write,
        output_reasoning_tokens=facts.reasoning,
        web_searches=facts.searches,
    )
    for model in filter(None, (facts.response_model, facts.request_model)):
        try:
            found = genai_prices.calc_price(usage, model, provider_id=provider, price_context=_context(facts.tier))
        except LookupError:
            continue
        return found.total_price.quantize(Decimal("1e-12"))
    return None


def _context(tier: str | None) -> dict[str, str] | None:
    return {"service_tier": tier} if tier else None


@contextmanager
def instrumented() -> Iterator[InMemorySpanExporter]:
    """httpx2 instrumented, its spans in memory."""
    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    capture.instrument(provider, settings=Settings())
    try:
        yield memory
    finally:
        capture.uninstrument()


def replay(recording: Recording, memory: InMemorySpanExporter) -> ReadableSpan | None:
    """The span of ``recording`` sent through a client whose transport answers as recorded."""
    headers = {"content-type": recording["content_type"]} if recording["content_type"] else {}
    answer = httpx2.Response(recording["status"], headers=headers, content=body(recording["response"]))
    memory.clear()
    with httpx2.Client(transport=httpx2.MockTransport(lambda _request: answer)) as client:
        client.request(recording["method"], recording["url"], content=body(recording["request"]))
    spans = memory.get_finished_spans()
    if len(spans) > 1:
        raise AssertionError(f"{len(spans)} spans for one exchange")
    return spans[0] if spans else None


def measured(span: ReadableSpan | None) -> Facts | None:
    """What ``span`` says."""
    if span is None:
        return None
    attributes = span.attributes or {}
    found: dict[str, Any] = {name: attributes.get(attribute) for name, attribute in ATTRIBUTES.items()}
    found["finish_reasons"] = tuple(found["finish_reasons"] or ())
    return Facts(**found)


def compare(path: Path) -> list[Comparison]:
    """Every exchange of one file."""
    with instrumented() as memory:
        spans = [(item, replay(item, memory)) for item in recordings(path)]
    return [Comparison(item, expected(item), measured(span), _cost(span)) for item, span in spans]


def _cost(span: ReadableSpan | None) -> Decimal | None:
    return cost_of(span.attributes or {}, span.start_time or 0).amount if span else None


def main(arguments: list[str]) -> int:
    """Print the table; 1 if anything differs."""
    root = folder()
    paths = [Path(item) for item in arguments] or sorted(root.glob("*.jsonl") if root else [])
    results = {path.stem: compare(path) for path in paths}
    print(f"{'file':20}{'exchanges':>10}{'calls':>7}{'span or not':>13}{'usage':>8}{'cost':>7}{'everything':>12}")
    total: Counter[str] = Counter()
    for name, found in results.items():
        row = _row(found)
        total.update(row)
        _print(name, row)
    _print("total", total)
    _list(results)
    return int(total["facts"] != total["exchanges"])


def _row(found: list[Comparison]) -> dict[str, int]:
    differences = [comparison.differences() for comparison in found]
    return {
        "exchanges": len(found),
        "calls": sum(comparison.wanted is not None for comparison in found),
        "span": sum("call" not in item for item in differences),
        "cost": sum(not item.keys() & {"call", "cost"} for item in differences),
        "usage": sum("call" not in item and not item.keys() & set(USAGE) for item in differences),
        "facts": sum(not item for item in differences),
    }


def _print(name: str, row: dict[str, int] | Counter[str]) -> None:
    counts = (
        f"{row['exchanges']:>10}{row['calls']:>7}{row['span']:>13}{row['usage']:>8}{row['cost']:>7}{row['facts']:>12}"
    )
    print(f"{name:20}{counts}")


def _list(results: dict[str, list[Comparison]]) -> None:
    for name, found in results.items():
        for number, comparison in enumerate(found):
            for fact, (wanted, got) in comparison.differences().items():
                print(f"{name}:{number + 1} {comparison.recording['url']}: {fact} is {got!r}, not {wanted!r}")


if __name__ == "__main__":
    assert {field.name for field in fields(Facts)} == set(ATTRIBUTES)
    sys.exit(main(sys.argv[1:]))
