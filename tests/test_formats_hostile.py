"""Every place of every format's documents, with everything that does not belong there: nothing raises, no field is lost."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from otel_sessions.base.settings import Settings
from otel_sessions.capture.exchange import _merged
from otel_sessions.capture.formats.wire import Answer, Endpoint, tokens
from otel_sessions.capture.target import Targets

VALUES: tuple[Any, ...] = (
    None, True, -1, 1.5, 2**63, 2**70, "", "text", "7", [], [[]], [{}], [1, None, "x"], {}, {"x": []}, "\ud800",
)  # fmt: skip
WRONG: tuple[Any, ...] = ("text", [], {"x": []}, -1, 2**70)
CHAT = {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "stream": True}
OPENAI_USAGE = {
    "prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17, "cost": 0.1, "is_byok": True, "connectors": {"web_search": 1},
    "cost_details": {"upstream_inference_cost": 0.2}, "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 1},
    "prompt_tokens_details": {"cached_tokens": 2, "cached_tokens_details": {"audio_tokens": 1}},
}  # fmt: skip
ANTHROPIC_USAGE = {
    "input_tokens": 5, "output_tokens": 6, "cache_read_input_tokens": 7, "cache_creation": {"ephemeral_1h_input_tokens": 1},
    "cache_creation_input_tokens": 2, "server_tool_use": {"web_search_requests": 1}, "service_tier": "batch", "speed": "fast",
    "iterations": [{"type": "compaction", "input_tokens": 1, "cache_creation": {}}, {"type": "fallback_message", "model": "m"}], "output_tokens_details": {"thinking_tokens": 1},
}  # fmt: skip
MESSAGE = {
    "id": "i",
    "model": "m",
    "content": [{"type": "tool_use", "input": {}}],
    "stop_reason": "x",
    "usage": ANTHROPIC_USAGE,
}
COHERE_META = {
    "billed_units": {"input_tokens": 1, "output_tokens": 2},
    "tokens": {"input_tokens": 3},
    "cached_tokens": 1,
}
TOOL = {"index": 0, "id": "t", "function": {"name": "f", "arguments": "{}"}}

# One host and path per format, a request, and documents of its answers.
SAMPLES: dict[str, tuple[Any, list[Any]]] = {
    "https://api.openai.com/v1/chat/completions": (
        CHAT | {"stream_options": {"include_usage": True}, "max_tokens": 3, "service_tier": "flex"},
        [
            {"id": "i", "model": "m", "service_tier": "flex", "usage": OPENAI_USAGE, "x_groq": {"usage": OPENAI_USAGE},
             "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "x", "tool_calls": [TOOL]}}]},
            {"choices": [{"index": 1, "delta": {"content": "x", "tool_calls": [TOOL]}}], "error": {"type": "t", "code": 3}},
        ],
    ),
    "https://api.openai.com/v1/responses": (
        {"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}], "instructions": "x"},
        [
            {"type": "response.completed", "response": {
                "id": "i", "model": "m", "status": "incomplete", "incomplete_details": {"reason": "max"}, "error": {"code": "c"},
                "output": [{"type": "web_search_call", "action": {"type": "search"}}, {"type": "function_call", "call_id": "c"}],
                "tool_usage": {"web_search": {"num_requests": 1}}, "usage": {"input_tokens": 1, "input_tokens_details": {"cached_tokens": 1}}}},
            {"type": "error", "code": "c"},
        ],
    ),
    "https://api.openai.com/v1/images/generations": ({"model": "m", "prompt": "x"}, [{"id": "i", "usage": OPENAI_USAGE, "error": {"code": 1}}]),
    "https://api.anthropic.com/v1/messages": (
        CHAT | {"system": [{"type": "text", "text": "x"}]},
        [
            {"type": "message", **MESSAGE}, {"type": "message_start", "message": MESSAGE}, {"type": "error", "error": {"type": "x"}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "input": {}}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}},
        ],
    ),
    "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent": (
        {"contents": [{"role": "user", "parts": [{"text": "x"}]}], "generationConfig": {"maxOutputTokens": 3}, "systemInstruction": {}},
        [{"responseId": "i", "modelVersion": "m", "promptFeedback": {"blockReason": "x"}, "error": {"status": "x", "code": 3},
          "candidates": [{"index": 0, "finishReason": "STOP", "content": {"parts": [{"text": "x"}]},
                          "groundingMetadata": {"webSearchQueries": ["a"]}}],
          "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "thoughtsTokenCount": 1, "trafficType": "ON_DEMAND",
                            "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 1}]},
          "predictions": [{"embeddings": {"statistics": {"token_count": 1}}}]}],
    ),
    "https://generativelanguage.googleapis.com/v1beta/interactions": (
        {"model": "m", "agent": "a", "input": "x", "generation_config": {"temperature": 1}},
        [{"interaction": {"id": "i", "model": "m", "status": "completed", "error": {"code": 1},
                          "usage": {"total_input_tokens": 1, "total_thought_tokens": 1, "total_output_tokens": 1,
                                    "input_tokens_by_modality": [{"modality": "audio", "tokens": 1}],
                                    "grounding_tool_count": [{"type": "google_search", "count": 1}]}}}],
    ),
    "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/invoke": (
        {"prompt": "x", "inputText": "x", "textGenerationConfig": {"topP": 1}, "inferenceConfig": {"maxTokens": 1}, "messages": []},
        [
            {"id": "i", "model": "m", "stopReason": "x", "usage": {"inputTokens": 1, "cacheDetails": [{"ttl": "1h", "inputTokens": 1}]}},
            {"message": MESSAGE, "delta": {"stop_reason": "x"}, "metadata": {"usage": {"inputTokens": 1}, "serviceTier": {"type": "x"}}},
            {"inputTextTokenCount": 1, "results": [{"tokenCount": 1, "completionReason": "x"}], "messageStop": {"stopReason": "x"}},
            {"completions": [{"finishReason": {"reason": "x"}}], "amazon-bedrock-invocationMetrics": {"inputTokenCount": 1}},
            {"prompt_token_count": 1, "generation_token_count": 2, "stop_reason": "x", "error": {"type": "x"}},
            {"outputs": [{"stop_reason": "x"}], "choices": [{"finish_reason": "x"}], "usage": OPENAI_USAGE},
        ],
    ),
    "https://api.cohere.com/v2/chat": (
        CHAT | {"max_tokens": 3, "p": 0.1},
        [
            {"id": "i", "finish_reason": "ERROR", "meta": COHERE_META, "usage": COHERE_META, "generations": [{"finish_reason": "x"}]},
            {"response": {"response_id": "i", "meta": COHERE_META}, "delta": {"usage": COHERE_META, "finish_reason": "x"}},
        ],
    ),
    "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse-stream": (
        {"messages": [{"role": "user", "content": [{"text": "x"}, {"toolResult": {"toolUseId": "t"}}]}], "system": [{"text": "x"}]},
        [
            {"output": {"message": {"content": [{"toolUse": {"name": "f", "input": {}}}, {"reasoningContent": {"text": "x"}}]}}},
            {"contentBlockStart": {"start": {"toolUse": {"toolUseId": "t"}}}},
            {"contentBlockDelta": {"delta": {"toolUse": {"input": "x"}}}}, {"contentBlockDelta": {"delta": {"text": "x"}}},
            {"metadata": {"usage": {"inputTokens": 1}}}, {"messageStop": {"stopReason": "x"}},
        ],
    ),
    "https://api.cohere.com/v1/chat": (
        {"message": "x", "preamble": "x", "model": "m"},
        [
            {"message": {"content": [{"text": "x"}], "tool_calls": [TOOL]}, "finish_reason": "x"},
            {"delta": {"message": {"content": {"text": "x"}, "tool_calls": TOOL}}},
            {"delta": {"message": {"tool_calls": {"function": {"arguments": "x"}}}}},
            {"event_type": "stream-end", "response": {"text": "x", "meta": COHERE_META}},
        ],
    ),
    "http://localhost:11434/api/generate": (
        {"model": "m", "prompt": "x"},
        [{"response": "x", "done_reason": "x"}, {"message": {"content": "x", "thinking": "x", "tool_calls": [TOOL]}}],
    ),
    "https://api.cohere.com/v2/rerank": (
        {"model": "m", "query": "x", "documents": ["a"]},
        [{"id": "i", "meta": COHERE_META}, {"model": "m", "usage": {"total_tokens": 1}, "error": {"type": "x"}}],
    ),
    "https://api.mistral.ai/v1/conversations": (
        {"model": "m", "inputs": "x", "document": {}},
        [{"type": "conversation.response.error", "code": 1, "conversation_id": "c", "outputs": [{"model": "m"}], "usage": OPENAI_USAGE,
          "usage_info": {"pages_processed": 1}}],
    ),
    "http://localhost:11434/api/chat": (
        CHAT | {"options": {"num_predict": 1, "temperature": 1}},
        [{"model": "m", "done_reason": "stop", "prompt_eval_count": 1, "eval_count": 2, "error": "x"}],
    ),
    "https://us-south.ml.cloud.ibm.com/ml/v1/text/generation": (
        {"model_id": "m", "input": "x", "parameters": {"max_new_tokens": 1}},
        [{"model_id": "m", "results": [{"generated_token_count": 1, "input_token_count": 2, "stop_reason": "x"}], "input_token_count": 1}],
    ),
    "https://api.cloudflare.com/client/v4/accounts/a/ai/run/@cf/m/l": (
        {"messages": [], "prompt": "x", "text": ["x"], "stream": True, "max_tokens": 3},
        [{"result": {"usage": OPENAI_USAGE}, "errors": [{"code": 3}]}, {"usage": OPENAI_USAGE}],
    ),
    "https://w.azuredatabricks.net/serving-endpoints/m/invocations": (
        {"messages": [], "prompt": "x", "input": ["x"], "max_tokens": 3},
        [{"id": "i", "model": "m", "base_resp": {"status_code": 3}, "object": "error", "type": "t", "code": 3,
          "choices": [{"index": 0, "usage": OPENAI_USAGE}]}],
    ),
    "http://tgi/generate": (
        {"inputs": "x", "parameters": {"max_new_tokens": 1}},
        [{"details": {"finish_reason": "x", "generated_tokens": 1}, "error": "x", "error_type": "x"}],
    ),
    "https://api.replicate.com/v1/predictions": (
        {"version": "v", "input": {}},
        [{"id": "i", "model": "m", "status": "failed", "metrics": {"input_token_count": 1}, "error": "x"}],
    ),
}  # fmt: skip


def variants(document: Any) -> Iterator[Any]:
    """``document`` with each value in it replaced by each of ``VALUES``."""
    for path in [*_paths(document)]:
        for value in VALUES:
            changed = copy.deepcopy(document)
            holder = changed
            for key in path[:-1]:
                holder = holder[key]
            holder[path[-1]] = value
            yield changed


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _paths(item, (*path, key))


def endpoint_of(url: str) -> Endpoint:
    target = Targets(Settings()).of(httpx2.URL(url))
    assert target is not None
    assert target.endpoint is not None
    return target.endpoint


def read(endpoint: Endpoint, documents: list[Any]) -> dict[str, Any]:
    """What the answer says, usage included."""
    answer = Answer()
    for document in documents:
        endpoint.read(json.dumps(document).encode(), answer)
    usage = endpoint.usage(_merged(answer.usages or answer.spare)[0])
    endpoint.received(documents)
    assert all(isinstance(reason, str) for reason in answer.finish_reasons.values())
    return {name: getattr(usage, name) for name in usage.__struct_fields__} | {"id": answer.id, "model": answer.model}


@pytest.mark.parametrize("url", SAMPLES)
def test_no_value_in_any_place_raises(url: str) -> None:
    """What is counted stays a count, and a wrong value takes no more than its own subtree with it."""
    endpoint = endpoint_of(url)
    request, documents = SAMPLES[url]
    for changed in variants(request):
        endpoint.call(json.dumps(changed).encode())
        endpoint.sent(changed)
    for number, document in enumerate(documents):
        for changed in variants(document):
            found = read(endpoint, [*documents[:number], changed, *documents[number + 1 :]])
            for name, value in found.items():
                if isinstance(value, int):
                    assert tokens(value) == value, name


@pytest.mark.parametrize("url", SAMPLES)
def test_a_wrong_value_takes_no_other_with_it(url: str) -> None:
    """The id and the model that stand beside it are read."""
    endpoint = endpoint_of(url)
    for document in SAMPLES[url][1]:
        whole = read(endpoint, [document])
        for key in document:
            for value in WRONG:
                found = read(endpoint, [{**document, key: value}])
                lost = [name for name in ("id", "model") if found[name] != whole[name] and key not in _NAMES]
                assert lost == [], (key, value)


_NAMES = (
    "id",
    "model",
    "response",
    "message",
    "interaction",
    "response_id",
    "responseId",
    "modelVersion",
    "model_id",
    "outputs",
    "conversation_id",
    "delta",
)
