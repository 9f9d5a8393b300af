"""Ollama's own wire format: chat, generate, embed. Its OpenAI-compatible end points are ``openai``'s.

Usage (https://docs.ollama.com/api/usage): counts among the other fields of the answer, in a stream of its last line.
``prompt_eval_count`` leaves out what the server has cached; nothing says how much that was. A stream is one JSON
document per line, and unless the request says otherwise, the answer is a stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from otel_sessions.capture.formats.openai import chat_sent, prompt_sent
from otel_sessions.capture.formats.wire import (
    NOTHING,
    Answer,
    Call,
    Endpoint,
    Message,
    Usage,
    decode,
    objects,
    parameters,
    part_of,
    starts,
    text,
    tokens,
)

_OLLAMA = "ollama"


class _Options(msgspec.Struct):
    num_predict: Any = None
    temperature: Any = None
    top_p: Any = None


class _Request(msgspec.Struct):
    model: Any = None
    stream: Any = None
    options: _Options | None = None
    messages: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    input: msgspec.Raw = NOTHING


class _Line(msgspec.Struct):
    model: Any = None
    done_reason: Any = None
    error: Any = None
    prompt_eval_count: Any = None
    eval_count: Any = None


def call(body: bytes) -> Call:
    """Body of a request for an answer or an embedding."""
    found = decode(_Request, body)
    if found is None:
        return Call()
    options = found.options or _Options()
    answers = starts(found.messages, b"[") or starts(found.prompt, b'"')
    return Call(
        model=text(found.model),
        stream=answers and found.stream is not False,
        fits=isinstance(found.model, str) and (answers or starts(found.input, b"[", b'"')),
        parameters=parameters(max_tokens=options.num_predict, temperature=options.temperature, top_p=options.top_p),
    )


def embedding_call(body: bytes) -> Call:
    """Body of a request for an embedding, which is never streamed though it may have a ``prompt``."""
    found = call(body)
    return Call(model=found.model, fits=found.fits)


def read(data: bytes, answer: Answer) -> None:
    """The answer, or one line of its stream."""
    line = decode(_Line, data)
    if line is None:
        return
    answer.name(line.model, None)
    answer.finish(0, line.done_reason)
    answer.use_counts({"prompt_eval_count": line.prompt_eval_count, "eval_count": line.eval_count})
    if line.error:
        answer.fail("error")


def usage(raw: Mapping[str, Any]) -> Usage:
    """Tokens that were evaluated."""
    return Usage(input=tokens(raw.get("prompt_eval_count")), output=tokens(raw.get("eval_count")))


def received(parts: Sequence[Any]) -> list[Message]:
    """One message, put together from its lines."""
    messages = [part_of(part, "message") or {"content": part.get("response")} for part in parts]
    thought, said = (_joined(messages, key) for key in ("thinking", "content"))
    found: list[Message] = [{"type": "reasoning", "content": thought}] if thought else []
    found += [{"type": "text", "content": said}] if said else []
    functions = [part_of(call, "function") for message in messages for call in objects(message.get("tool_calls"))]
    found += [{"type": "tool_call", "name": f.get("name"), "arguments": f.get("arguments")} for f in functions]
    reason = next((text(part.get("done_reason")) for part in reversed(parts)), None)
    return [{"role": "assistant", "parts": found, "finish_reason": reason or ""}] if found else []


def _joined(messages: Sequence[Mapping[str, Any]], key: str) -> str:
    return "".join(piece for message in messages if isinstance(piece := message.get(key), str))


ENDPOINTS = (
    Endpoint("chat", _OLLAMA, "/api/chat", call, read, usage, only=(_OLLAMA,), sent=chat_sent, received=received),
    Endpoint(
        "text_completion", _OLLAMA, "/api/generate", call, read, usage,
        only=(_OLLAMA,), sent=prompt_sent, received=received,
    ),
    Endpoint("embeddings", _OLLAMA, "/api/embed(?:dings)?", embedding_call, read, usage, only=(_OLLAMA,)),
)  # fmt: skip
