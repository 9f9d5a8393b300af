"""Capture against recorded provider traffic: the numbers are the provider's own, and nothing else is changed."""

from __future__ import annotations

import base64
import json
import os
import random
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sessions import capture
from otel_sessions.base.guard import counters

FOLDER = os.environ.get("OTEL_SESSIONS_RECORDINGS", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="OTEL_SESSIONS_RECORDINGS is not set")

CAPTURED = (
    "anthropic", "azure_openai", "deepseek", "google", "groq", "mistral", "openai", "openai_compatible", "together"
)  # fmt: skip
OTHERS = ("not_llm", "bedrock", "cohere", "ollama", "replicate", "voyage", "watsonx", "writer")
MODULES = (httpx, httpx2)
LLM_PATHS = ("/completions", "/embeddings", "/responses", "/v1/messages", ":generateContent", "/images/generations")


def recordings(*files: str) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files for line in (Path(FOLDER) / f"{file}.jsonl").read_text().splitlines()]


def body(side: dict[str, str] | None) -> bytes:
    side = side or {}
    return base64.b64decode(side["base64"]) if "base64" in side else side.get("text", "").encode()


def is_llm(recording: dict[str, Any]) -> bool:
    return recording["method"].upper() == "POST" and re.split("[?#]", recording["url"])[0].endswith(LLM_PATHS)


def chunks(data: bytes, seed: int) -> list[bytes]:
    """``data`` in at most 8 pieces, cut at random places."""
    cuts = sorted(random.Random(seed).randrange(len(data) + 1) for _ in range(7)) if data else []
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if start < end]


class Sync:
    def __init__(self, module: ModuleType, pieces: list[bytes], error: BaseException | None = None) -> None:
        self.module, self.pieces, self.error = module, pieces, error

    def stream(self) -> Any:
        class Pieces(self.module.SyncByteStream):  # type: ignore[name-defined, misc]
            def __iter__(this) -> Iterator[bytes]:  # noqa: N805
                yield from self.pieces
                if self.error:
                    raise self.error

        return Pieces()


class Async(Sync):
    def stream(self) -> Any:
        class Pieces(self.module.AsyncByteStream):  # type: ignore[name-defined, misc]
            async def __aiter__(this) -> AsyncIterator[bytes]:  # noqa: N805
                for piece in self.pieces:
                    yield piece
                if self.error:
                    raise self.error

        return Pieces()


def answer(recording: dict[str, Any], source: Sync) -> Any:
    headers = {"content-type": recording["content_type"]} if recording["content_type"] else {}
    return source.module.Response(recording["status"], headers=headers, stream=source.stream())


def seen_sync(recording: dict[str, Any], source: Sync) -> tuple[Any, ...]:
    """All that a host can see of the exchange: chunks, headers, status, or the exception."""
    transport = source.module.MockTransport(lambda request: answer(recording, source))
    with source.module.Client(transport=transport) as client:
        request = client.build_request(recording["method"], recording["url"], content=body(recording["request"]))
        got: list[bytes] = []
        try:
            response = client.send(request, stream=True)
            got.extend(response.iter_raw())
        except Exception as error:  # noqa: BLE001 - compared below
            return (got, type(error), error.args)
        assert response.request is request
        assert response.elapsed is not None
        return (got, response.status_code, response.headers.raw, request.headers.raw)


async def seen_async(recording: dict[str, Any], source: Async) -> tuple[Any, ...]:
    transport = source.module.MockTransport(lambda request: answer(recording, source))
    async with source.module.AsyncClient(transport=transport) as client:
        request = client.build_request(recording["method"], recording["url"], content=body(recording["request"]))
        got: list[bytes] = []
        try:
            response = await client.send(request, stream=True)
            got.extend([chunk async for chunk in response.aiter_raw()])
        except Exception as error:  # noqa: BLE001 - compared below
            return (got, type(error), error.args)
        assert response.request is request
        return (got, response.status_code, response.headers.raw, request.headers.raw)


def documents(data: bytes) -> list[Any]:
    """JSON documents of a body, by the shortest way that is not the one under test."""
    try:
        return [json.loads(data)]
    except ValueError:
        lines = [line[5:].strip() for line in data.decode().splitlines() if line.startswith("data:")]
        return [json.loads(line) for line in lines if line.startswith("{")]


def find(value: Any, key: str) -> Iterator[Any]:
    """Objects under ``key``, wherever they stand outside of what a model wrote."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name == key and isinstance(item, dict):
                yield item
            elif name in {"message", "response", "x_groq"}:
                yield from find(item, key)


def expected_tokens(recording: dict[str, Any]) -> tuple[int | None, ...]:
    """(input, output, cache read, reasoning) as the provider's own usage fields say."""
    docs = documents(body(recording["response"]))
    usages = [usage for doc in docs for key in ("usage", "usageMetadata") for usage in find(doc, key)]
    if not usages:
        return (None, None, None, None)
    if "anthropic" in recording["url"]:
        merged: dict[str, Any] = {}
        for usage in usages:
            merged.update(usage)
        cached = merged.get("cache_read_input_tokens")
        written = merged.get("cache_creation_input_tokens") or 0
        return (merged["input_tokens"] + (cached or 0) + written, merged["output_tokens"], cached, None)
    usage = usages[-1]
    if "promptTokenCount" in usage:
        thoughts = usage.get("thoughtsTokenCount")
        return (usage["promptTokenCount"], usage["candidatesTokenCount"] + (thoughts or 0), None, thoughts)
    inputs = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    outputs = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    return (
        usage.get("prompt_tokens", usage.get("input_tokens")),
        usage.get("completion_tokens", usage.get("output_tokens")),
        inputs.get("cached_tokens"),
        outputs.get("reasoning_tokens"),
    )


def measured_tokens(span: ReadableSpan) -> tuple[Any, ...]:
    found = span.attributes or {}
    return tuple(
        found.get(f"gen_ai.usage.{name}")
        for name in ("input_tokens", "output_tokens", "cache_read.input_tokens", "reasoning.output_tokens")
    )


def test_usage_equals_the_providers_own_for_every_recorded_exchange(exporter: InMemorySpanExporter) -> None:
    """Every exchange of the three wire formats gives one span with the tokens that its response states."""
    seen = 0
    for number, recording in enumerate(filter(is_llm, recordings(*CAPTURED))):
        exporter.clear()
        seen_sync(recording, Sync(httpx2, chunks(body(recording["response"]), number)))
        (span,) = exporter.get_finished_spans()
        assert measured_tokens(span) == expected_tokens(recording), recording["source"]
        assert (span.attributes or {})["otel_sessions.response.end"] == "complete"
        seen += 1
    assert seen > 550


def test_facts_equal_those_of_the_response(exporter: InMemorySpanExporter) -> None:
    """Response model and id, and the request's model, are those of the recorded documents."""
    for number, recording in enumerate(filter(is_llm, recordings(*CAPTURED))):
        if recording["status"] != 200:
            continue
        exporter.clear()
        seen_sync(recording, Sync(httpx2, chunks(body(recording["response"]), number)))
        (span,) = exporter.get_finished_spans()
        found = span.attributes or {}
        docs = documents(body(recording["response"]))
        flat = [doc.get("response") or doc.get("message") or doc for doc in docs]
        models = {doc.get("model") or doc.get("modelVersion") for doc in flat if isinstance(doc, dict)} - {None, ""}
        ids = {doc.get("id") or doc.get("responseId") for doc in flat if isinstance(doc, dict)} - {None, ""}
        assert found.get("gen_ai.response.model") in (models or {None})
        assert found.get("gen_ai.response.id") in (ids or {None})
        sent = json.loads(body(recording["request"])).get("model")
        assert found["gen_ai.request.model"] == (sent or "gemini-2.5-flash")


def test_other_traffic_gives_no_span(exporter: InMemorySpanExporter) -> None:
    """Vector stores, assistants, threads, polling and downloads are not LLM calls."""
    others = [*recordings("not_llm"), *(r for r in recordings("openai") if not is_llm(r))]
    for recording in others:
        seen_sync(recording, Sync(httpx2, [body(recording["response"])]))
    assert exporter.get_finished_spans() == ()


def variants(recording: dict[str, Any], number: int) -> Iterator[tuple[list[bytes], BaseException | None]]:
    """The body as it was, cut off, broken, and cut off by an exception."""
    data = body(recording["response"])
    yield chunks(data, number), None
    if number % 5 == 0:
        yield chunks(data[: len(data) // 2], number), None
        yield chunks(data.replace(b'":', b'"', 3), number), None
        yield chunks(data[: len(data) // 3], number), ConnectionResetError(104, "reset")


@pytest.mark.parametrize("module", MODULES)
def test_a_sync_host_sees_the_same_with_and_without_us(module: ModuleType) -> None:
    """Chunk boundaries, headers, status and exceptions are the same, whatever the body."""
    for number, recording in enumerate(recordings(*CAPTURED, *OTHERS)):
        for pieces, error in variants(recording, number):
            plain = seen_sync(recording, Sync(module, pieces, error))
            capture.instrument()
            observed = seen_sync(recording, Sync(module, pieces, error))
            capture.uninstrument()
            assert observed == plain, recording["source"]


@pytest.mark.parametrize("module", MODULES)
async def test_an_async_host_sees_the_same_with_and_without_us(
    module: ModuleType, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """As for the sync client, here with spans recorded; and nothing of ours failed on the way."""
    before = {name: value for name, value in counters().items() if name.startswith("error.")}
    for number, recording in enumerate(recordings(*CAPTURED, *OTHERS)):
        for pieces, error in variants(recording, number):
            observed = await seen_async(recording, Async(module, pieces, error))
            capture.uninstrument()
            plain = await seen_async(recording, Async(module, pieces, error))
            capture.instrument(provider)
            assert observed == plain, recording["source"]
    assert {name: value for name, value in counters().items() if name.startswith("error.")} == before
