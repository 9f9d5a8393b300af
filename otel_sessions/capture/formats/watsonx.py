"""IBM watsonx.ai: text generation, chat, embeddings and ranking.

Usage: text generation states tokens per result; in a stream the input's stand in the first event only, and the
output's grow (https://cloud.ibm.com/apidocs/watsonx-ai#text-generation). Chat speaks OpenAI's format under paths of
its own. Embeddings and rankings state ``input_token_count``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from otel_sessions.capture.formats import openai
from otel_sessions.capture.formats.wire import (
    NOTHING,
    Answer,
    Call,
    Endpoint,
    Usage,
    decode,
    objects,
    parameters,
    starts,
    text,
    tokens,
    total,
)

_WATSONX = "ibm.watsonx.ai"


class _Parameters(msgspec.Struct):
    max_new_tokens: Any = None
    temperature: Any = None
    top_p: Any = None


class _Request(msgspec.Struct):
    model_id: Any = None
    input: msgspec.Raw = NOTHING
    inputs: msgspec.Raw = NOTHING
    messages: msgspec.Raw = NOTHING
    parameters: _Parameters | None = None


class _Part(msgspec.Struct):
    model_id: Any = None
    model: Any = None
    id: Any = None
    results: Any = None
    input_token_count: Any = None


def call(body: bytes) -> Call:
    """Body of a request; a deployment's has no model."""
    found = decode(_Request, body)
    if found is None:
        return Call()
    asked = found.parameters or _Parameters()
    shapes = (starts(found.input, b'"'), starts(found.inputs, b"["), starts(found.messages, b"["))
    return Call(
        model=text(found.model_id),
        fits=any(shapes),
        parameters=parameters(max_tokens=asked.max_new_tokens, temperature=asked.temperature, top_p=asked.top_p),
    )


def read(data: bytes, answer: Answer) -> None:
    """A list of results, one event of a stream of them, or a list of embeddings."""
    part = decode(_Part, data)
    if part is None:
        return
    answer.name(part.model_id or part.model, part.id)
    results = objects(part.results)
    counts = {name: total(*(tokens(item.get(name)) for item in results)) for name in _COUNTS}
    counts["input_token_count"] = counts["input_token_count"] or tokens(part.input_token_count)
    answer.use_counts({name: count for name, count in counts.items() if count}, merge=True)
    for index, item in enumerate(results):
        if item.get("stop_reason") != "not_finished":
            answer.finish(index, item.get("stop_reason"))


_COUNTS = ("input_token_count", "generated_token_count")


def usage(raw: Mapping[str, Any]) -> Usage:
    """Tokens of all results."""
    return Usage(input=tokens(raw.get("input_token_count")), output=tokens(raw.get("generated_token_count")))


_ML = "/ml/v1(?:-beta)?(?:/deployments/[^/]+)?"

ENDPOINTS = (
    Endpoint("text_completion", _WATSONX, f"{_ML}/(?:text/)?generation(?:/text)?", call, read, usage),
    Endpoint(
        "text_completion", _WATSONX, f"{_ML}/(?:text/generation_stream|generation/text_stream)", call, read, usage,
        streams=True,
    ),
    Endpoint("chat", _WATSONX, f"{_ML}/text/chat", call, openai.read_part, openai.usage),
    Endpoint("chat", _WATSONX, f"{_ML}/text/chat_stream", call, openai.read_part, openai.usage, streams=True),
    Endpoint("embeddings", _WATSONX, f"{_ML}/text/embeddings", call, read, usage),
    Endpoint("rerank", _WATSONX, f"{_ML}/text/rerank", call, read, usage),
)  # fmt: skip
