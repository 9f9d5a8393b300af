"""A program for tests: one OpenAI call in a step of a session, exported by OTLP.

Arguments: the OTLP endpoint, the session's id, then any of ``ours openinference genai``. Without ``ours`` this package
has no part in it: the session stands on the root span alone, as a program without it would write it.
"""

from __future__ import annotations

import sys
from importlib import import_module

import httpx2
import openai
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import otel_sessions

ENDPOINT, SESSION, *ACTIVE = sys.argv[1:]
MODULES = {
    "openinference": "openinference.instrumentation.openai",
    "genai": "opentelemetry.instrumentation.genai.openai",
}
ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "prompt_tokens_details": {"cached_tokens": 40},
    },
}  # fmt: skip


def provided() -> TracerProvider:
    if "ours" in ACTIVE:
        return otel_sessions.configure(store="none", otlp_endpoint=ENDPOINT, service_name="support")
    provider = TracerProvider(resource=Resource({"service.name": "support"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{ENDPOINT}/v1/traces")))
    trace.set_tracer_provider(provider)
    return provider


def ask() -> None:
    transport = httpx2.MockTransport(lambda _request: httpx2.Response(200, json=ANSWER))
    with openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=transport)) as client:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hello"}])


def main() -> None:
    provider = provided()
    for name, module in MODULES.items():
        if name in ACTIVE:
            import_module(module).OpenAIInstrumentor().instrument(tracer_provider=provider)
    if "ours" in ACTIVE:
        with otel_sessions.session(SESSION, name="support"), otel_sessions.step("triage"):
            ask()
        otel_sessions.shutdown()
        return
    attributes = {"session.id": SESSION, "session.name": "support", "session.path": "/triage"}
    with trace.get_tracer("app").start_as_current_span("agent", attributes=attributes):
        ask()
    provider.shutdown()


main()
