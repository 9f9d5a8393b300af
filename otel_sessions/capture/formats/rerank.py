"""Ranking of documents: Cohere, Voyage, Jina, NVIDIA, Alibaba Cloud, and servers that speak like them (vLLM, TEI, LiteLLM).

Usage: Cohere bills searches (``meta.billed_units.search_units``), which have no attribute and stay in the raw usage;
Voyage and Jina bill tokens (``usage.total_tokens``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from otel_sessions.capture.formats import cohere, openai
from otel_sessions.capture.formats.wire import NOTHING, Answer, Call, Endpoint, Usage, decode, mapping, starts, text


class _Request(msgspec.Struct):
    model: Any = None
    query: msgspec.Raw = NOTHING
    documents: msgspec.Raw = NOTHING
    texts: msgspec.Raw = NOTHING
    passages: msgspec.Raw = NOTHING


class _Ranking(msgspec.Struct):
    id: Any = None
    model: Any = None
    meta: msgspec.Raw = NOTHING
    usage: msgspec.Raw = NOTHING
    error: Any = None


def call(body: bytes) -> Call:
    """Body of a request: a query and what to rank."""
    found = decode(_Request, body)
    if found is None:
        return Call()
    ranked = any(starts(listed, b"[") for listed in (found.documents, found.texts, found.passages))
    return Call(model=text(found.model), fits=ranked and starts(found.query, b'"', b"{"))


def read(data: bytes, answer: Answer) -> None:
    """A list of scores and what it cost."""
    ranking = decode(_Ranking, data)
    if ranking is None:
        return
    answer.name(ranking.model, ranking.id)
    answer.use(ranking.meta)
    answer.use(ranking.usage)
    if ranking.error:
        answer.fail(mapping(ranking.error).get("type"))


def usage(raw: Mapping[str, Any]) -> Usage:
    """Tokens, where they are what is counted."""
    return cohere.usage(raw) if "billed_units" in raw else openai.input_usage(raw)


ENDPOINTS = (Endpoint("rerank", "cohere", "/(?:rerank(?:ing|s)?|ranking)", call, read, usage),)
