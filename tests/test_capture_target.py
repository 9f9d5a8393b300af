"""Which URLs are LLM end points, and of which provider."""

from __future__ import annotations

import re
from typing import Any

import httpx
import httpx2
import pytest

from otel_sessions.base.settings import Settings
from otel_sessions.capture.formats import ENDPOINTS
from otel_sessions.capture.formats.wire import Endpoint
from otel_sessions.capture.target import Elsewhere, Target, Targets


def target(url: str, **settings: Any) -> Target | None:
    first = Targets(Settings(**settings)).of(httpx2.URL(url))
    assert Targets(Settings(**settings)).of(httpx.URL(url)) == first
    return first


@pytest.mark.parametrize(
    ("url", "operation", "provider", "model"),
    [
        ("https://api.openai.com/v1/chat/completions", "chat", "openai", None),
        ("https://eu.api.openai.com/v1/responses?x=1", "chat", "openai", None),
        ("https://api.openai.com/v1/completions", "text_completion", "openai", None),
        ("https://api.openai.com./v1/completions", "text_completion", "openai", None),
        ("https://api.openai.com//v1/completions/", "text_completion", "openai", None),
        ("https://api.openai.com/v1/embeddings", "embeddings", "openai", None),
        ("https://x.openai.azure.com/openai/deployments/gpt%204/chat/completions?api-version=1", "chat",
         "azure.ai.openai", "gpt 4"),
        ("https://x.openai.azure.com/openai/v1/chat/completions", "chat", "azure.ai.openai", None),
        ("https://x.services.ai.azure.com/models/chat/completions", "chat", "azure.ai.inference", None),
        ("https://x.services.ai.azure.com/openai/v1/responses", "chat", "azure.ai.openai", None),
        ("https://api.anthropic.com/v1/messages?beta=true", "chat", "anthropic", None),
        ("https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent",
         "generate_content", "gcp.gemini", "gemini-2.5-flash"),
        ("https://generativelanguage.googleapis.com/v1beta/models/g:streamGenerateContent?alt=sse",
         "generate_content", "gcp.gemini", "g"),
        ("https://generativelanguage.googleapis.com/v1beta/models/e:batchEmbedContents", "embeddings", "gcp.gemini", "e"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", "chat", "gcp.gemini", None),
        ("https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models/g:generateContent",
         "generate_content", "gcp.vertex_ai", "g"),
        ("https://aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/anthropic/models/claude@1:streamRawPredict",
         "chat", "gcp.vertex_ai", "claude@1"),
        ("https://api.groq.com/openai/v1/chat/completions", "chat", "groq", None),
        ("https://api.mistral.ai/v1/agents/completions", "chat", "mistral_ai", None),
        ("https://api.deepseek.com/beta/completions", "text_completion", "deepseek", None),
        ("https://api.x.ai/v1/chat/completions", "chat", "x_ai", None),
        ("https://openrouter.ai/api/v1/chat/completions", "chat", "openrouter", None),
        ("https://api.perplexity.ai/chat/completions", "chat", "perplexity", None),
    ],
)  # fmt: skip
def test_known_hosts(url: str, operation: str, provider: str, model: str | None) -> None:
    """The path says what is asked, the host of whom."""
    found = target(url)
    assert found is not None
    assert (found.endpoint.operation, found.provider, found.model) == (operation, provider, model)
    assert found.certain
    assert not found.forward


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1/models",
        "https://api.openai.com/v1/files",
        "https://api.openai.com/v1/batches",
        "https://api.openai.com/v1/responses/resp_1",
        "https://api.openai.com/v1/responses/resp_1/cancel",
        "https://api.openai.com/v1/chat/completions/chatcmpl-1",
        "https://api.openai.com/v1/threads/thread_1/messages",
        "https://api.anthropic.com/v1/messages/count_tokens",
        "https://api.anthropic.com/v1/messages/batches",
        "https://generativelanguage.googleapis.com/v1beta/models/g:countTokens",
        "https://aiplatform.googleapis.com/v1/publishers/anthropic/models/count-tokens:rawPredict",
        "https://example.com/",
    ],
)
def test_other_end_points_of_the_same_hosts(url: str) -> None:
    """Files, batches, polling and counting are not LLM calls."""
    assert target(url) is None


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("http://127.0.0.1:8000/v1/chat/completions", "openai"),
        ("http://gateway.internal/anthropic/v1/messages", "anthropic"),
        ("http://localhost:11434/v1/chat/completions", "ollama"),
        ("https://bedrock-mantle.us-east-1.api.aws/v1/chat/completions", "aws.bedrock"),
        ("https://router.huggingface.co/together/v1/chat/completions", "huggingface"),
        ("https://notapi.openai.com.example/v1/embeddings", "openai"),
    ],
)
def test_on_other_hosts_the_body_decides(url: str, provider: str) -> None:
    """The path alone does not do; the provider is that of the wire format, or of the host where it is known."""
    found = target(url)
    assert found is not None
    assert (found.provider, found.certain) == (provider, False)


def test_the_settings_for_hosts() -> None:
    """Hosts with or without port; what is ignored is ignored, whatever else is said of it."""
    url = "http://llm.internal:8000/v1/chat/completions"
    for hosts in (("llm.internal",), ("llm.internal:8000",)):
        found = target(url, llm_hosts=hosts, forward_hosts=hosts)
        assert found is not None
        assert (found.certain, found.forward) == (True, True)
        assert target(url, llm_hosts=hosts, ignore_hosts=hosts) is None
    found = target(url, llm_hosts=("llm.internal:9000",))
    assert found is not None
    assert not found.certain


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.path)
def test_paths_begin_with_a_plain_slash(endpoint: Endpoint) -> None:
    """Then one search tells the paths of all other requests of the host, three times as fast as without."""
    assert re.match(r"/(?!\?)", endpoint.path)


def test_keys_in_query_strings_are_not_remembered() -> None:
    """What is kept for the next request has no query string, and is bounded."""
    targets = Targets(Settings())
    for number in range(3_000):
        targets.of(httpx2.URL(f"https://h{number}.example/v1/embeddings?key=secret"))
    assert len(targets._known) <= 1024
    assert "secret" not in str(targets._known)


@pytest.mark.parametrize(
    ("url", "theirs"),
    [
        ("https://api.openai.com/v1/models", True),
        ("https://api.anthropic.com/v1/messages/count_tokens", True),
        ("https://router.huggingface.co/v1/models", True),
        ("https://x.endpoints.huggingface.cloud/info", True),
        ("https://bucket.s3.amazonaws.com/file", False),
        ("https://me--app.modal.run/jobs", False),
        ("https://example.com/v1/models", False),
    ],
)
def test_the_other_paths_of_providers_are_known(url: str, *, theirs: bool) -> None:
    """There neither session nor trace context goes; hosts that serve the user's own services, too, are left alone."""
    assert (Targets(Settings()).at(httpx2.URL(url)) == Elsewhere(forward=False)) is theirs
    assert Targets(Settings(ignore_hosts=(httpx2.URL(url).host,))).at(httpx2.URL(url)) is None
