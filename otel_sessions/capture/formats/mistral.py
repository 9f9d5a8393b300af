"""Mistral's own end points: conversations (agents) and OCR. Its chat, FIM and embeddings are ``openai``'s.

Usage: streams of its chat always end with it, so it is never asked for. A conversation states tokens and, apart from them, what its connectors read (``connector_tokens``), which is
billed as input. OCR is billed by the page (``usage_info.pages_processed``, kept in the raw usage).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from otel_sessions.capture.formats import openai
from otel_sessions.capture.formats.wire import NOTHING, Answer, Call, Endpoint, decode, no_usage, starts, text

_MISTRAL = "mistral_ai"


class _Request(msgspec.Struct):
    model: Any = None
    stream: Any = None
    inputs: msgspec.Raw = NOTHING
    document: msgspec.Raw = NOTHING


class _Output(msgspec.Struct):
    model: Any = None


class _Event(msgspec.Struct):
    type: Any = None
    conversation_id: Any = None
    model: Any = None
    outputs: list[_Output] | None = None
    usage: msgspec.Raw = NOTHING
    usage_info: msgspec.Raw = NOTHING
    code: Any = None


def call(body: bytes) -> Call:
    """Body of a request; a conversation with an agent has no model."""
    found = decode(_Request, body)
    if found is None:
        return Call()
    return Call(
        model=text(found.model),
        stream=found.stream is True,
        fits=starts(found.inputs, b"[", b'"') or starts(found.document, b"{"),
    )


def chat_call(body: bytes) -> Call:
    """Body of a request for a chat completion."""
    return msgspec.structs.replace(openai.chat_call(body), lacks_usage=False)


def completions_call(body: bytes) -> Call:
    """Body of a request to fill in the middle."""
    return msgspec.structs.replace(openai.completions_call(body), lacks_usage=False)


def read(data: bytes, answer: Answer) -> None:
    """The outputs of a turn, one event of its stream, or the pages of a document."""
    event = decode(_Event, data)
    if event is None:
        return
    for output in event.outputs or ():
        answer.name(output.model, None)
    answer.name(event.model, event.conversation_id)
    answer.use(event.usage)
    answer.use(event.usage_info)
    if event.type == "conversation.response.error":
        answer.fail(event.code)


_VERTEX = "/publishers/mistralai/models/(?P<model>[^/:]+)"
_TURN = "/v1/conversations(?:/[^/]+(?:/restart)?)?"

ENDPOINTS = (
    replace(openai.CHAT, provider=_MISTRAL, call=chat_call, only=(_MISTRAL,)),
    replace(openai.COMPLETIONS, provider=_MISTRAL, call=completions_call, only=(_MISTRAL,)),
    Endpoint("chat", _MISTRAL, _TURN, call, read, openai.usage, only=(_MISTRAL,)),
    Endpoint("chat", _MISTRAL, f"{_VERTEX}:(?:stream)?[rR]awPredict", chat_call, openai.read_part, openai.usage),
    Endpoint("generate_content", _MISTRAL, "/ocr", call, read, no_usage, only=(_MISTRAL, "azure.ai.inference")),
)
