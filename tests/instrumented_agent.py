"""A program for tests: calls OpenAI and Anthropic on a made-up transport, traced by the instrumentations named.

Arguments: the store's DSN, the session's id, then any of ``ours openinference genai traceloop langfuse logfire sdk``.
Each runs in a process of its own, because instrumentations cannot be taken off again. All spans go to the store as one
batch per span, in the order in which they ended, and nothing but ``ours`` marks any.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from importlib import import_module
from typing import Any

DSN, SESSION, *ACTIVE = sys.argv[1:]
os.environ["ANTHROPIC_OPEN_TELEMETRY"] = "true" if "sdk" in ACTIVE else "false"
os.environ["LANGFUSE_TRACING_ENABLED"] = "true"

import httpx2  # noqa: E402
from opentelemetry import trace  # noqa: E402
from opentelemetry.sdk.resources import Resource  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402

import otel_sessions  # noqa: E402
from otel_sessions.store import open_store  # noqa: E402

USAGE = {
    "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 40}, "completion_tokens_details": {"reasoning_tokens": 7},
}  # fmt: skip
CHAT: dict[str, Any] = {"object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06", "usage": USAGE}
MESSAGE: dict[str, Any] = {
    "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929", "stop_sequence": None,
    "usage": {"input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 30},
}  # fmt: skip
QUESTION = [{"role": "user", "content": "hello"}]
INSTRUMENTORS = {
    "openinference": {
        "openinference.instrumentation.openai": "OpenAIInstrumentor",
        "openinference.instrumentation.anthropic": "AnthropicInstrumentor",
    },
    "genai": {
        "opentelemetry.instrumentation.genai.openai": "OpenAIInstrumentor",
        "opentelemetry.instrumentation.genai.anthropic": "AnthropicInstrumentor",
    },
    "traceloop": {
        "opentelemetry.instrumentation.openai": "OpenAIInstrumentor",
        "opentelemetry.instrumentation.anthropic": "AnthropicInstrumentor",
    },
}
answers = iter(range(1, 1000))


def answer(request: httpx2.Request) -> httpx2.Response:
    body = json.loads(request.content)
    claude = request.url.path.endswith("/messages")
    found = (claude_events if claude else chat_chunks)(next(answers)) if body.get("stream") else None
    if found is not None:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=found)
    number = next(answers)
    if claude:
        text = [{"type": "text", "text": "hi"}]
        return httpx2.Response(200, json={**MESSAGE, "id": f"msg_{number}", "content": text, "stop_reason": "end_turn"})
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    return httpx2.Response(200, json={**CHAT, "id": f"chatcmpl-{number}", "choices": [choice]})


def chat_chunks(number: int) -> str:
    base = {**CHAT, "id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "usage": None}
    delta = {"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    parts = [{**base, "choices": [delta]}, {**base, "choices": [], "usage": USAGE}]
    return "".join(f"data: {json.dumps(part)}\n\n" for part in parts) + "data: [DONE]\n\n"


def claude_events(number: int) -> str:
    message = {**MESSAGE, "id": f"msg_{number}", "content": [], "stop_reason": None}
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "usage": {**MESSAGE["usage"], "output_tokens": 0}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 20}},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)


def instrument(provider: TracerProvider, processor: SimpleSpanProcessor) -> Any:
    """Switch on what was asked for; returns the module that has the OpenAI clients."""
    import openai

    if "logfire" in ACTIVE:
        logfire: Any = import_module("logfire")
        processors = [otel_sessions.SessionSpanProcessor(), processor]
        logfire.configure(
            send_to_logfire=False, console=False, inspect_arguments=False, additional_span_processors=processors
        )
        logfire.instrument_openai()
        logfire.instrument_anthropic()
    for name, instrumentors in INSTRUMENTORS.items():
        if name in ACTIVE:
            for module, instrumentor in instrumentors.items():
                getattr(import_module(module), instrumentor)().instrument(tracer_provider=provider)
    if "ours" in ACTIVE:
        otel_sessions.instrument(provider)
    if "langfuse" in ACTIVE:
        langfuse = import_module("langfuse")
        langfuse.Langfuse(public_key="pk", secret_key="sk", base_url="http://127.0.0.1:9", tracer_provider=provider)
        return import_module("langfuse.openai")
    return openai


async def asked_asynchronously(clients: Any, anthropic: Any) -> None:
    transport = httpx2.MockTransport(answer)
    openai = clients.AsyncOpenAI(api_key="k", http_client=httpx2.AsyncClient(transport=transport))
    claude = anthropic.AsyncAnthropic(api_key="k", http_client=httpx2.AsyncClient(transport=transport))
    await openai.chat.completions.create(model="gpt-4o", messages=QUESTION)
    stream = await openai.chat.completions.create(
        model="gpt-4o", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    async for _ in stream:
        pass
    await claude.messages.create(model="claude-sonnet-4-5", max_tokens=9, messages=QUESTION)


def asked(clients: Any, anthropic: Any) -> None:
    transport = httpx2.MockTransport(answer)
    openai = clients.OpenAI(api_key="k", http_client=httpx2.Client(transport=transport))
    claude = anthropic.Anthropic(api_key="k", http_client=httpx2.Client(transport=transport))
    openai.chat.completions.create(model="gpt-4o", messages=QUESTION)
    for _ in openai.chat.completions.create(
        model="gpt-4o", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    ):
        pass
    claude.messages.create(model="claude-sonnet-4-5", max_tokens=9, messages=QUESTION)
    for _ in claude.messages.create(model="claude-sonnet-4-5", max_tokens=9, messages=QUESTION, stream=True):
        pass


def main() -> None:
    memory = InMemorySpanExporter()
    processor = SimpleSpanProcessor(memory)
    provider = TracerProvider(resource=Resource({"service.name": "agent"}))
    provider.add_span_processor(otel_sessions.SessionSpanProcessor())
    provider.add_span_processor(processor)
    if "logfire" not in ACTIVE:
        trace.set_tracer_provider(provider)
    clients = instrument(provider, processor)
    import anthropic

    with otel_sessions.session(SESSION, name="matrix"), otel_sessions.step("ask"):
        asked(clients, anthropic)
        asyncio.run(asked_asynchronously(clients, anthropic))
    with open_store(DSN) as store:
        store.migrate()
        spans = memory.get_finished_spans()
        store.insert(spans[::2], f"{SESSION}-1")
        store.insert(spans[1::2], f"{SESSION}-2")
        calls = [
            (c.scope, c.input_tokens, c.cached_input_tokens, c.output_tokens) for c in store.reader().calls(SESSION)
        ]
        left_out = store.reader().query("SELECT scope, reason FROM suppressed_spans").rows
        sys.stdout.write(json.dumps({"calls": calls, "left_out": left_out, "spans": len(spans)}) + "\n")
        sys.stdout.flush()
    os._exit(0)  # exporters of other products wait for their servers


main()
