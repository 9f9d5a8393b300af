"""Alibaba Cloud's own end points (DashScope); the compatible ones are ``openai``'s.

Usage (https://help.aliyun.com/zh/model-studio/qwen-api-via-dashscope): input and output tokens, so far in each event of
a stream; embeddings and rankings state a total. What images and video took of the input stands beside it, and is part
of it; but for embeddings (https://help.aliyun.com/zh/model-studio/multimodal-embedding-api-reference), where it is not,
unless there are details. That a stream is wanted stands in a header of the request. Images that are made are billed by
the piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from otel_sessions.capture.formats import openai
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
    text,
    tokens,
    total,
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


def usage(raw: Mapping[str, Any]) -> Usage:
    """Of a generation: images and video are part of the input."""
    found = openai.usage(raw)
    images, video = tokens(raw.get("image_tokens")), tokens(raw.get("video_tokens"))
    return replace(
        found,
        image_input=images if found.image_input is None else found.image_input,
        video_input=video if found.video_input is None else found.video_input,
    )


def embedding_usage(raw: Mapping[str, Any]) -> Usage:
    """Of embeddings: images are beside the text, and not every model states the sum."""
    found = openai.input_usage(raw)
    images, whole = tokens(raw.get("image_tokens")), tokens(raw.get("total_tokens"))
    if images is None or found.image_input is not None:
        return found
    return replace(found, input=total(found.input, images) if whole is None else whole, image_input=images)


_SERVICES = "/api/v1/services"
_EMBEDDINGS = f"{_SERVICES}/embeddings/(?:text-embedding/text|multimodal-embedding/multimodal)-embedding"

ENDPOINTS = (
    Endpoint(
        "chat", _ALIBABA, f"{_SERVICES}/aigc/text-generation/generation", call, read, usage, only=(_ALIBABA,)
    ),
    Endpoint(
        "generate_content", _ALIBABA, f"{_SERVICES}/aigc/multimodal-generation/generation", call, read, usage,
        only=(_ALIBABA,),
    ),
    Endpoint("embeddings", _ALIBABA, _EMBEDDINGS, call, read, embedding_usage, only=(_ALIBABA,)),
    Endpoint(
        "rerank", _ALIBABA, f"{_SERVICES}/rerank/text-rerank/text-rerank", call, read, openai.input_usage,
        only=(_ALIBABA,),
    ),
)  # fmt: skip
