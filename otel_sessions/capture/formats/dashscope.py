"""Alibaba Cloud's own end points (DashScope); the compatible ones are ``openai``'s.

Usage (https://help.aliyun.com/zh/model-studio/qwen-api-via-dashscope): input and output tokens, so far in each event of
a stream; embeddings and rankings state a total. That a stream is wanted stands in a header of the request. Images are
billed by the piece.
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
    mapping,
    parameters,
    starts,
    text,
)

_ALIBABA = "alibaba_cloud"


class _Request(msgspec.Struct):
    model: Any = None
    input: msgspec.Raw = NOTHING
    parameters: Any = None


class _Choice(msgspec.Struct):
    finish_reason: Any = None


class _Output(_Choice):
    choices: list[_Choice] | None = None


class _Part(msgspec.Struct):
    request_id: Any = None
    output: _Output | None = None
    usage: msgspec.Raw = NOTHING
    code: Any = None


def call(body: bytes) -> Call:
    """Body of a request: what is given stands under ``input``, how to answer under ``parameters``."""
    found = decode(_Request, body)
    if found is None:
        return Call()
    given = mapping(found.parameters)
    return Call(
        model=text(found.model),
        fits=type(found.model) is str and starts(found.input, b"{"),
        parameters=parameters(
            max_tokens=given.get("max_tokens"), temperature=given.get("temperature"), top_p=given.get("top_p")
        ),
    )


def read(data: bytes, answer: Answer) -> None:
    """An answer, or one event of a stream, which has the same shape."""
    part = decode(_Part, data)
    if part is None:
        return
    answer.name(None, part.request_id)
    answer.use(part.usage)
    output = part.output or _Output()
    for index, choice in enumerate(output.choices or [output]):
        if choice.finish_reason != "null":  # so it says, as a text, until the end
            answer.finish(index, choice.finish_reason)
    if part.code:
        answer.fail(part.code)


_SERVICES = "/api/v1/services"
_EMBEDDINGS = f"{_SERVICES}/embeddings/(?:text-embedding/text|multimodal-embedding/multimodal)-embedding"

ENDPOINTS = (
    Endpoint(
        "chat", _ALIBABA, f"{_SERVICES}/aigc/text-generation/generation", call, read, openai.usage, only=(_ALIBABA,)
    ),
    Endpoint(
        "generate_content", _ALIBABA, f"{_SERVICES}/aigc/multimodal-generation/generation", call, read, openai.usage,
        only=(_ALIBABA,),
    ),
    Endpoint("embeddings", _ALIBABA, _EMBEDDINGS, call, read, openai.input_usage, only=(_ALIBABA,)),
    Endpoint(
        "rerank", _ALIBABA, f"{_SERVICES}/rerank/text-rerank/text-rerank", call, read, openai.input_usage,
        only=(_ALIBABA,),
    ),
)  # fmt: skip
