"""Amazon Bedrock: Converse, and InvokeModel with the body of whoever made the model.

Usage of Converse and Nova (https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html):
``inputTokens`` leaves cached reads and writes out, so they are added. Titan, Llama and others have counts of their own.
Where a body states none, the headers ``x-amzn-bedrock-*-token-count`` do, and the last event of a stream
(``amazon-bedrock-invocationMetrics``). Streams are AWS event streams, whose events arrive here as
``{type of the event: payload}``, and as the payload's own bytes where it holds any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from otel_sessions.capture.formats import anthropic, cohere, openai
from otel_sessions.capture.formats.wire import (
    NOTHING,
    Answer,
    Call,
    Conversation,
    Endpoint,
    Message,
    Usage,
    decode,
    mapping,
    objects,
    parameters,
    part_of,
    starts,
    text,
    tokens,
    total,
)

_BEDROCK = "aws.bedrock"


class _Inference(msgspec.Struct, rename="camel"):
    max_tokens: Any = None
    max_new_tokens: Any = None
    temperature: Any = None
    top_p: Any = None


class _Request(msgspec.Struct):
    messages: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    message: msgspec.Raw = NOTHING
    input_text: msgspec.Raw = msgspec.field(default=NOTHING, name="inputText")
    query: msgspec.Raw = NOTHING
    task: msgspec.Raw = msgspec.field(default=NOTHING, name="taskType")
    texts: msgspec.Raw = NOTHING
    images: msgspec.Raw = NOTHING
    inputs: msgspec.Raw = NOTHING
    input_type: msgspec.Raw = NOTHING
    documents: msgspec.Raw = NOTHING
    dimensions: Any = None
    normalize: Any = None
    inference: _Inference | None = msgspec.field(default=None, name="inferenceConfig")
    generation: Any = msgspec.field(default=None, name="textGenerationConfig")
    max_tokens: Any = None
    temperature: Any = None
    top_p: Any = None


class _Router(msgspec.Struct):
    model: Any = msgspec.field(default=None, name="invokedModelId")


class _Trace(msgspec.Struct):
    router: _Router | None = msgspec.field(default=None, name="promptRouter")


class _Metadata(msgspec.Struct):
    usage: msgspec.Raw = NOTHING
    trace: _Trace | None = None
    tier: Any = msgspec.field(default=None, name="serviceTier")


class _Stop(msgspec.Struct):
    reason: Any = msgspec.field(default=None, name="stopReason")


class _Message(msgspec.Struct):
    id: Any = None
    response_id: Any = None
    model: Any = None
    stop_reason: Any = None
    finish_reason: Any = None
    usage: msgspec.Raw = NOTHING


class _Part(_Message):
    """Every maker's answer and every event of a stream, of which the wanted names do not collide."""

    stop: Any = msgspec.field(default=None, name="stopReason")
    message: _Message | None = None
    delta: _Message | None = None
    metadata: _Metadata | None = None
    message_stop: _Stop | None = msgspec.field(default=None, name="messageStop")
    tier: Any = msgspec.field(default=None, name="serviceTier")
    trace: _Trace | None = None
    metrics: msgspec.Raw = msgspec.field(default=NOTHING, name="amazon-bedrock-invocationMetrics")
    titan_input: Any = msgspec.field(default=None, name="inputTextTokenCount")
    titan_output: Any = msgspec.field(default=None, name="totalOutputTextTokenCount")
    results: Any = None
    completion_reason: Any = msgspec.field(default=None, name="completionReason")
    prompt_token_count: Any = None
    generation_token_count: Any = None
    generations: Any = None
    completions: Any = None
    outputs: Any = None
    choices: Any = None
    error: Any = None


def call(body: bytes) -> Call:
    """Body of a request; the model stands in the path."""
    found = decode(_Request, body)
    if found is None:
        return Call()
    titan = mapping(found.generation)
    inference = found.inference or _Inference()
    shapes = (
        found.messages, found.message, found.prompt, found.input_text, found.task, found.texts, found.images,
        found.inputs, found.query,
    )  # fmt: skip
    return Call(
        fits=any(bytes(shape) for shape in shapes),
        parameters=parameters(
            max_tokens=inference.max_tokens
            or inference.max_new_tokens
            or titan.get("maxTokenCount")
            or found.max_tokens,
            temperature=_first(inference.temperature, titan.get("temperature"), found.temperature),
            top_p=_first(inference.top_p, titan.get("topP"), found.top_p),
        ),
    )


def invoke_call(body: bytes) -> Call:
    """Body of a request to a model whose name says nothing (an ARN, say) or that writes: what is asked of it tells."""
    found = decode(_Request, body)
    return replace(call(body), operation=None if found is None else _operation(found))


def _operation(found: _Request) -> str | None:
    if starts(found.query, b'"') and starts(found.documents, b"["):
        return "rerank"
    if starts(found.task, b'"'):
        return "embeddings" if b"EMBEDDING" in bytes(found.task) else "generate_content"
    vectors = starts(found.input_type, b'"') or found.dimensions is not None or found.normalize is not None
    if vectors and any(map(bytes, (found.texts, found.images, found.inputs, found.input_text))):
        return "embeddings"
    return "text_completion" if starts(found.prompt, b'"') or starts(found.input_text, b'"') else None


def read(data: bytes, answer: Answer) -> None:
    """An answer of Converse or of a model, or one event of a stream of these."""
    part = decode(_Part, data)
    if part is None:
        return
    if part.message is not None:
        answer.name(part.message.model, part.message.id)
        answer.begin(part.message.usage)
    for item in (part, part.delta):
        if item is not None:
            _take(item, answer)
    answer.settle()
    metadata = part.metadata or _Metadata()
    answer.use(metadata.usage, merge=True)
    answer.service_tier = _tier(part.tier) or _tier(metadata.tier) or answer.service_tier
    for trace in (part.trace, metadata.trace):
        if trace is not None and trace.router is not None:  # a prompt router's ARN says nothing of who answers
            answer.name(trace.router.model, None)
    _counts(part, answer)
    _reasons(part, answer)
    answer.use_unless_stated(part.metrics)
    if part.error:
        answer.fail(mapping(part.error).get("type"))


def _first(*values: object) -> object:
    return next((value for value in values if value is not None), None)


def _take(item: _Message, answer: Answer) -> None:
    answer.name(item.model, text(item.id) or item.response_id)
    answer.finish(0, item.stop_reason or item.finish_reason)
    answer.use(item.usage, merge=True)


def _tier(stated: object) -> str | None:
    return text(mapping(stated).get("type") if isinstance(stated, Mapping) else stated)


def _counts(part: _Part, answer: Answer) -> None:
    """Titan's and Llama's counts, which stand among other fields."""
    of_results = total(*(tokens(item.get("tokenCount")) for item in objects(part.results)))
    counts = {
        "inputTextTokenCount": part.titan_input,
        "totalOutputTextTokenCount": part.titan_output,
        "tokenCount": of_results,
        "prompt_token_count": part.prompt_token_count,
        "generation_token_count": part.generation_token_count,
    }
    answer.use_counts(counts, merge=True)


def _reasons(part: _Part, answer: Answer) -> None:
    answer.finish(0, part.stop or part.completion_reason or (part.message_stop and part.message_stop.reason))
    for answers in (part.results, part.generations, part.completions, part.outputs, part.choices):
        for index, item in enumerate(objects(answers)):
            reason = item.get("finishReason")
            stated = reason.get("reason") if isinstance(reason, Mapping) else reason
            found = (stated, item.get("completionReason"), item.get("finish_reason"), item.get("stop_reason"))
            answer.finish(index, _first(*found))


def usage(raw: Mapping[str, Any]) -> Usage:
    """By the names that are there: Converse, Anthropic, OpenAI's, Cohere's, the model's own, or the headers'."""
    if "inputTokens" in raw or "outputTokens" in raw:
        return _converse(raw)
    if "prompt_tokens" in raw or "completion_tokens" in raw:
        return openai.usage(raw)
    if "input_tokens" in raw or "output_tokens" in raw:
        return anthropic.usage(raw)
    if "billed_units" in raw:
        return cohere.usage(raw)
    cached, written = tokens(raw.get("cacheReadInputTokenCount")), tokens(raw.get("cacheWriteInputTokenCount"))
    fresh = tokens(_first(*(raw.get(name) for name in _INPUTS)))
    return Usage(
        input=None if fresh is None else total(fresh, cached, written),
        output=tokens(_first(*(raw.get(name) for name in _OUTPUTS))),
        cache_read=cached,
        cache_write=written,
    )


_INPUTS = ("inputTextTokenCount", "prompt_token_count", "inputTokenCount")
_OUTPUTS = ("totalOutputTextTokenCount", "tokenCount", "generation_token_count", "outputTokenCount")


def _converse(raw: Mapping[str, Any]) -> Usage:
    cached = tokens(_first(raw.get("cacheReadInputTokens"), raw.get("cacheReadInputTokenCount")))
    written = tokens(_first(raw.get("cacheWriteInputTokens"), raw.get("cacheWriteInputTokenCount")))
    fresh = tokens(raw.get("inputTokens"))
    hour = [item for item in objects(raw.get("cacheDetails")) if item.get("ttl") == "1h"]
    return Usage(
        input=None if fresh is None else total(fresh, cached, written),
        output=tokens(raw.get("outputTokens")),
        cache_read=cached,
        cache_write=written,
        cache_write_1h=total(*(tokens(item.get("inputTokens")) for item in hour)),
        web_searches=tokens(part_of(raw, "serverToolUsage").get("webSearchRequests")),
    )


def headers(given: Mapping[str, str], answer: Answer) -> None:
    """The counts in the headers; a usage in the body takes their place."""
    counts = {name: _whole(given.get(f"x-amzn-bedrock-{header}-token-count")) for name, header in _HEADERS.items()}
    answer.use_unless_stated(msgspec.Raw(msgspec.json.encode({n: c for n, c in counts.items() if c is not None})))


_HEADERS = {
    "inputTokenCount": "input",
    "outputTokenCount": "output",
    "cacheReadInputTokenCount": "cache-read-input",
    "cacheWriteInputTokenCount": "cache-write-input",
}


def _whole(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) < 20 else None


# Content of Converse


def sent(body: Any) -> Conversation:
    """System prompt and messages of a request."""
    found = [
        {"role": text(message.get("role")) or "user", "parts": [*map(_block, objects(message.get("content")))]}
        for message in objects(body.get("messages"))
    ]
    return Conversation(found, [*map(_block, objects(body.get("system")))])


def received(parts: Sequence[Any]) -> list[Message]:
    """The message of a document, or put together from the block events of a stream."""
    blocks: list[Message] = []
    reason = ""
    for part in parts:
        whole = part_of(part_of(part, "output"), "message")
        blocks += map(_block, objects(whole.get("content")))
        started = part_of(part_of(part, "contentBlockStart"), "start")
        blocks += [_block(started)] if started else []
        _extend(blocks, part_of(part_of(part, "contentBlockDelta"), "delta"))
        reason = text(part.get("stopReason")) or text(part_of(part, "messageStop").get("stopReason")) or reason
    return [{"role": "assistant", "parts": blocks, "finish_reason": reason}] if blocks else []


def _block(block: Mapping[str, Any]) -> Message:
    if isinstance(block.get("text"), str):
        return {"type": "text", "content": block["text"]}
    if tool := part_of(block, "toolUse"):
        call = {"type": "tool_call", "id": tool.get("toolUseId"), "name": tool.get("name")}
        return call | {"arguments": tool.get("input", "")}
    if answer := part_of(block, "toolResult"):
        return {"type": "tool_call_response", "id": answer.get("toolUseId"), "response": answer.get("content")}
    if thought := part_of(block, "reasoningContent"):
        return {"type": "reasoning", "content": part_of(thought, "reasoningText").get("text", thought.get("text"))}
    return {"type": next(iter(block), "unknown")}  # images and documents are named, not recorded


def _extend(blocks: list[Message], delta: Mapping[str, Any]) -> None:
    """Add a piece to the block that it continues; texts begin without an event of their own."""
    if not delta:
        return
    piece = _block(delta)
    key = "arguments" if piece["type"] == "tool_call" else "content"
    before = blocks[-1].get(key) if blocks and blocks[-1]["type"] == piece["type"] else None
    if isinstance(before, str) and isinstance(piece.get(key), str):
        blocks[-1][key] = before + piece[key]
    else:
        blocks.append(piece)


_MODEL = "/model/(?P<model>.+)"
_EMBEDDING = "/model/(?P<model>.*embed.*)"
_IMAGE = "/model/(?P<model>.*(?:stability|titan-image|nova-canvas|nova-reel).*)"
_RANKING = "/model/(?P<model>.*rerank.*)"

ENDPOINTS = (
    Endpoint(
        "chat", _BEDROCK, f"{_MODEL}/converse", call, read, usage, headers=headers, sent=sent, received=received
    ),
    Endpoint(
        "chat", _BEDROCK, f"{_MODEL}/converse-stream", call, read, usage,
        headers=headers, streams=True, sent=sent, received=received,
    ),
    Endpoint("embeddings", _BEDROCK, f"{_EMBEDDING}/invoke", call, read, usage, headers=headers),
    Endpoint("generate_content", _BEDROCK, f"{_IMAGE}/invoke", call, read, usage, headers=headers),
    Endpoint("rerank", _BEDROCK, f"{_RANKING}/invoke", call, read, usage, headers=headers),
    Endpoint("chat", _BEDROCK, f"{_MODEL}/invoke", invoke_call, read, usage, headers=headers),
    Endpoint(
        "chat", _BEDROCK, f"{_MODEL}/invoke-with-response-stream", invoke_call, read, usage,
        headers=headers, streams=True,
    ),
)  # fmt: skip
