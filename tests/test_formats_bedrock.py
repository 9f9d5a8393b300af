"""Bedrock: Converse and InvokeModel, whole and as event streams."""

from __future__ import annotations

from typing import Any

import pytest
from exchanges import chunk, counts, exchange, message

HOST = "https://bedrock-runtime.eu-west-1.amazonaws.com"
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hi"}]}], "inferenceConfig": {"maxTokens": 9}}


def test_converse_adds_cached_tokens_to_the_input() -> None:
    """The input leaves cached reads and writes out, of which cacheDetails says how long they are kept."""
    usage = {
        "inputTokens": 5, "outputTokens": 7, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 20,
        "cacheDetails": [{"ttl": "5m", "inputTokens": 8}, {"ttl": "1h", "inputTokens": 12}],
    }  # fmt: skip
    found = exchange(
        f"{HOST}/model/eu.anthropic.claude-x%3A0/converse", CONVERSE, {"stopReason": "end_turn", "usage": usage}
    )
    assert found is not None
    assert counts(found) == {
        "input_tokens": 125, "output_tokens": 7, "cache_read.input_tokens": 100, "cache_creation.input_tokens": 20,
    }  # fmt: skip
    assert found["otel_sessions.usage.cache_creation_1h.input_tokens"] == 12
    assert found["gen_ai.provider.name"] == "aws.bedrock"
    assert found["gen_ai.request.model"] == "eu.anthropic.claude-x:0"
    assert found["gen_ai.request.max_tokens"] == 9
    assert found["gen_ai.response.finish_reasons"] == ("end_turn",)


def test_converse_stream_has_its_usage_in_the_metadata_event() -> None:
    """The event's type is a header of the message, not a part of its payload."""
    body = (
        message({"role": "assistant"}, event_type="messageStart", message_type="event")
        + message({"stopReason": "tool_use"}, event_type="messageStop", message_type="event")
        + message({"usage": {"inputTokens": 3, "outputTokens": 4}}, event_type="metadata", message_type="event")
    )
    found = exchange(f"{HOST}/model/amazon.nova-lite-v1:0/converse-stream", CONVERSE, body)
    assert counts(found) == {"input_tokens": 3, "output_tokens": 4}
    assert found is not None
    assert found["gen_ai.response.finish_reasons"] == ("tool_use",)
    assert found["gen_ai.request.stream"] is True


@pytest.mark.parametrize("streamed", [False, True])
def test_a_prompt_router_tells_whom_it_asked(streamed: bool) -> None:  # noqa: FBT001
    """Its own name, in the path, says nothing of the model that is paid for."""
    metadata = {"usage": {"inputTokens": 3, "outputTokens": 4}, "trace": {"promptRouter": {"invokedModelId": "nova"}}}
    url = f"{HOST}/model/arn%3Aaws%3Abedrock%3A%3Aprompt-router%2Fr/converse"
    found = (
        exchange(f"{url}-stream", {"messages": []}, message(metadata, event_type="metadata", message_type="event"))
        if streamed
        else exchange(url, {"messages": []}, {"stopReason": "end_turn", **metadata})
    )
    assert found is not None
    assert found["gen_ai.response.model"] == "nova"
    assert counts(found) == {"input_tokens": 3, "output_tokens": 4}


def test_an_exception_in_the_stream_is_the_spans_error() -> None:
    """Bedrock reports throttling inside a response of status 200."""
    body = message({"message": "slow down"}, exception_type="throttlingException", message_type="exception")
    found = exchange(f"{HOST}/model/m/converse-stream", CONVERSE, body)
    assert found is not None
    assert found["error.type"] == "throttlingException"


TITAN = {"inputText": "hi", "textGenerationConfig": {"maxTokenCount": 5}}
CHAT = {"messages": [], "anthropic_version": "bedrock-2023-05-31", "max_tokens": 5}


@pytest.mark.parametrize(
    ("request_body", "answer", "operation", "usage", "reason"),
    [
        (TITAN, {"inputTextTokenCount": 2, "results": [{"tokenCount": 3, "completionReason": "FINISH"}]},
         "text_completion", {"input_tokens": 2, "output_tokens": 3}, ("FINISH",)),
        (CHAT, {"model": "claude-x", "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 4}},
         "chat", {"input_tokens": 5, "output_tokens": 2, "cache_read.input_tokens": 4}, ("end_turn",)),
        ({"prompt": "hi"}, {"generation": "x", "prompt_token_count": 2, "generation_token_count": 3, "stop_reason": "stop"},
         "text_completion", {"input_tokens": 2, "output_tokens": 3}, ("stop",)),
        ({"messages": []}, {"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": 2, "completion_tokens": 3}},
         "chat", {"input_tokens": 2, "output_tokens": 3}, ("stop",)),
        ({"prompt": "hi"}, {"outputs": [{"text": "x", "stop_reason": "length"}]}, "text_completion", {}, ("length",)),
        ({"prompt": "hi"}, {"id": 12, "completions": [{"finishReason": {"reason": "endoftext"}}]},
         "text_completion", {}, ("endoftext",)),
        ({"prompt": "hi"}, {"generations": [{"finish_reason": "COMPLETE"}]}, "text_completion", {}, ("COMPLETE",)),
        ({"messages": []}, {"id": "i", "finish_reason": "COMPLETE", "message": {"role": "assistant"},
                            "usage": {"billed_units": {"input_tokens": 2, "output_tokens": 3}, "tokens": {"input_tokens": 60}}},
         "chat", {"input_tokens": 2, "output_tokens": 3}, ("COMPLETE",)),
        ({"messages": []}, {"stopReason": "end_turn", "usage": {"inputTokens": 7, "outputTokens": 3, "cacheReadInputTokenCount": 1}},
         "chat", {"input_tokens": 8, "output_tokens": 3, "cache_read.input_tokens": 1}, ("end_turn",)),
    ],
    ids=["titan", "anthropic", "llama", "openai", "mistral", "ai21", "cohere", "cohere v2", "nova"],
)  # fmt: skip
def test_invoke_reads_each_makers_answer(
    request_body: Any, answer: Any, operation: str, usage: dict[str, int], reason: tuple[str, ...]
) -> None:
    """InvokeModel answers as the model's maker does."""
    found = exchange(f"{HOST}/model/maker.model-v1/invoke", request_body, answer)
    assert found is not None
    assert (found["gen_ai.operation.name"], counts(found)) == (operation, usage)
    assert found["gen_ai.response.finish_reasons"] == reason


@pytest.mark.parametrize(
    ("model", "operation"),
    [
        ("amazon.titan-embed-text-v2:0", "embeddings"),
        ("cohere.embed-english-v3", "embeddings"),
        ("arn:aws:bedrock:eu-west-1::foundation-model%2Fcohere.rerank-v3-5:0", "rerank"),
        ("stability.sd3-large-v1:0", "generate_content"),
    ],
)
def test_the_model_tells_the_operation(model: str, operation: str) -> None:
    """Embeddings, rankings and images go through the same path as text."""
    found = exchange(f"{HOST}/model/{model}/invoke", {"inputText": "hi", "prompt": "hi"}, {"inputTextTokenCount": 4})
    assert found is not None
    assert found["gen_ai.operation.name"] == operation
    assert counts(found) == {"input_tokens": 4}


@pytest.mark.parametrize(
    ("asked", "operation"),
    [
        ({"texts": ["hi"], "input_type": "search_query"}, "embeddings"),
        ({"images": ["data:"], "input_type": "image"}, "embeddings"),
        ({"inputText": "hi", "dimensions": 256, "normalize": True}, "embeddings"),
        ({"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": {}}, "embeddings"),
        ({"taskType": "TEXT_IMAGE", "textToImageParams": {}}, "generate_content"),
        ({"query": "q", "documents": ["a"]}, "rerank"),
        ({"inputText": "hi"}, "text_completion"),
        ({"message": "hi", "documents": [{}]}, "chat"),
        ({"messages": []}, "chat"),
    ],
)
def test_the_body_tells_the_operation_of_a_profile(asked: dict[str, Any], operation: str) -> None:
    """The name of an inference profile or of a provisioned model is an ARN, which says nothing of the model."""
    arn = "arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aapplication-inference-profile%2Fabc"
    found = exchange(f"{HOST}/model/{arn}/invoke", asked, {"response_type": "x"})
    assert found is not None
    assert found["gen_ai.operation.name"] == operation


def test_headers_count_where_the_body_does_not() -> None:
    """Answers without usage come with token counts in the headers; a usage in the body wins over them."""
    headers = {"x-amzn-bedrock-input-token-count": "11", "x-amzn-bedrock-output-token-count": "5"}
    bare = exchange(f"{HOST}/model/m/invoke", {"prompt": "hi"}, {"completion": "x"}, headers=headers)
    assert counts(bare) == {"input_tokens": 11, "output_tokens": 5}
    stated = exchange(f"{HOST}/model/m/invoke", {"prompt": "hi"}, {"prompt_token_count": 1}, headers=headers)
    assert counts(stated) == {"input_tokens": 1}


def test_cohere_chats_with_a_message() -> None:
    """Its answer has an id of another name."""
    found = exchange(f"{HOST}/model/cohere.command-r-v1:0/invoke", {"message": "hi"}, {"response_id": "r", "text": "x"})
    assert found is not None
    assert (found["gen_ai.operation.name"], found["gen_ai.response.id"]) == ("chat", "r")


def test_invoke_streams_the_models_own_events() -> None:
    """The events are the model's; what Bedrock measured stands in the last one and counts if the model says nothing."""
    metrics = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 6, "outputTokenCount": 2}}
    silent = chunk({"completion": "x", "stop_reason": "stop_sequence"} | metrics)
    found = exchange(f"{HOST}/model/m/invoke-with-response-stream", {"prompt": "hi"}, silent)
    assert counts(found) == {"input_tokens": 6, "output_tokens": 2}
    start = {
        "type": "message_start",
        "message": {"id": "m1", "model": "claude", "usage": {"input_tokens": 4, "output_tokens": 1}},
    }
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
    body = chunk(start) + chunk(end) + chunk({"type": "message_stop"} | metrics)
    found = exchange(f"{HOST}/model/m/invoke-with-response-stream", CHAT, body)
    assert counts(found) == {"input_tokens": 4, "output_tokens": 9}
    assert found is not None
    assert found["gen_ai.response.model"] == "claude"


@pytest.mark.parametrize(
    "path", ["/model/m/count-tokens", "/guardrail/g/version/1/apply", "/async-invoke", "/model/m/"]
)
def test_control_calls_are_no_calls(path: str) -> None:
    """Counting tokens and applying guardrails answers nothing."""
    assert exchange(HOST + path, CONVERSE, {}) is None


def test_other_hosts_must_send_a_request_that_fits() -> None:
    """A gateway that speaks Bedrock is recognised by path and body together."""
    assert exchange("http://gateway/bedrock/model/m/converse", CONVERSE, {}) is not None
    assert exchange("http://gateway/model/m/invoke", {"name": "x"}, {}) is None
