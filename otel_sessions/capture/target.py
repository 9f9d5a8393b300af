"""Which requests are LLM calls, and of which provider.

On a known host, or one of ``settings.llm_hosts``, the path decides. On any other host the body must also have the
keys of the wire format, which :mod:`otel_sessions.capture.exchange` checks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from opentelemetry.util.types import AttributeValue

from otel_sessions.base import names
from otel_sessions.base.settings import Settings
from otel_sessions.capture.formats import ENDPOINTS
from otel_sessions.capture.formats.wire import Endpoint, text

# Values of gen_ai.provider.name where the conventions register one, else the provider's plain name.
_PROVIDERS = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "models.ai.azure.com": "azure.ai.inference",
    "models.inference.ai.azure.com": "azure.ai.inference",
    "models.github.ai": "github",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "codestral.mistral.ai": "mistral_ai",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x_ai",
    "api.perplexity.ai": "perplexity",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "amazonaws.com": "aws.bedrock",
    "api.aws": "aws.bedrock",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "openrouter.ai": "openrouter",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "router.huggingface.co": "huggingface",
    "api-inference.huggingface.co": "huggingface",
    "endpoints.huggingface.cloud": "huggingface",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "dashscope.aliyuncs.com": "alibaba_cloud",
    "dashscope-intl.aliyuncs.com": "alibaba_cloud",
    "api.deepinfra.com": "deepinfra",
    "api.sambanova.ai": "sambanova",
    "integrate.api.nvidia.com": "nvidia",
    "api.voyageai.com": "voyage",
    "api.writer.com": "writer",
    "api.novita.ai": "novita",
    "api.hyperbolic.xyz": "hyperbolic",
    "api.studio.nebius.com": "nebius",
    "api.tokenfactory.nebius.com": "nebius",
    "api.z.ai": "zhipu",
    "open.bigmodel.cn": "zhipu",
    "api.minimax.io": "minimax",
    "api.ai21.com": "ai21",
    "api.jina.ai": "jina",
    "localhost:11434": "ollama",
    "127.0.0.1:11434": "ollama",
}
_OPEN_HOSTS = {"amazonaws.com", "api.aws", "localhost:11434", "127.0.0.1:11434"}
"""Hosts that serve anything: the name gives the provider, the body must still fit."""
_FORWARD_HOSTS = ("helicone.ai",)
"""A proxy that lives by the headers which are stripped elsewhere."""
_LIKELY = re.compile("|".join(f"(?:{endpoint.path.replace('(?P<model>', '(?:')})$" for endpoint in ENDPOINTS))
_DEPLOYMENT = re.compile(r"/deployments/([^/]+)/")
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Where an LLM request goes.

    ``certain`` says that host and path suffice; without it the body must fit the wire format. ``forward`` says that
    the host gets session headers and trace context. ``model`` is what the path says.
    """

    endpoint: Endpoint
    provider: str
    certain: bool
    forward: bool
    model: str | None
    attributes: dict[str, AttributeValue] = field(default_factory=dict)


class Targets:
    """Finds the target of a URL; remembers those it found, without their query strings."""

    def __init__(self, settings: Settings) -> None:
        self._llm = frozenset(settings.llm_hosts)
        self._ignored = frozenset(settings.ignore_hosts)
        self._forward = frozenset(settings.forward_hosts)
        self._known: dict[tuple[str, int | None, bytes], Target | None] = {}

    def of(self, url: Any) -> Target | None:
        """Target of the ``URL`` of either httpx module, if its path is an LLM end point's."""
        key = (url.host, url.port, url.raw_path.partition(b"?")[0])
        try:
            return self._known[key]
        except KeyError:
            pass
        path = unquote(key[2].decode("ascii", "replace"))
        if not _LIKELY.search(path):
            return None  # not remembered: such paths are without number
        target = self._find(key[0], key[1] or (443 if url.scheme == "https" else 80), path)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[key] = target
        return target

    def _find(self, host: str, port: int, path: str) -> Target | None:
        endpoint, model = _endpoint(path)
        addresses = (host, f"{host}:{port}")
        if endpoint is None or not self._ignored.isdisjoint(addresses):
            return None
        suffixes = (*_suffixes(host), addresses[1])
        known = next((suffix for suffix in suffixes if suffix in _PROVIDERS), None)
        provider = endpoint.provider if known is None else _provider(_PROVIDERS[known], path)
        target = Target(
            endpoint=endpoint,
            provider=provider,
            certain=not self._llm.isdisjoint(addresses) or (known is not None and known not in _OPEN_HOSTS),
            forward=not self._forward.isdisjoint(addresses) or any(suffix in _FORWARD_HOSTS for suffix in suffixes),
            model=model,
        )
        return replace(target, attributes=_attributes(target, host, port))


def _endpoint(path: str) -> tuple[Endpoint | None, str | None]:
    for endpoint in ENDPOINTS:
        if match := endpoint.pattern.search(path):
            return endpoint, text(match.groupdict().get("model")) or _deployment(path)
    return None, None


def _deployment(path: str) -> str | None:
    match = _DEPLOYMENT.search(path)
    return text(match.group(1)) if match else None


def _suffixes(host: str) -> Iterable[str]:
    labels = host.split(".")
    suffixes = [".".join(labels[start:]) for start in range(len(labels))]
    # Vertex AI and DashScope put the region before a dash: europe-west1-aiplatform.googleapis.com.
    return [*suffixes, *(["aiplatform.googleapis.com"] if host.endswith("-aiplatform.googleapis.com") else [])]


def _provider(provider: str, path: str) -> str:
    """Azure AI Foundry serves OpenAI's own deployments beside others on one host."""
    return "azure.ai.openai" if provider == "azure.ai.inference" and "/openai/" in path else provider


def _attributes(target: Target, host: str, port: int) -> dict[str, AttributeValue]:
    return {
        names.OPERATION: target.endpoint.operation,
        names.PROVIDER: target.provider,
        names.SERVER_ADDRESS: host,
        names.SERVER_PORT: port,
    }
