"""The real SDKs on end points beyond chat: one call each, told by the SDK's own request."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import anthropic
import groq
import httpx
import httpx2
import openai
import pytest
from exchanges import counts, events
from google import genai
from google.genai import types
from mistralai.client import Mistral
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

MODEL = "model-1"
TOKENS = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
CHAT = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
MESSAGE = {
    "id": "m", "type": "message", "role": "assistant", "model": MODEL, "content": [], "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 4},
}  # fmt: skip


def client(answer: Any, module: ModuleType = httpx2) -> Any:
    streamed = isinstance(answer, bytes)
    content = answer if streamed else json.dumps(answer).encode()
    headers = {"content-type": "text/event-stream" if streamed else "application/json"}

    def handler(request: Any) -> Any:
        request.read()
        return module.Response(200, headers=headers, content=content)

    return module.Client(transport=module.MockTransport(handler))


def open_ai(answer: Any) -> openai.OpenAI:
    return openai.OpenAI(api_key="k", http_client=client(answer))


def mistral(answer: Any) -> Mistral:
    return Mistral(api_key="k", client=client(answer))


def google(answer: Any) -> genai.Client:
    return genai.Client(api_key="k", http_options=types.HttpOptions(httpx_client=client(answer)))


def audio() -> tuple[str, io.BytesIO]:
    return ("a.wav", io.BytesIO(b"RIFF"))


DONE = b"event: conversation.response.done\n" + events({"type": "conversation.response.done", "usage": CHAT})[:-14]

CALLS: dict[str, tuple[str, str, Callable[[], object]]] = {
    "openai images": ("generate_content", "openai", lambda: open_ai(
        {"created": 1, "data": [], "usage": TOKENS}).images.generate(model=MODEL, prompt="x")),
    "openai image edit": ("generate_content", "openai", lambda: open_ai(
        {"created": 1, "data": [], "usage": TOKENS}).images.edit(model=MODEL, prompt="x", image=io.BytesIO(b"png"))),
    "openai transcription": ("generate_content", "openai", lambda: open_ai(
        {"text": "x", "usage": {"type": "tokens", **TOKENS}}).audio.transcriptions.create(model=MODEL, file=audio())),
    "openai compaction": ("chat", "openai", lambda: open_ai(
        {"id": "r", "object": "response.compaction", "created_at": 1, "output": [], "usage": TOKENS},
    ).responses.compact(model=MODEL, input="x")),
    "anthropic beta": ("chat", "anthropic", lambda: anthropic.Anthropic(
        api_key="k", http_client=client(MESSAGE)).beta.messages.create(model=MODEL, max_tokens=3, messages=[])),
    "anthropic on vertex": ("chat", "gcp.vertex_ai", lambda: anthropic.AnthropicVertex(
        access_token="k", project_id="p", region="us-east5", http_client=client(MESSAGE),
    ).messages.create(model=MODEL, max_tokens=3, messages=[])),
    "anthropic on vertex, in several regions": ("chat", "gcp.vertex_ai", lambda: anthropic.AnthropicVertex(
        access_token="k", project_id="p", region="eu", http_client=client(MESSAGE),
    ).messages.create(model=MODEL, max_tokens=3, messages=[])),
    "anthropic on aws": ("chat", "anthropic", lambda: anthropic.AnthropicAWS(
        api_key="k", aws_region="us-east-1", workspace_id="w", http_client=client(MESSAGE),
    ).messages.create(model=MODEL, max_tokens=3, messages=[])),
    "anthropic on foundry": ("chat", "azure.ai.inference", lambda: anthropic.AnthropicFoundry(
        api_key="k", resource="r", http_client=client(MESSAGE)).messages.create(model=MODEL, max_tokens=3, messages=[])),
    "anthropic on bedrock": ("chat", "aws.bedrock", lambda: anthropic.AnthropicBedrockMantle(
        api_key="k", aws_region="us-east-1", http_client=client(MESSAGE),
    ).messages.create(model=MODEL, max_tokens=3, messages=[])),
    "mistral conversation": ("chat", "mistral_ai", lambda: mistral(
        {"conversation_id": "c", "outputs": [], "usage": CHAT}).beta.conversations.start(model=MODEL, inputs="x")),
    "mistral conversation streamed": ("chat", "mistral_ai", lambda: list(mistral(
        DONE,
    ).beta.conversations.start_stream(model=MODEL, inputs="x"))),
    "mistral fim": ("text_completion", "mistral_ai", lambda: mistral(
        {"id": "f", "object": "x", "model": MODEL, "choices": [], "created": 1, "usage": CHAT},
    ).fim.complete(model=MODEL, prompt="x")),
    "google interaction": ("generate_content", "gcp.gemini", lambda: google(
        {"id": "i", "status": "completed", "usage": {"total_input_tokens": 3, "total_output_tokens": 4}},
    ).interactions.create(model=MODEL, input="x")),
    "groq transcription": ("generate_content", "groq", lambda: groq.Groq(
        api_key="k", http_client=client({"text": "x", "usage": TOKENS}, httpx),
    ).audio.transcriptions.create(model=MODEL, file=audio())),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore")  # what the SDKs deprecate is theirs
def test_one_span_with_model_and_usage(name: str, exporter: InMemorySpanExporter) -> None:
    """Forms, other clouds and further APIs are read like chat."""
    operation, provider, call = CALLS[name]
    call()
    (span,) = exporter.get_finished_spans()
    found = dict(span.attributes or {})
    assert (found["gen_ai.operation.name"], found["gen_ai.provider.name"]) == (operation, provider)
    assert span.name == f"{operation} {MODEL}"
    assert counts(found) == {"input_tokens": 3, "output_tokens": 4}


@pytest.mark.filterwarnings("ignore")
def test_what_the_sdks_count_or_schedule_is_no_call(exporter: InMemorySpanExporter) -> None:
    """Token counts and batches."""
    vertex = anthropic.AnthropicVertex(
        access_token="k", project_id="p", region="r", http_client=client({"input_tokens": 4})
    )
    vertex.messages.count_tokens(model=MODEL, messages=[])
    google({"totalTokens": 3}).models.count_tokens(model=MODEL, contents="x")
    open_ai({"id": "b"}).batches.create(input_file_id="f", endpoint="/v1/responses", completion_window="24h")
    assert exporter.get_finished_spans() == ()
