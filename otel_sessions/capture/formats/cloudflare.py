"""Cloudflare's Workers AI by its own end point, beside the OpenAI-compatible ones.

Usage (https://developers.cloudflare.com/workers-ai/models/): in OpenAI's names, within the ``result`` that every answer
of Cloudflare's API has; in a stream in the last event. What the model does shows in the request alone.
"""

from __future__ import annotations

from typing import Any

import msgspec

from otel_sessions.capture.formats import openai
from otel_sessions.capture.formats.wire import (
    NOTHING,
    Answer,
    Call,
    Endpoint,
    decode,
    objects,
    parameters,
    starts,
)


class _Request(msgspec.Struct):
    stream: Any = None
    max_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    messages: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    text: msgspec.Raw = NOTHING


class _Result(msgspec.Struct):
    usage: msgspec.Raw = NOTHING


class _Part(msgspec.Struct):
    result: _Result | None = None
    usage: msgspec.Raw = NOTHING
    errors: Any = None


def call(body: bytes) -> Call:
    """Body of a request; the model stands in the path."""
    found = decode(_Request, body)
    if found is None:
        return Call()
    shapes = (("chat", found.messages), ("text_completion", found.prompt), ("embeddings", found.text))
    operation = next((operation for operation, shape in shapes if starts(shape, b"[", b'"')), None)
    return Call(
        stream=found.stream is True,
        fits=operation is not None,
        operation=operation,
        parameters=parameters(max_tokens=found.max_tokens, temperature=found.temperature, top_p=found.top_p),
    )


def read(data: bytes, answer: Answer) -> None:
    """An answer, or one event of a stream."""
    part = decode(_Part, data)
    if part is None:
        return
    answer.use(part.result.usage if part.result is not None else part.usage)
    for error in objects(part.errors)[:1]:
        answer.fail(error.get("code"))


_CLOUDFLARE = "cloudflare"

ENDPOINTS = (Endpoint("chat", _CLOUDFLARE, "/(?:ai/run|workers-ai)/(?P<model>@[^/]+/.+)", call, read, openai.usage),)
