"""What a recorded exchange is expected to say, straight from the provider's JSON and by none of the package's readers.

A recording is ``{"method", "url", "status", "content_type", "request", "response"}``, bodies as ``{"text"}`` or
``{"base64"}``.
"""

from __future__ import annotations

import base64
import json
import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Recording = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is compared. Tokens: input and output are totals; ``None`` is not stated."""

    operation: str
    provider: str
    request_model: str | None
    response_model: str | None = None
    finish_reasons: tuple[str, ...] = ()
    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    searches: int | None = None
    tier: str | None = None


def folder() -> Path | None:
    """Where the recordings are, by ``OTEL_SESSIONS_RECORDINGS``."""
    found = os.environ.get("OTEL_SESSIONS_RECORDINGS")
    return Path(found) if found else None


def recordings(path: Path) -> list[Recording]:
    """The exchanges in one file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def body(side: dict[str, str] | None) -> bytes:
    """The bytes of one side of an exchange."""
    side = side or {}
    return base64.b64decode(side["base64"]) if "base64" in side else side.get("text", "").encode()


# Which exchanges are calls, by the path; of whom, by the host. First match counts.
_PATHS = (
    (r"/chat/completions$|/v[12]/chat$|/v1/responses$|/v1/messages$|/api/chat$|/converse(-stream)?$", "chat"),
    (r"/invoke(-with-response-stream)?$", "invoke"),
    (r"/embeddings$|/v[12]/embed$|/api/embed$", "embeddings"),
    (r"/completions$|/v1/generate$|/api/generate$|/v1/complete$|/generation/text(_stream)?$", "text_completion"),
    (r":(stream)?[gG]enerateContent$|/images/generations$|/predictions$", "generate_content"),
    (r"/rerank$", "rerank"),
)
_HOSTS = (
    ("openai.azure.com", "azure.ai.openai"),
    ("api.openai.com", "openai"),
    ("anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("groq.com", "groq"),
    ("mistral.ai", "mistral_ai"),
    ("deepseek.com", "deepseek"),
    ("cohere.com", "cohere"),
    ("amazonaws.com", "aws.bedrock"),
    ("ml.cloud.ibm.com", "ibm.watsonx.ai"),
    ("together.xyz", "together"),
    ("voyageai.com", "voyage"),
    ("writer.com", "writer"),
    ("replicate.com", "replicate"),
    ("127.0.0.1:11434", "ollama"),
    ("", "openai"),
)


def expected(recording: Recording) -> Facts | None:
    """The facts, or ``None`` if this is no LLM call."""
    url = urlsplit(recording["url"])
    path = unquote(url.path)
    kind = next((kind for pattern, kind in _PATHS if re.search(pattern, path)), None)
    if recording["method"].upper() != "POST" or kind is None or _is_other(recording, url.netloc):
        return None
    asked = _asked(recording)
    if kind == "invoke":
        kind = "chat" if "messages" in asked or "message" in asked else "text_completion"
    provider = next(name for part, name in _HOSTS if part in url.netloc)
    return Facts(
        kind, provider, _request_model(path, asked), **_answered(provider, [*documents(body(recording["response"]))])
    )


def _is_other(recording: Recording, host: str) -> bool:
    """On hosts of nobody in particular the request must say that it is one."""
    return host.startswith("localhost") and "model" not in _asked(recording)


def _asked(recording: Recording) -> dict[str, Any]:
    try:
        found = json.loads(body(recording["request"]))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _request_model(path: str, asked: dict[str, Any]) -> str | None:
    named = asked.get("model") or asked.get("model_id") or asked.get("version")
    found = re.search(r"/models?/(.+?)(/invoke|/converse|/predictions|:)[^/]*$|/deployments/([^/]+)/", path)
    return named or (found and (found.group(1) or found.group(3))) or None


def documents(data: bytes) -> Iterator[dict[str, Any]]:
    """JSON objects of a body: a document, lines, server-sent events or an AWS event stream."""
    if data[:1] == b"\0":
        yield from _messages(data)
        return
    try:
        whole = json.loads(data)
        yield from (whole if isinstance(whole, list) else [whole])
    except ValueError:
        for line in data.decode("utf-8", "replace").splitlines():
            text = line.removeprefix("data:").strip()
            if text.startswith("{"):
                yield json.loads(text)


def _messages(data: bytes) -> Iterator[dict[str, Any]]:
    while data:
        size, headers = struct.unpack(">II", data[:8])
        payload = json.loads(data[12 + headers : size - 4])
        yield json.loads(base64.b64decode(payload["bytes"])) if "bytes" in payload else payload
        data = data[size:]


def _answered(provider: str, whole: list[dict[str, Any]]) -> dict[str, Any]:
    inner = [part for document in whole for part in _parts(document)]
    found: dict[str, Any] = {"response_model": _last(inner, "modelVersion", "model_id", "model", first=True)}
    found["finish_reasons"] = _finish_reasons(inner)
    found["searches"] = _searches(inner) or None
    found["tier"] = _last(inner, "service_tier")
    usage = _USAGE.get(provider, _openai)(inner)
    return found | {name: value for name, value in usage.items() if value is not None}


def _parts(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The document and the objects in which streams and gateways wrap what is wanted."""
    yield document
    for key in ("response", "message", "delta", "meta", "usage", "x_groq", "metadata", "messageStop"):
        value = document.get(key)
        if isinstance(value, dict) and not (key == "delta" and "choices" in document):
            yield from _parts(value)


def _last(parts: list[dict[str, Any]], *keys: str, first: bool = False) -> Any:
    found = [part[key] for part in parts for key in keys if isinstance(part.get(key), str) and part[key]]
    return (found[0] if first else found[-1]) if found else None


def _searches(parts: list[dict[str, Any]]) -> int:
    """Searches in the output of a response, or that Anthropic counts."""
    items = [item for part in parts if part.get("object") == "response" for item in part.get("output") or ()]
    made = {item["id"] for item in items if item["type"] == "web_search_call" and item["action"]["type"] == "search"}
    return len(made) + sum(used.get("web_search_requests", 0) for used in _objects(parts, "server_tool_use"))


_REASONS = ("finish_reason", "finishReason", "stop_reason", "stopReason", "completionReason", "done_reason")


def _finish_reasons(parts: list[dict[str, Any]]) -> tuple[str, ...]:
    found: dict[int, str] = {}
    for part in parts:
        if part.get("object") == "response" and part.get("status") in {"completed", "incomplete", "failed"}:
            found[0] = (part.get("incomplete_details") or {}).get("reason") or part["status"]
        lists = ("choices", "candidates", "generations", "completions", "results")
        answers = [(0, part), *(pair for key in lists for pair in enumerate(part.get(key) or ()))]
        for index, answer in answers:
            reason = next((answer[key] for key in _REASONS if isinstance(answer, dict) and answer.get(key)), None)
            reason = reason["reason"] if isinstance(reason, dict) else reason
            if reason and reason != "not_finished":
                found[answer.get("index", index) if isinstance(answer.get("index"), int) else index] = reason
    return tuple(found[index] for index in sorted(found))


def _objects(parts: list[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    return [part[key] for part in parts for key in keys if isinstance(part.get(key), dict)]


def _openai(parts: list[dict[str, Any]]) -> dict[str, Any]:
    usages = _objects(parts, "usage")
    if not usages:
        return {}
    usage = usages[-1]
    given = next((usage[key] for key in usage if re.fullmatch(r"(prompt|input)_tokens?_details", key)), None) or {}
    made = next((usage[key] for key in usage if re.fullmatch(r"(completion|output)_tokens?_details", key)), None) or {}
    stated = usage.get("prompt_tokens", usage.get("input_tokens"))
    return {
        "input": usage.get("total_tokens") if stated is None else stated,
        "output": usage.get("completion_tokens", usage.get("output_tokens")),
        "cache_read": given.get("cached_tokens", usage.get("prompt_cache_hit_tokens")),
        "reasoning": made.get("reasoning_tokens"),
    }


def _anthropic(parts: list[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for usage in _objects(parts, "usage"):
        merged |= {key: value for key, value in usage.items() if value is not None}
    if not merged:
        return {}
    cached, written = merged.get("cache_read_input_tokens"), merged.get("cache_creation_input_tokens")
    return {
        "input": merged["input_tokens"] + (cached or 0) + (written or 0),
        "output": merged["output_tokens"],
        "cache_read": cached,
        "cache_write": written,
    }


def _gemini(parts: list[dict[str, Any]]) -> dict[str, Any]:
    usage = _objects(parts, "usageMetadata")[-1]
    thoughts = usage.get("thoughtsTokenCount")
    return {
        "input": usage["promptTokenCount"],
        "output": usage["totalTokenCount"] - usage["promptTokenCount"],
        "reasoning": thoughts,
    }


def _cohere(parts: list[dict[str, Any]]) -> dict[str, Any]:
    billed = _objects(parts, "billed_units")
    return {"input": billed[-1].get("input_tokens"), "output": billed[-1].get("output_tokens")} if billed else {}


def _ollama(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {"input": _count(parts, "prompt_eval_count"), "output": _count(parts, "eval_count")}


def _count(parts: list[dict[str, Any]], key: str) -> Any:
    return next((part[key] for part in parts if key in part), None)


def _watsonx(parts: list[dict[str, Any]]) -> dict[str, Any]:
    results = [result for part in parts for result in part["results"]]
    return {"input": results[0]["input_token_count"], "output": results[-1]["generated_token_count"]}


def _bedrock(parts: list[dict[str, Any]]) -> dict[str, Any]:
    usages = _objects(parts, "usage")
    if any("inputTokens" in usage for usage in usages):
        usage = usages[-1]
        cached = [
            usage.get(f"cache{kind}InputTokens", usage.get(f"cache{kind}InputTokenCount")) for kind in ("Read", "Write")
        ]
        total = usage["inputTokens"] + sum(count or 0 for count in cached)
        return {"input": total, "output": usage.get("outputTokens"), "cache_read": cached[0], "cache_write": cached[1]}
    if usages:
        return _openai(parts) if "prompt_tokens" in usages[-1] else _anthropic(parts)
    counts = {key: value for part in parts for key, value in part.items() if key.lower().endswith("count")}
    counts |= {key: value for part in parts for result in part.get("results", ()) for key, value in result.items()}
    return {
        "input": counts.get("inputTextTokenCount", counts.get("prompt_token_count")),
        "output": counts.get(
            "totalOutputTextTokenCount", counts.get("tokenCount", counts.get("generation_token_count"))
        ),
    }


_USAGE: dict[str, Callable[[list[dict[str, Any]]], dict[str, Any]]] = {
    "anthropic": _anthropic,
    "gcp.gemini": _gemini,
    "cohere": _cohere,
    "ollama": _ollama,
    "ibm.watsonx.ai": _watsonx,
    "aws.bedrock": _bedrock,
}
