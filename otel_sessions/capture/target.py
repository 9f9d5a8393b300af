"""Which requests are LLM calls, and of which provider.

On a known host, or one of ``settings.llm_hosts``, the path decides. On any other host the body must also have the
keys of the wire format, which :mod:`otel_sessions.capture.exchange` checks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

from opentelemetry.util.types import AttributeValue

from otel_sessions.base import names
from otel_sessions.base.settings import Settings
from otel_sessions.capture.formats import ENDPOINTS
from otel_sessions.capture.formats.wire import Answer, Endpoint, gateway_headers, text

# Values of gen_ai.provider.name where the conventions register one, else the provider's plain name.
_PROVIDERS = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "openai.azure.us": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "azure-api.net": "azure.ai.inference",
    "services.ai.azure.com": "azure.ai.inference",
    "models.ai.azure.com": "azure.ai.inference",
    "inference.ai.azure.com": "azure.ai.inference",
    "models.github.ai": "github",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "prediction.vertexai.goog": "gcp.vertex_ai",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.eu.mistral.ai": "mistral_ai",
    "api.us.mistral.ai": "mistral_ai",
    "codestral.mistral.ai": "mistral_ai",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x_ai",
    "api.perplexity.ai": "perplexity",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "bedrock-runtime": "aws.bedrock",
    "aws-external-anthropic": "anthropic",
    "amazonaws.com": "aws.bedrock",
    "api.aws": "aws.bedrock",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "wxai.ibm.com": "ibm.watsonx.ai",
    "openrouter.ai": "openrouter",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api-inference.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "router.huggingface.co": "huggingface",
    "api-inference.huggingface.co": "huggingface",
    "endpoints.huggingface.cloud": "huggingface",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "dashscope.aliyuncs.com": "alibaba_cloud",
    "dashscope-intl.aliyuncs.com": "alibaba_cloud",
    "dashscope-us.aliyuncs.com": "alibaba_cloud",
    "maas.aliyuncs.com": "alibaba_cloud",
    "api.deepinfra.com": "deepinfra",
    "api.sambanova.ai": "sambanova",
    "integrate.api.nvidia.com": "nvidia",
    "ai.api.nvidia.com": "nvidia",
    "api.voyageai.com": "voyage",
    "ai.mongodb.com": "voyage",
    "api.writer.com": "writer",
    "api.novita.ai": "novita",
    "api.hyperbolic.xyz": "hyperbolic",
    "api.studio.nebius.com": "nebius",
    "api.tokenfactory.nebius.com": "nebius",
    "api.z.ai": "z_ai",
    "open.bigmodel.cn": "zhipuai",
    "api.minimax.io": "minimax",
    "api.minimaxi.com": "minimax",
    "api.ai21.com": "ai21",
    "api.jina.ai": "jina",
    "deepsearch.jina.ai": "jina",
    "ollama.com": "ollama",
    ":11434": "ollama",
    "api.replicate.com": "replicate",
    "ai-gateway.vercel.sh": "vercel",
    "api.cloudflare.com": "cloudflare",
    "gateway.ai.cloudflare.com": "cloudflare",
    "githubcopilot.com": "github-copilot",
    "api.meta.ai": "meta",
    "api.llama.com": "meta",
    "api.arcee.ai": "arcee",
    "inference.baseten.co": "baseten",
    "api.doubleword.ai": "doubleword",
    "oai.endpoints.kepler.ai.cloud.ovh.net": "ovhcloud",
    "cloud.databricks.com": "databricks",
    "azuredatabricks.net": "databricks",
    "gcp.databricks.com": "databricks",
    "api.avian.io": "avian",
    "api.quicksilverpro.io": "quicksilverpro",
    "api.typesafe.ai": "typesafe",
    "api.studio.nebius.ai": "nebius",
    "inference.api.nscale.com": "nscale",
    "api.featherless.ai": "featherless",
    "api.friendli.ai": "friendli",
    "api.lambda.ai": "lambda",
    "api.inference.wandb.ai": "wandb",
    "llm.chutes.ai": "chutes",
    "api.reka.ai": "reka",
    "api.publicai.co": "publicai",
    "api-inference.modelscope.cn": "modelscope",
    "api.endpoints.anyscale.com": "anyscale",
    "modal.run": "modal",
    "modal.direct": "modal",
    "snowflakecomputing.com": "snowflake",
    "inference.heroku.com": "heroku",
    "inference.do-ai.run": "digitalocean",
    "api.scaleway.ai": "scaleway",
    "api.siliconflow.com": "siliconflow",
    "api.siliconflow.cn": "siliconflow",
    "ark.cn-beijing.volces.com": "volcengine",
    "ark.ap-southeast.bytepluses.com": "volcengine",
    "qianfan.baidubce.com": "baidu",
    "api.hunyuan.cloud.tencent.com": "tencent",
    "api.stepfun.com": "stepfun",
    "api.upstage.ai": "upstage",
    "api.inceptionlabs.ai": "inception",
}
_OPEN_HOSTS = {
    "amazonaws.com", "api.aws", "azure-api.net", ":11434", "modal.run", "modal.direct", "api.cloudflare.com", "cloud.databricks.com",
    "azuredatabricks.net", "gcp.databricks.com", "router.huggingface.co", "api-inference.huggingface.co",
    "endpoints.huggingface.cloud", "prediction.vertexai.goog", "snowflakecomputing.com",
}  # fmt: skip
"""Hosts that serve anything: the name gives the provider, the body must still fit."""
_ALONE = {"huggingface"}
"""Of these, the providers whose hosts serve models of all kinds, but nothing of the user's own."""
_LIKELY = re.compile("|".join(f"(?:{endpoint.path.replace('(?P<model>', '(?:')})/?$" for endpoint in ENDPOINTS))
_DEPLOYMENT = re.compile(r"/(?:deployments|engines)/([^/]+)/")
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Where an LLM request goes.

    ``certain`` says that host and path suffice; without it the body must fit the wire format. ``forward`` says that
    the host gets session headers and trace context. ``model`` is what the path says. ``attributes`` are the span's.
    ``headers`` reads the response's, if they say anything.
    """

    endpoint: Endpoint
    provider: str
    certain: bool
    forward: bool
    model: str | None
    attributes: Mapping[str, AttributeValue]
    headers: Callable[[Mapping[str, str], Answer], None] | None


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A provider's host, but none of its LLM end points: files, models, polling. ``forward`` as in :class:`Target`."""

    forward: bool


class Targets:
    """Finds the target of a URL; remembers those it found, without their query strings."""

    def __init__(self, settings: Settings) -> None:
        listed = (host.partition("=") for host in settings.llm_hosts)
        self._llm = {host.strip(): provider.strip() or None for host, _, provider in listed}
        self._ignored = frozenset(settings.ignore_hosts)
        self._forward = frozenset(settings.forward_hosts)
        self._known: dict[_Key, Target | None] = {}
        self._hosts: dict[tuple[str, int | None], Elsewhere | None] = {}

    def at(self, url: Any) -> Target | Elsewhere | None:
        """What is at a ``URL`` of either httpx module: an LLM end point, a provider's other path, or nothing of ours."""
        key = url.host, url.port, url.raw_path.partition(b"?")[0]  # as in _key: it is asked for each request
        return self._known.get(key) or self._target(key, url) or self.elsewhere(url)

    def of(self, url: Any) -> Target | None:
        """Target of the ``URL`` of either httpx module, if its path is an LLM end point's."""
        return self._target(_key(url), url)

    def _target(self, key: _Key, url: Any) -> Target | None:
        if key in self._known:
            return self._known[key]
        path = unquote(key[2].decode("ascii", "replace"))
        if not _LIKELY.search(path):
            return None  # not remembered: such paths are without number
        return _remember(self._known, key, self._find(key[0], _port(url), path))

    def elsewhere(self, url: Any) -> Elsewhere | None:
        """What there is to know of a ``URL`` without a target; None unless its host is an LLM provider's alone."""
        key = (url.host, url.port)
        try:
            return self._hosts[key]
        except KeyError:
            host = self._host(url.host, _port(url))
            theirs = host.certain or (host.provider in _ALONE and not host.ignored)
            found = Elsewhere(host.forward) if theirs and url.scheme.startswith("http") else None
            return _remember(self._hosts, key, found)

    def _find(self, host: str, port: int, path: str) -> Target | None:
        at = self._host(host, port)
        provider = at.provider and _provider(at.provider, path)
        endpoint, model = _endpoint(path, provider, anyone=at.listed and provider is None)
        if endpoint is None or at.ignored:
            return None
        provider = provider or endpoint.provider
        attributes: dict[str, AttributeValue] = {
            names.OPERATION: endpoint.operation,
            names.PROVIDER: provider,
            names.SERVER_ADDRESS: host,
            names.SERVER_PORT: port,
        }
        # A gateway that states the cost in a header runs anywhere but on a provider's own host.
        silent = endpoint.headers is gateway_headers and at.certain and not at.listed
        return Target(
            endpoint, provider, at.certain, at.forward, model, attributes,
            headers=None if silent else endpoint.headers,
        )  # fmt: skip

    def _host(self, host: str, port: int) -> _Host:
        host = host.removesuffix(".")  # a name that is not to be looked up below the local domain
        addresses = (f"{host}:{port}", host)
        known = next((suffix for suffix in (*_suffixes(host), f":{port}") if suffix in _PROVIDERS), None)
        listed = next((address for address in addresses if address in self._llm), None)
        ignored = not self._ignored.isdisjoint(addresses)
        return _Host(
            provider=(listed and self._llm[listed]) or (known and _PROVIDERS[known]),
            listed=listed is not None,
            ignored=ignored,
            certain=not ignored and (listed is not None or (known is not None and known not in _OPEN_HOSTS)),
            forward=not self._forward.isdisjoint(addresses),
        )


class _Host(NamedTuple):
    provider: str | None
    listed: bool
    ignored: bool
    certain: bool
    forward: bool


def _endpoint(path: str, provider: str | None, *, anyone: bool) -> tuple[Endpoint | None, str | None]:
    """The end point whose path it is: of ``provider``'s own, or of one that the path names; else of all, else, if ``anyone`` may be meant, anyone's."""
    matching = [(endpoint, match) for endpoint in ENDPOINTS if (match := endpoint.pattern.search(path))]
    own = (found for found in matching if provider in found[0].only or (provider is None and _is_named(found[0], path)))
    common = (found for found in matching if not found[0].only)
    for endpoint, match in chain(own, common, matching if anyone else ()):
        return endpoint, text(match.groupdict().get("model")) or _deployment(path)
    return None, None


def _is_named(endpoint: Endpoint, path: str) -> bool:
    """Whether a gateway's path names the provider on whose hosts alone the rest of it has a meaning: ``/ollama/api/chat``."""
    segments = path.split("/")
    return any(name in segments or name.removesuffix("_ai") in segments for name in endpoint.only)


def _deployment(path: str) -> str | None:
    match = _DEPLOYMENT.search(path)
    return text(match.group(1)) if match else None


def _suffixes(host: str) -> Iterable[str]:
    labels = host.split(".")
    suffixes = [".".join(labels[start:]) for start in range(len(labels))]
    # Vertex AI has its region before a dash or in the middle: europe-west1-aiplatform.googleapis.com,
    # aiplatform.eu.rep.googleapis.com. On AWS it stands in the middle.
    vertex = ["aiplatform.googleapis.com"] if re.search(r"(^|-)aiplatform\..*\bgoogleapis\.com$", host) else []
    aws = re.match(r"(bedrock-runtime|aws-external-anthropic)[.-].*(\.amazonaws\.com|\.api\.aws)$", host)
    return [*([aws.group(1)] if aws else []), *suffixes, *vertex]


def _provider(provider: str, path: str) -> str:
    """Azure AI Foundry serves OpenAI's own deployments beside others on one host; Cloudflare's gateway names whom it asks."""
    if provider == "azure.ai.inference":
        return "azure.ai.openai" if "/openai/" in path else provider
    behind = _BEHIND_GATEWAY.match(path) if provider == "cloudflare" else None
    return _BEHIND.get(behind.group(1), provider) if behind else provider


_BEHIND_GATEWAY = re.compile(r"/v1/[^/]+/[^/]+/([a-z-]+)/")
_BEHIND = {
    "openai": "openai", "azure-openai": "azure.ai.openai", "anthropic": "anthropic", "google-ai-studio": "gcp.gemini",
    "google-vertex-ai": "gcp.vertex_ai", "aws-bedrock": "aws.bedrock", "groq": "groq", "mistral": "mistral_ai",
    "cohere": "cohere", "perplexity-ai": "perplexity", "deepseek": "deepseek", "grok": "x_ai", "cerebras": "cerebras",
    "openrouter": "openrouter", "huggingface": "huggingface", "replicate": "replicate",
}  # fmt: skip


K = TypeVar("K")
V = TypeVar("V")


def _remember(known: dict[K, V], key: K, value: V) -> V:
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = value
    return value


_Key = tuple[str, int | None, bytes]


def _key(url: Any) -> _Key:
    return url.host, url.port, url.raw_path.partition(b"?")[0]


def _port(url: Any) -> int:
    return url.port or (443 if url.scheme == "https" else 80)
