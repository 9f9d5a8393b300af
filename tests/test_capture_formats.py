"""What the wire formats say, and that nothing in them can do harm."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_sessions.capture.exchange import _merged
from otel_sessions.capture.formats import ENDPOINTS, anthropic, gemini, openai
from otel_sessions.capture.formats.wire import Answer, Endpoint, Usage

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["id", "model", "usage", "choices", "x_groq", "error", "type", "response", "message", "delta", "stop_reason",
     "candidates", "usageMetadata", "finishReason", "finish_reason", "prompt_tokens", "input_tokens", "stream",
     "completion_tokens_details", "messages", "input", "prompt", "contents", "generationConfig", "content", "parts",
     "stream_options", "status", "incomplete_details", "output", "tool_calls", "function", "index", "system", "data"]
)  # fmt: skip
HOSTILE = st.recursive(
    JSON, lambda inner: st.dictionaries(KEYS, inner, max_size=6) | st.lists(inner, max_size=3), max_leaves=20
)


def answer_of(endpoint: Endpoint, *parts: Any) -> Answer:
    answer = Answer()
    for part in parts:
        endpoint.read(part if isinstance(part, bytes) else json.dumps(part).encode(), answer)
    return answer


def usage_of(endpoint: Endpoint, *parts: Any) -> Usage:
    return endpoint.usage(_merged(answer_of(endpoint, *parts).usages)[0])


CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES = openai.CHAT, openai.COMPLETIONS, openai.EMBEDDINGS, openai.RESPONSES
MESSAGES = anthropic.ENDPOINTS[0]
GENERATE = gemini.ENDPOINTS[0]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5}, Usage(10, 5)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 2},
          "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 1}},
         Usage(10, 5, cache_read=4, reasoning=3, audio_input=2, audio_output=1)),
        ({"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 0}}, Usage(10, 5, 0)),
        # xAI counts reasoning beside the completion
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 22,
          "completion_tokens_details": {"reasoning_tokens": 7}}, Usage(10, 12, reasoning=7)),
        # DeepSeek
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 8}, Usage(10, 5, cache_read=8)),
        # A total alone does not say what was read and what written
        ({"total_tokens": 9}, Usage()),
        # OpenRouter, without and with the user's own key
        ({"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.5}, Usage(1, 2, cost=0.5)),
        ({"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.5, "is_byok": True,
          "cost_details": {"upstream_inference_cost": 1.25}}, Usage(1, 2, cost=1.75)),
        # Perplexity
        ({"prompt_tokens": 1, "completion_tokens": 2, "cost": {"total_cost": 0.25}}, Usage(1, 2, cost=0.25)),
        ({}, Usage()),
    ],
)  # fmt: skip
def test_openai_usage(usage: dict[str, Any], expected: Usage) -> None:
    """Totals are inclusive, and what is not stated is unknown."""
    assert usage_of(CHAT, {"usage": usage}) == expected


def test_a_total_alone_is_input_where_nothing_is_written() -> None:
    """Voyage's and Jina's embeddings state nothing else."""
    assert usage_of(EMBEDDINGS, {"usage": {"total_tokens": 9}}) == Usage(9)
    assert usage_of(EMBEDDINGS, {"usage": {"prompt_tokens": 8, "total_tokens": 9}}) == Usage(8)


@pytest.mark.parametrize("bad", ["12", -1, 2**63, 1.5, True, None, [], {}, 1e400])
def test_a_wrong_number_is_unknown_and_takes_nothing_with_it(bad: object) -> None:
    """The other fields of the usage, and of the response, are kept."""
    document = {"id": "r", "model": "m", "usage": {"prompt_tokens": bad, "completion_tokens": 5}}
    answer = answer_of(CHAT, document)
    assert (answer.id, answer.model) == ("r", "m")
    assert usage_of(CHAT, document) == Usage(None, 5)


@pytest.mark.parametrize(
    "document",
    [
        {"id": "r", "model": "m", "choices": "none", "usage": {"prompt_tokens": 3}},
        {"id": "r", "model": "m", "choices": [1, None], "x_groq": 7, "usage": {"prompt_tokens": 3}},
        {"id": "r", "model": "m", "choices": [{"finish_reason": 7}], "error": "", "usage": {"prompt_tokens": 3}},
        b'{"id":"r","model":"m","odd":NaN,"usage":{"prompt_tokens":3}}',
        b'{"id":"r","model":"m","odd":"\\ud800","usage":{"prompt_tokens":3}}',
        b'{"id":"r","model":"m","odd":1e999,"usage":{"prompt_tokens":3}}',
        b'{"id":"r","model":"m","error":1e999,"usage":{"prompt_tokens":3}}',
        b'\xef\xbb\xbf{"id":"r","model":"m","usage":{"prompt_tokens":3}}',
    ],
)
def test_a_wrong_type_anywhere_takes_nothing_with_it(document: Any) -> None:
    """Lists that are texts, texts that are numbers, and JSON that only lax readers accept."""
    answer = answer_of(CHAT, document)
    assert (answer.id, answer.model, answer.error_type) == ("r", "m", None)
    assert usage_of(CHAT, document) == Usage(3)


def test_anthropic_usage_of_a_stream_is_merged() -> None:
    """The input side comes first, the cumulative output last; cached tokens are added to the input."""
    start = {"input_tokens": 10, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 50, "output_tokens": 1}
    stream = [
        {"type": "message_start", "message": {"id": "msg", "model": "claude", "usage": start}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 20, "x": None}},
    ]
    assert usage_of(MESSAGES, *stream) == Usage(100, 20, cache_read=40, cache_write=50)
    answer = answer_of(MESSAGES, *stream)
    assert (answer.id, answer.model, answer.finish_reasons) == ("msg", "claude", {0: "end_turn"})


def test_gemini_usage_adds_thoughts_and_tool_results() -> None:
    """The last chunk's usage stands, also where an earlier one said more."""
    first = {"usageMetadata": {"promptTokenCount": 1, "thoughtsTokenCount": 99}}
    last = {
        "usageMetadata": {
            "promptTokenCount": 10,
            "toolUsePromptTokenCount": 5,
            "candidatesTokenCount": 4,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 8}, {"modality": "AUDIO", "tokenCount": 2}],
        }
    }
    assert usage_of(GENERATE, first, last) == Usage(15, 4, audio_input=2)


@pytest.mark.parametrize(
    ("endpoint", "event", "expected"),
    [
        (CHAT, {"error": {"message": "m", "type": "server_error"}}, "server_error"),
        (CHAT, {"error": {"message": "m", "code": 502}}, "502"),
        (CHAT, {"error": "boom"}, "error"),
        (RESPONSES, {"type": "error", "code": "rate_limit_exceeded"}, "rate_limit_exceeded"),
        (RESPONSES, {"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error"}}},
         "server_error"),
        (RESPONSES, {"object": "response", "status": "completed", "error": None}, None),
        (MESSAGES, {"type": "error", "error": {"type": "overloaded_error"}}, "overloaded_error"),
        (GENERATE, {"error": {"code": 503, "status": "UNAVAILABLE"}}, "UNAVAILABLE"),
    ],
)  # fmt: skip
def test_errors_inside_a_good_response(endpoint: Endpoint, event: Any, expected: str | None) -> None:
    """Each format's way to say that the model failed after status 200 was sent."""
    assert answer_of(endpoint, event).error_type == expected


def test_incomplete_responses_say_why() -> None:
    """The reason stands in place of the bare status; an event in progress has none."""
    event = {"type": "response.created", "response": {"id": "r", "status": "in_progress", "usage": None}}
    last = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    answer = answer_of(RESPONSES, event, {"type": "response.incomplete", "response": last})
    assert (answer.id, answer.finish_reasons) == ("r", {0: "max_output_tokens"})


@pytest.mark.parametrize(
    ("endpoint", "body", "fits"),
    [
        (CHAT, {"model": "m", "messages": []}, True),
        (CHAT, {"model": "m"}, False),
        (CHAT, {"model": 1, "messages": []}, False),
        (CHAT, {"model": "m", "messages": 7}, False),
        (CHAT, [], False),
        (COMPLETIONS, {"model": "m", "prompt": "x"}, True),
        (EMBEDDINGS, {"model": "m", "input": ["x"]}, True),
        (EMBEDDINGS, {"model": "m", "documents": ["x"]}, False),
        (RESPONSES, {"model": "m", "input": "x"}, True),
        (MESSAGES, {"model": "m", "messages": []}, True),
        (GENERATE, {"contents": []}, True),
        (GENERATE, {"content": {"parts": []}}, True),
        (GENERATE, {"query": "x"}, False),
    ],
)
def test_a_body_fits_a_format_by_its_keys(endpoint: Endpoint, body: Any, *, fits: bool) -> None:
    """On a host that is not known this tells an LLM call from any other request."""
    assert endpoint.call(json.dumps(body).encode()).fits is fits


@given(st.sampled_from(ENDPOINTS), HOSTILE)
def test_no_json_raises_anywhere(endpoint: Endpoint, value: Any) -> None:
    """Requests, responses, usage and content take any JSON."""
    data = json.dumps(value).encode()
    endpoint.call(data)
    answer = answer_of(endpoint, data)
    endpoint.usage(_merged(answer.usages)[0])
    if isinstance(value, dict):
        endpoint.usage(value)
        endpoint.sent(value)
        endpoint.received([value, value])


@given(st.sampled_from(ENDPOINTS), st.binary(max_size=40))
def test_no_bytes_raise_anywhere(endpoint: Endpoint, data: bytes) -> None:
    """What is no JSON says nothing."""
    endpoint.call(data)
    endpoint.read(b"{" + data, Answer())
