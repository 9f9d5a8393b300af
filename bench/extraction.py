"""genai-prices' own usage extraction beside ours, over the recordings: `python -m bench.extraction [FILE ...]`.

It reads one JSON document, so of a stream it is given each event, the last first, until one is accepted; and it must be
told the flavour of the API, so each is tried. Per file and operation: how many agree in input, output, cached, written
and reasoning tokens, and an example of each difference.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genai_prices import data_snapshot
from genai_prices.types import Provider

from bench.recorded import Recording, body, documents, folder
from bench.recordings import PROVIDERS, Comparison, compare

FIELDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "output_reasoning_tokens")


def wanted(comparison: Comparison) -> tuple[int | None, ...]:
    """Our counts; a part that is 0 is none, since genai-prices does not tell them apart."""
    facts = comparison.measured
    if facts is None:
        return ()
    return (facts.input, facts.output, facts.cache_read or None, facts.cache_write or None, facts.reasoning or None)


def extracted(provider: Provider, recording: Recording) -> dict[str, tuple[int | None, ...] | str]:
    """Flavour → counts, or why it refused."""
    extractors = provider.extractors or []
    return {item.api_flavor: _by_flavor(provider, recording, item.api_flavor) for item in extractors}


def _by_flavor(provider: Provider, recording: Recording, flavor: str) -> tuple[int | None, ...] | str:
    refusal = "no JSON"
    for document in _candidates(recording):
        try:
            usage = provider.extract_usage(document, api_flavor=flavor)[1]
        except (ValueError, LookupError) as error:
            refusal = str(error)
            continue
        counts = [getattr(usage, name, None) for name in FIELDS]
        return (*counts[:2], *(count or None for count in counts[2:]))
    return refusal


def _candidates(recording: Recording) -> Iterator[Any]:
    for document in [*documents(body(recording["response"]))][::-1]:
        yield document
        yield from (document[key] for key in ("response", "message", "x_groq") if isinstance(document.get(key), dict))


def verdict(comparison: Comparison) -> tuple[str, object]:
    """In words, and what was extracted."""
    facts = comparison.measured
    provider_id = PROVIDERS.get(facts.provider) if facts else None
    if facts is None or provider_id is None:
        return "provider unknown to genai-prices", None
    provider = next(item for item in data_snapshot.get_snapshot().providers if item.id == provider_id)
    if not provider.extractors:
        return "provider without extraction", None
    found = extracted(provider, comparison.recording)
    same = [flavor for flavor, counts in found.items() if counts == wanted(comparison)]
    if facts.input is None and facts.output is None:
        return "no usage stated", None
    return (f"equal as {same[0]!r}", None) if same else ("differs", found)


def main(arguments: list[str]) -> None:
    """Print the counts of each verdict."""
    root = folder()
    for path in [Path(item) for item in arguments] or sorted(root.glob("*.jsonl") if root else []):
        counts: Counter[tuple[str, str]] = Counter()
        examples: dict[str, object] = {}
        for comparison in compare(path):
            if comparison.measured is None:
                continue
            words, found = verdict(comparison)
            counts[comparison.measured.operation, words] += 1
            if found:
                examples.setdefault(comparison.recording["url"], (wanted(comparison), found))
        for (operation, words), count in sorted(counts.items()):
            print(f"{path.stem:20}{operation:18}{count:>5}  {words}")
        for url, example in examples.items():
            print(f"{'':20}{url}: {example}")


if __name__ == "__main__":
    main(sys.argv[1:])
