"""Hugging Face's text generation servers (TGI) and the inference API that speaks like them.

Usage: only with ``details`` asked for, and then only what was generated
(https://huggingface.github.io/text-generation-inference/). Chat goes through the OpenAI-compatible end points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from otel_sessions.capture.formats.wire import (
    NOTHING,
    Answer,
    Call,
    Endpoint,
    Usage,
    decode,
    mapping,
    parameters,
    starts,
    tokens,
)

_HUGGINGFACE = "huggingface"


class _Parameters(msgspec.Struct):
    max_new_tokens: Any = None
    temperature: Any = None
    top_p: Any = None


class _Request(msgspec.Struct):
    stream: Any = None
    inputs: msgspec.Raw = NOTHING
    parameters: _Parameters | None = None


class _Part(msgspec.Struct):
    details: Any = None
    error_type: Any = None
    error: Any = None


def call(body: bytes) -> Call:
    """Body of a request; the model stands in the path, if anywhere."""
    found = decode(_Request, body)
    if found is None:
        return Call()
    asked = found.parameters or _Parameters()
    return Call(
        stream=found.stream is True,
        fits=starts(found.inputs, b'"') and found.parameters is not None,
        parameters=parameters(max_tokens=asked.max_new_tokens, temperature=asked.temperature, top_p=asked.top_p),
    )


def embedding_call(body: bytes) -> Call:
    """Body of a request for embeddings of a text or of several."""
    found = decode(_Request, body)
    return Call() if found is None else Call(fits=starts(found.inputs, b'"', b"[", b"{"))


def read(data: bytes, answer: Answer) -> None:
    """A generated text or one token of a stream, the last of which has the details."""
    part = decode(_Part, data)
    if part is None:
        return
    details = mapping(part.details)
    answer.finish(0, details.get("finish_reason"))
    answer.use_counts({name: details.get(name) for name in ("input_length", "generated_tokens")})
    if part.error:
        answer.fail(part.error_type)


def usage(raw: Mapping[str, Any]) -> Usage:
    """Tokens, as far as they are counted."""
    return Usage(input=tokens(raw.get("input_length")), output=tokens(raw.get("generated_tokens")))


_TEXT = "text_completion"
_MODEL = "/(?<!/api/)models/(?P<model>[^/]+/[^/]+)"

ENDPOINTS = (
    Endpoint(_TEXT, _HUGGINGFACE, "/generate", call, read, usage),
    Endpoint(_TEXT, _HUGGINGFACE, "/generate_stream", call, read, usage, streams=True),
    Endpoint(
        "embeddings", _HUGGINGFACE, f"{_MODEL}/pipeline/feature-extraction", embedding_call, read, usage,
        only=(_HUGGINGFACE,),
    ),
    Endpoint(_TEXT, _HUGGINGFACE, _MODEL, call, read, usage, only=(_HUGGINGFACE,)),
)  # fmt: skip
