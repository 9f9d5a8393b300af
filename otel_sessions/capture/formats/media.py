"""OpenAI's end points for images, speech, transcription and moderation, here and on compatible hosts.

Usage: the gpt-image and gpt-4o-transcribe models state tokens by modality, DALL-E states nothing and Whisper seconds
(https://platform.openai.com/docs/api-reference/images/object). Speech is bytes of audio, which state nothing, unless
it is streamed as events. Files are sent as multipart forms, whose text fields hold the model. Moderation is free.
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
    decode,
    mapping,
    no_usage,
    text,
)

_CONTENT = "generate_content"
_OPENAI = "openai"


class _Choice(msgspec.Struct):
    index: Any = None
    finish_reason: Any = None


class _Document(msgspec.Struct):
    id: Any = None
    model: Any = None
    finish_reason: Any = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = NOTHING
    error: Any = None


def read(data: bytes, answer: Answer) -> None:
    """A list of images, a transcription, a verdict, or one event of a stream; the last of it carries the usage."""
    document = decode(_Document, data)
    if document is None:
        return
    answer.name(document.model, document.id)
    answer.use(document.usage)
    answer.finish(0, document.finish_reason)
    for choice in document.choices or ():
        answer.finish(choice.index, choice.finish_reason)
    if document.error:
        error = mapping(document.error)
        answer.fail(error.get("code"), error.get("type"))


def form(fields: Mapping[str, str]) -> Call:
    """The text fields of a multipart form."""
    model = text(fields.get("model"))
    return Call(model=model, stream=fields.get("stream") == "true", fits=model is not None)


ENDPOINTS = (
    Endpoint(
        _CONTENT, _OPENAI, "/images/(?:generations|edits|variations)", openai.input_call, read, openai.usage, form=form
    ),
    Endpoint(_CONTENT, _OPENAI, "/audio/speech", openai.input_call, read, openai.usage),
    Endpoint(
        _CONTENT, _OPENAI, "/audio/(?:transcriptions|translations)", openai.input_call, read, openai.usage, form=form
    ),
    Endpoint("moderation", _OPENAI, "/moderations", openai.input_call, read, no_usage),
)
