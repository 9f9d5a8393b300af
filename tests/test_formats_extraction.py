"""Every usage field that genai-prices knows how to extract, of every provider and flavour of an API, is read the same here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from genai_prices import data_snapshot
from genai_prices.types import ArrayMatch, Provider, UsageExtractor

from otel_sessions.base.settings import Settings
from otel_sessions.capture.target import Targets

FIELDS = {
    "input_tokens": "input", "output_tokens": "output", "output_reasoning_tokens": "reasoning", "web_searches": "web_searches",
    "cache_read_tokens": "cache_read", "cache_write_tokens": "cache_write", "cache_write_1h_tokens": "cache_write_1h",
    "input_audio_tokens": "audio_input", "input_image_tokens": "image_input", "input_video_tokens": "video_input",
    "output_audio_tokens": "audio_output", "output_image_tokens": "image_output", "output_video_tokens": "video_output",
    "cache_audio_read_tokens": "cached_audio", "cache_image_read_tokens": "cached_image",
}  # fmt: skip
"""genai-prices' name → ours."""
ELSEWHERE = {"realtime", "live", "usage-event", "ocr", "ocr_annotated"}
"""Flavours that are no answers to a request, or count no tokens."""
CHAT = "https://api.openai.com/v1/chat/completions"
URLS: dict[tuple[str, str], str] = {
    ("anthropic", "default"): "https://api.anthropic.com/v1/messages",
    ("minimax", "default"): "https://api.minimax.io/anthropic/v1/messages",
    ("google", "default"): "https://generativelanguage.googleapis.com/v1beta/models/g:generateContent",
    ("google", "chat"): "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
    ("aws", "default"): "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse",
    ("cohere", "default"): "https://api.cohere.com/v2/chat",
    ("cohere", "tokens"): "https://api.cohere.com/v2/chat",
    ("cohere", "embeddings"): "https://api.cohere.com/v2/embed",
    ("perplexity", "default"): "https://api.perplexity.ai/chat/completions",
}
"""The end points whose answers are not in OpenAI's format, or not only."""
CITATIONS, BESIDE = 7, 5
DIFFERENT = {
    ("perplexity", "default"): {"output": -CITATIONS},  # citations have a price of their own
    ("x-ai", "default"): {"output": -BESIDE},  # reasoning is added if the total says that it is not in it
    ("x-ai", "chat"): {"output": -BESIDE},
}


def flavours() -> Iterator[tuple[Provider, UsageExtractor]]:
    for provider in data_snapshot.get_snapshot().providers:
        for extractor in provider.extractors or ():
            if extractor.api_flavor not in ELSEWHERE:
                yield provider, extractor


def usage_of(extractor: UsageExtractor) -> dict[str, Any]:
    """A usage object with each field that is extracted, and in each a number of its own."""
    found: dict[str, Any] = {}
    for number, mapping in enumerate(extractor.mappings):
        path = [mapping.path] if isinstance(mapping.path, str) else list(mapping.path)
        large = {"input_tokens": 100_000, "output_tokens": 10_000}.get(mapping.dest, 0)
        special = {"citation_tokens": CITATIONS, "reasoning_tokens": BESIDE}.get(str(path[-1]), large + 10 + number)
        _put(found, path, special)
    return found


def _put(holder: Any, path: list[Any], value: int) -> None:
    *steps, last = path
    for step, following in zip(steps, path[1:], strict=True):
        if isinstance(step, ArrayMatch):
            match = {step.field: getattr(step.match, "equals", None)}
            items = [item for item in holder if item.items() >= match.items()]
            holder += [] if items else [match]
            holder = (items or holder)[0 if items else -1]
        else:
            holder = holder.setdefault(step, [] if isinstance(following, ArrayMatch) else {})
    holder.setdefault(last, value)


@pytest.mark.parametrize(
    ("provider", "extractor"), [*flavours()], ids=[f"{one.id}-{two.api_flavor}" for one, two in flavours()]
)
def test_a_number_in_each_field(provider: Provider, extractor: UsageExtractor) -> None:
    """Where the two differ, it is on purpose."""
    usage = usage_of(extractor)
    document: dict[Any, Any] = usage
    for step in reversed([extractor.root] if isinstance(extractor.root, str) else extractor.root):
        document = {step: document}
    _, theirs = provider.extract_usage({**document, "model": "m"}, api_flavor=extractor.api_flavor)
    wanted = {FIELDS[name]: value for name, value in theirs.__dict__.items() if name in FIELDS}
    key = (provider.id, extractor.api_flavor)
    for field, difference in DIFFERENT.get(key, {}).items():
        wanted[field] += difference
    anthropic = URLS["anthropic", "default"] if extractor.api_flavor == "anthropic" else CHAT
    target = Targets(Settings()).of(httpx2.URL(URLS.get(key, anthropic)))
    assert target is not None
    whole = document.get("usage", document.get("meta", usage)) if provider.id == "cohere" else usage
    assert wanted
    ours = target.endpoint.usage(json.loads(json.dumps(whole)))
    assert {name: getattr(ours, name) for name in wanted} == wanted
