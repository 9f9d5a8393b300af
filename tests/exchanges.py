"""One exchange with made-up bytes through an instrumented client, and what its span says."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any
from zlib import crc32

import httpx2
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sessions import capture
from otel_sessions.base.settings import Settings

USAGE = "gen_ai.usage."


def exchange(
    url: str,
    request: Any = None,
    response: Any = None,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    settings: Settings | None = None,
    **more: Any,
) -> dict[str, Any] | None:
    """Attributes of the span of a POST; ``None`` if there is none. What is no bytes is sent as JSON."""
    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    capture.instrument(provider, settings=settings or Settings())
    try:
        answer = httpx2.Response(status, headers=headers, content=encoded(response))
        with httpx2.Client(transport=httpx2.MockTransport(lambda _: answer)) as client:
            client.post(url, **(more or {"content": encoded(request)}))
    finally:
        capture.uninstrument()
    spans = memory.get_finished_spans()
    assert len(spans) < 2
    return dict(spans[0].attributes or {}) if spans else None


def counts(attributes: dict[str, Any] | None) -> dict[str, Any]:
    """The usage on a span, by the last part of its names."""
    return {name.removeprefix(USAGE): value for name, value in (attributes or {}).items() if name.startswith(USAGE)}


def encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def events(*parts: Any) -> bytes:
    """Server-sent events."""
    return b"".join(b"data: " + encoded(part) + b"\n\n" for part in parts) + b"data: [DONE]\n\n"


def lines(*parts: Any) -> bytes:
    """One JSON document per line."""
    return b"".join(encoded(part) + b"\n" for part in parts)


def message(payload: Any, **headers: str) -> bytes:
    """A message of an AWS event stream."""
    named = b"".join(
        bytes([len(name) + 1]) + b":" + name.replace("_", "-").encode() + b"\7" + struct.pack(">H", len(value)) + value
        for name, value in ((name, text.encode()) for name, text in headers.items())
    )
    data = encoded(payload)
    prelude = struct.pack(">II", len(named) + len(data) + 16, len(named))
    whole = prelude + struct.pack(">I", crc32(prelude)) + named + data
    return whole + struct.pack(">I", crc32(whole))


def chunk(event: Any) -> bytes:
    """A model's own event, as InvokeModelWithResponseStream wraps it."""
    return message({"bytes": base64.b64encode(encoded(event)).decode()}, event_type="chunk", message_type="event")
