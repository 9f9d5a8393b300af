"""OpenAI's wire format: chat completions, completions, embeddings and Responses, here and on compatible hosts.

Usage: https://platform.openai.com/docs/api-reference/chat/object. Totals are inclusive, with three known exceptions:
xAI counts reasoning beside ``completion_tokens``, DeepSeek and Moonshot name cached tokens differently, and Groq
hides the usage of a stream in ``x_groq``, Moonshot in the last choice. A stream carries usage only where ``stream_options.include_usage`` is set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from otel_sessions.base import names
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
    number,
    objects,
    parameters,
    part_of,
    starts,
    text,
    tokens,
    total,
)


class _Options(msgspec.Struct):
    include_usage: Any = None


class _Request(msgspec.Struct):
    model: Any = None
    stream: Any = None
    stream_options: _Options | None = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    service_tier: Any = None
    messages: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    input: msgspec.Raw = NOTHING
    questions: msgspec.Raw = NOTHING
    variables: msgspec.Raw = NOTHING
    text: msgspec.Raw = NOTHING
    file: msgspec.Raw = NOTHING


class _Choice(msgspec.Struct):
    index: Any = None
    finish_reason: Any = None
    usage: msgspec.Raw = NOTHING


class _Groq(msgspec.Struct):
    usage: msgspec.Raw = NOTHING


class _Outcome(msgspec.Struct):
    """Of a call to MiniMax, whose HTTP status is always 200."""

    status_code: Any = None


class _Part(msgspec.Struct):
    id: Any = None
    model: Any = None
    choices: list[_Choice] | None = None
    responses: list[_Choice] | None = None
    usage: msgspec.Raw = NOTHING
    x_groq: _Groq | None = None
    error: Any = None
    service_tier: Any = None
    object: Any = None
    type: Any = None
    code: Any = None
    base_resp: _Outcome | None = None


class _Reason(msgspec.Struct):
    reason: Any = None


class _Action(msgspec.Struct):
    type: Any = None


class _OutputItem(msgspec.Struct):
    type: Any = None
    action: _Action | None = None


class _WebSearch(msgspec.Struct):
    num_requests: Any = None


class _ToolUsage(msgspec.Struct):
    web_search: _WebSearch | None = None


class _Response(msgspec.Struct):
    id: Any = None
    model: Any = None
    status: Any = None
    output: list[_OutputItem] | None = None
    tool_usage: _ToolUsage | None = None
    usage: msgspec.Raw = NOTHING
    error: Any = None
    incomplete_details: _Reason | None = None
    service_tier: Any = None


class _ResponseEvent(_Response):
    type: Any = None
    code: Any = None
    response: _Response | None = None


def _call(shape: str, body: bytes) -> Call:
    """``shape`` is the key that makes the body one of ours."""
    found = decode(_Request, body)
    if found is None:
        return Call()
    stream, options = found.stream is True, found.stream_options
    return Call(
        model=text(found.model),
        stream=stream,
        fits=type(found.model) is str and starts(getattr(found, shape), b"[", b'"'),
        lacks_usage=stream and (options is None or options.include_usage is None),
        parameters=parameters(
            max_tokens=found.max_completion_tokens or found.max_output_tokens or found.max_tokens,
            temperature=found.temperature,
            top_p=found.top_p,
            service_tier=found.service_tier,
        ),
    )


chat_call = partial(_call, "messages")
"""Body of a request for a chat completion."""
completions_call = partial(_call, "prompt")
"""Body of a request for a completion."""


def input_call(body: bytes) -> Call:
    """Body of a request with ``model`` and ``input``, or ``prompt``; not of a kind that must ask for usage."""
    call = _call("input", body)
    return replace(call, lacks_usage=False, fits=call.fits or completions_call(body).fits)


def _decision_call(body: bytes) -> Call:
    found = decode(_Request, body)
    fits = found is not None and type(found.model) is str and starts(found.questions, b"[", b"{")
    return replace(_call("questions", body), lacks_usage=False, fits=fits)


def _embed_call(body: bytes) -> Call:
    """Body of a request for embeddings of what stands under ``text`` (Snowflake)."""
    return replace(_call("text", body), lacks_usage=False)


def _file_call(body: bytes) -> Call:
    """Body of a request to read a document (Z.ai)."""
    return replace(_call("file", body), lacks_usage=False)


def _stored_prompt_call(body: bytes) -> Call:
    """Body of a request for a prompt that a gateway keeps, with its model (Portkey)."""
    found = decode(_Request, body)
    return Call() if found is None else Call(stream=found.stream is True, fits=starts(found.variables, b"{"))


def _serving_call(body: bytes) -> Call:
    """Body of a request to a model that stands in the path, and may be of any kind."""
    for shape, operation in (("messages", "chat"), ("prompt", "text_completion"), ("input", "embeddings")):
        found = decode(_Request, body)
        if found is not None and starts(getattr(found, shape), b"[", b'"'):
            return replace(_call(shape, body), fits=True, operation=operation, lacks_usage=False)
    return Call()


def read_part(data: bytes, answer: Answer) -> None:
    """A chat completion, a completion, a list of embeddings, or one chunk of a stream of these."""
    part = decode(_Part, data)
    if part is None:
        return
    answer.name(part.model, part.id, part.service_tier)
    for choice in part.choices or part.responses or ():  # Reka's have the other name
        answer.finish(choice.index, choice.finish_reason)
        if choice.usage is not NOTHING:
            answer.use_unless_stated(choice.usage)
    if part.x_groq is not None and b'"prompt_tokens"' in bytes(part.x_groq.usage):
        answer.use(part.x_groq.usage)  # outside of streams it tells of the hardware's caches
    answer.use(part.usage)
    if part.error:
        error = mapping(part.error)
        answer.fail(error.get("type"), error.get("code"))
    elif part.object == "error":  # vLLM's
        answer.fail(part.type, part.code)
    if part.base_resp is not None and part.base_resp.status_code:
        answer.fail(part.base_resp.status_code)
    if answer.finish_reasons.get(0) == "error":  # OpenRouter and Mistral, of a provider or model that failed on the way
        answer.fail("error")


def read_response(data: bytes, answer: Answer) -> None:
    """A response of the Responses API, or one event of its stream, most of which carry no response."""
    event = decode(_ResponseEvent, data)
    if event is None:
        return
    if event.type == "error":
        error = mapping(event.error)
        answer.fail(event.code, error.get("code"), error.get("type"))
        return
    found = event.response or event
    if event.type is not None and event.response is None:
        return
    answer.name(found.model, found.id, found.service_tier)
    answer.use(found.usage)
    answer.web_searches = _searched(found) or answer.web_searches
    if found.status in ("completed", "incomplete", "failed", "cancelled"):
        answer.finish(0, (found.incomplete_details and found.incomplete_details.reason) or found.status)
    if found.error:
        error = mapping(found.error)
        answer.fail(error.get("code"), error.get("type"))


def _searched(response: _Response) -> int:
    """Searches that are billed; where that is not stated, those among the output items. Opening a page is free."""
    stated = response.tool_usage and response.tool_usage.web_search
    count = tokens(stated.num_requests) if stated else None
    calls = (item for item in response.output or () if item.type == "web_search_call")
    made = sum(item.action is None or item.action.type in (None, "search") for item in calls)
    return made if count is None else count


_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _PlainDetails(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    cached_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None
    accepted_prediction_tokens: _Count | None = None
    rejected_prediction_tokens: _Count | None = None


class _PlainUsage(msgspec.Struct, forbid_unknown_fields=True):
    """What OpenAI itself says of a chat."""

    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count | None = None
    prompt_tokens_details: _PlainDetails | None = None
    completion_tokens_details: _PlainDetails | None = None


def usual(raw: bytes) -> dict[str, int] | None:
    """The :meth:`Usage.attributes` of a usage object as OpenAI itself writes it for a chat; None for any other."""
    try:
        found = _PLAIN_USAGE.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    inputs = found.prompt_tokens_details or _NO_DETAILS
    outputs = found.completion_tokens_details or _NO_DETAILS
    if (
        found.total_tokens != found.prompt_tokens + found.completion_tokens
        or (outputs.reasoning_tokens or 0) > found.completion_tokens
        or max(inputs.cached_tokens or 0, inputs.audio_tokens or 0) > found.prompt_tokens
    ):
        return None  # something stands beside the totals that belongs in them
    attributes = {names.INPUT_TOKENS: found.prompt_tokens, names.OUTPUT_TOKENS: found.completion_tokens}
    if inputs.cached_tokens is not None:
        attributes[names.CACHE_READ_TOKENS] = inputs.cached_tokens
    if inputs.audio_tokens:
        attributes[names.AUDIO_INPUT_TOKENS] = inputs.audio_tokens
    if outputs.reasoning_tokens is not None:
        attributes[names.REASONING_TOKENS] = outputs.reasoning_tokens
    if outputs.audio_tokens:
        attributes[names.AUDIO_OUTPUT_TOKENS] = outputs.audio_tokens
    return attributes


_NO_DETAILS = _PlainDetails()
_PLAIN_USAGE = msgspec.json.Decoder(_PlainUsage)


def usage(raw: Mapping[str, Any]) -> Usage:
    """Both namings, ``prompt_tokens`` and ``input_tokens``, and all that anyone has added: 15 µs, :func:`usual` takes 2."""
    inputs = _details(
        raw, "prompt_tokens_details", "input_tokens_details", "prompt_token_details", "input_token_details"
    )
    outputs = _details(
        raw, "completion_tokens_details", "output_tokens_details", "completion_token_details", "output_token_details"
    )
    cached = part_of(inputs, "cached_tokens_details") or part_of(raw, "cached_tokens_details")
    both = {**raw, **inputs}
    written = part_of(both, "cache_creation") or part_of(both, "cache_creation_token_details")
    reasoning = _first({**raw, **outputs}, "reasoning_tokens")
    read, wrote = _first(both, *_CACHE_READS), _first(both, *_CACHE_WRITES)
    modalities = (_first(inputs, f"{kind}_tokens") or 0 for kind in ("audio", "image", "video"))
    given, output = _totals(raw, (total(read, wrote) or 0, *modalities), reasoning or 0)
    return Usage(
        input=given,
        output=output,
        cache_read=read,
        cache_write=wrote,
        cache_write_1h=_first({**raw, **written}, *_HOUR_WRITES),
        reasoning=reasoning,
        audio_input=_first(inputs, "audio_tokens"),
        audio_output=_first(outputs, "audio_tokens"),
        image_input=_first(inputs, "image_tokens"),
        image_output=_first(outputs, "image_tokens"),
        video_input=_first(inputs, "video_tokens"),
        cached_audio=_first(cached, "audio_tokens"),
        cached_image=_first(cached, "image_tokens", "cached_image_tokens"),
        web_searches=_searches(raw),
        service_tier=text(raw.get("service_tier")),
        cost=_cost(raw),
    )


_CACHE_READS = (
    "cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "cache_read_tokens",
    "cached_prompt_text_tokens", "num_cached_tokens",
)  # fmt: skip
_CACHE_WRITES = (
    "cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens", "cached_creation_tokens",
)  # fmt: skip
"""OpenAI and OpenRouter; LiteLLM; Alibaba and Perplexity; New API. All part of the input."""
_HOUR_WRITES = ("ephemeral_1h_input_tokens", "claude_cache_creation_1_h_tokens")


def input_usage(raw: Mapping[str, Any]) -> Usage:
    """For what writes nothing: Voyage's and Jina's embeddings and rankings state but a total."""
    found = usage(raw)
    alone = found.input is None and found.output is None
    return replace(found, input=tokens(raw.get("total_tokens"))) if alone else found


def _perplexity_usage(raw: Mapping[str, Any]) -> Usage:
    """Reasoning is beside the completion, and in no total. So are citations, which have a price of their own."""
    found = usage(raw)
    return replace(found, output=total(_first(raw, "completion_tokens"), found.reasoning))


def _totals(raw: Mapping[str, Any], parts: Sequence[int], reasoning: int) -> tuple[int | None, int | None]:
    """Inclusive input and output. ``parts`` are what is cached, and each modality, of the input.

    Some count a part beside its whole: then the total says so (xAI's reasoning, Mistral's audio), or there is more
    reasoning than output. More cached than input, without a total that has it, contradicts itself and stays as it is.
    """
    # What Mistral's connectors read is neither prompt nor completion, but part of the total.
    given = total(_first(raw, "prompt_tokens", "input_tokens"), _first(raw, "connector_tokens"))
    output = _first(raw, "completion_tokens", "output_tokens")
    whole = _first(raw, "total_tokens")
    beyond = 0 if whole is None else whole - (total(given, output) or 0)
    beside = (reasoning, *(reasoning + part for part in parts)) if reasoning else ()
    if beyond in beside:
        beyond -= reasoning
        output = total(output, reasoning)
    elif reasoning > (written := output or 0):
        added = beyond if beyond > 0 and written + beyond >= reasoning else reasoning
        beyond -= added
        output = total(output, added)
    largest = max(parts)
    if given is not None and beyond > 0 and given + beyond >= largest and (beyond in parts or largest > given):
        given += beyond
    return given, output


def _searches(raw: Mapping[str, Any]) -> int | None:
    """Perplexity, OpenRouter, xAI, Mistral's connectors, Perplexity's agents."""
    found = {
        **part_of(raw, "connectors"),
        **part_of(part_of(raw, "tool_calls_details"), "search_web"),
        **part_of(raw, "server_side_tool_usage_details"),
        **part_of(raw, "server_tool_use"),
        **raw,
    }
    return _first(found, "num_search_queries", "web_search_requests", "web_search_calls", "web_search", "invocation")


def _details(raw: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    return next((found for key in keys if (found := part_of(raw, key))), {})


def _first(raw: Mapping[str, Any], *keys: str) -> int | None:
    return next((found for key in keys if (found := tokens(raw.get(key))) is not None), None)


def _cost(raw: Mapping[str, Any]) -> float | None:
    """USD, where the answer states it: OpenRouter, Perplexity (an object), xAI (in ticks), DeepInfra."""
    stated = raw.get("cost")
    cost = number(part_of(raw, "cost").get("total_cost") if isinstance(stated, Mapping) else stated)
    if cost is None and (ticks := number(raw.get("cost_in_usd_ticks"))) is not None:
        cost = ticks / _TICKS
    if cost is None:
        cost = number(raw.get("estimated_cost"))
    if cost is None or cost < 0:
        return None
    # With the user's own provider key OpenRouter states its fee and the provider's cost apart.
    upstream = number(part_of(raw, "cost_details").get("upstream_inference_cost")) if raw.get("is_byok") else None
    return float(cost + (upstream or 0))


_TICKS = 10**10
"""xAI's ticks in a dollar, https://docs.x.ai/developers/cost-tracking."""


# Content


def _parts(content: object) -> list[Message]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    return [_part(item) for item in objects(content)]


def _part(item: Mapping[str, Any]) -> Message:
    for key in ("text", "refusal"):
        if isinstance(item.get(key), str):
            return {"type": "text", "content": item[key]}
    return {"type": text(item.get("type")) or "unknown"}  # images and audio are named, not recorded


def _tool_calls(message: Mapping[str, Any]) -> list[Message]:
    return [
        {
            "type": "tool_call",
            "id": call.get("id"),
            "name": part_of(call, "function").get("name"),
            "arguments": part_of(call, "function").get("arguments"),
        }
        for call in objects(message.get("tool_calls"))
    ]


def _message(message: Mapping[str, Any]) -> Message:
    role = text(message.get("role")) or "assistant"
    if role == "tool":
        answer = {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": message.get("content")}
        return {"role": role, "parts": [answer]}
    return {"role": role, "parts": [*_parts(message.get("content")), *_tool_calls(message)]}


def chat_sent(body: Any) -> Conversation:
    """Messages of a chat request; system and developer messages stand among them, as they were sent."""
    return Conversation([_message(message) for message in objects(body.get("messages"))])


def prompt_sent(body: Any) -> Conversation:
    """Prompt of a completion, input of an embedding: one user message per text."""
    given = body.get("prompt", body.get("input"))
    texts = given if isinstance(given, list) else [given]
    return Conversation([{"role": "user", "parts": _parts(item)} for item in texts if isinstance(item, str)])


def chat_received(parts: Sequence[Any]) -> list[Message]:
    """One message per choice, put together from the message of a document or the deltas of a stream."""
    choices: dict[Any, dict[str, Any]] = {}
    for part in parts:
        for choice in objects(part.get("choices")):
            index = choice.get("index") if isinstance(choice.get("index"), int) else 0
            _add_choice(choices.setdefault(index, {"content": "", "tools": {}, "reason": None}), choice)
    return [_choice_message(found) for found in choices.values()]


def _add_choice(found: dict[str, Any], choice: Mapping[str, Any]) -> None:
    message = part_of(choice, "message") or part_of(choice, "delta")
    for piece in (message.get("content"), message.get("refusal"), choice.get("text")):
        found["content"] += "".join(str(part.get("content", "")) for part in _parts(piece))
    found["reason"] = text(choice.get("finish_reason")) or found["reason"]
    for position, call in enumerate(objects(message.get("tool_calls"))):
        index = tokens(call.get("index"))
        index = position if index is None else index
        tool = found["tools"].setdefault(index, {"id": None, "name": "", "arguments": ""})
        function = part_of(call, "function")
        tool["id"] = tool["id"] or text(call.get("id"))
        tool["name"] += str(function.get("name") or "")
        tool["arguments"] += str(function.get("arguments") or "")


def _choice_message(found: Mapping[str, Any]) -> Message:
    parts = [{"type": "text", "content": found["content"]}] if found["content"] else []
    parts += [{"type": "tool_call", **tool} for tool in found["tools"].values()]
    return {"role": "assistant", "parts": parts, "finish_reason": found["reason"] or ""}


def _item(item: Mapping[str, Any]) -> Message:
    kind = item.get("type")
    if kind == "function_call":
        call = {"type": "tool_call", "id": item.get("call_id"), "name": item.get("name")}
        return {"role": "assistant", "parts": [call | {"arguments": item.get("arguments")}]}
    if kind == "function_call_output":
        answer = {"type": "tool_call_response", "id": item.get("call_id"), "response": item.get("output")}
        return {"role": "tool", "parts": [answer]}
    if kind == "reasoning":
        return {"role": "assistant", "parts": [p | {"type": "reasoning"} for p in _parts(item.get("summary"))]}
    return {"role": text(item.get("role")) or "assistant", "parts": _parts(item.get("content")) or [_part(item)]}


def response_sent(body: Any) -> Conversation:
    """Instructions and input items of the Responses API."""
    given = body.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return Conversation([_item(item) for item in objects(given)], _parts(body.get("instructions")))


def response_received(parts: Sequence[Any]) -> list[Message]:
    """Output items of the last response object; of a stream that was cut, the text so far."""
    responses = [part_of(part, "response") if "response" in part else part for part in parts]
    outputs = [output for response in responses if (output := objects(response.get("output")))]
    if outputs:
        return [_item(item) for item in outputs[-1]]
    deltas = [part.get("delta") for part in parts if part.get("type") == "response.output_text.delta"]
    found = "".join(delta for delta in deltas if isinstance(delta, str))
    return [{"role": "assistant", "parts": _parts(found)}] if found else []


_OPENAI = "openai"

_TELLING = re.compile(rb'"(?:usage|finish_reason|x_groq|error)"\s*(?::\s*[^n\s]|[,}])')
_TELLING_EVENT = re.compile(rb'"(?:response"\s*:\s*\{|error"\s*[:,}])')

CHAT = Endpoint(
    "chat", _OPENAI, "/(?:chat|agents)/completions", chat_call, read_part, usage,
    usual=usual, telling=_TELLING, sent=chat_sent, received=chat_received,
)  # fmt: skip
COMPLETIONS = Endpoint(
    "text_completion", _OPENAI, "/completions", completions_call, read_part, usage,
    usual=usual, telling=_TELLING, sent=prompt_sent, received=chat_received,
)  # fmt: skip
EMBEDDINGS = Endpoint(
    "embeddings", _OPENAI, "/embeddings(?:/multimodal)?", input_call, read_part, input_usage, sent=prompt_sent
)
RESPONSES = Endpoint(
    "chat", _OPENAI, "/responses(?:/compact)?", input_call, read_response, usage,
    telling=_TELLING_EVENT, sent=response_sent, received=response_received,
)  # fmt: skip

ENDPOINTS = (
    CHAT,
    Endpoint(
        "chat", _OPENAI, "/prompts/[^/]+/completions", _stored_prompt_call, read_part, usage,
        usual=usual, telling=_TELLING, received=chat_received,
    ),
    COMPLETIONS,
    EMBEDDINGS,
    RESPONSES,
    Endpoint(
        "embeddings", "voyage", "/v1/(?:multimodal|contextualized)embeddings", input_call, read_part, input_usage,
        only=("voyage", "perplexity"),
    ),
    Endpoint("generate_content", _OPENAI, "/(?:decisions|systemone)", _decision_call, read_part, usage),
    Endpoint(
        "chat", "writer", "/v1/chat", chat_call, read_part, usage,
        usual=usual, only=("writer", "reka"), sent=chat_sent, received=chat_received,
    ),
    Endpoint("generate_content", "writer", "/v1/(?:vision|translation)", chat_call, read_part, usage, only=("writer",)),
    Endpoint(
        "chat", "minimax", "/v1/text/chatcompletion_v2", chat_call, read_part, usage,
        only=("minimax",), telling=_TELLING, sent=chat_sent, received=chat_received,
    ),
    Endpoint(
        "chat", "snowflake", "/cortex/inference:complete", chat_call, read_part, usage,
        usual=usual, telling=_TELLING, sent=chat_sent, received=chat_received,
    ),
    Endpoint(
        "embeddings", "snowflake", "/cortex/inference:embed", _embed_call, read_part, input_usage, sent=prompt_sent
    ),
    Endpoint(
        "generate_content", "z_ai", "/layout_parsing", _file_call, read_part, usage, usual=usual,
        only=("z_ai", "zhipuai"),
    ),
    Endpoint(
        "chat", "perplexity", "/(?:chat/completions|v1/sonar)", chat_call, read_part, _perplexity_usage,
        usual=usual, telling=_TELLING, only=("perplexity",), sent=chat_sent, received=chat_received,
    ),
    Endpoint(
        "chat", "perplexity", "/v1/agent", input_call, read_response, usage,
        only=("perplexity",), sent=response_sent, received=response_received,
    ),
    Endpoint(
        "chat", "databricks", "/serving-endpoints/(?P<model>[^/]+)/invocations", _serving_call, read_part, usage,
        usual=usual, only=("databricks",), sent=chat_sent, received=chat_received,
    ),
)  # fmt: skip
