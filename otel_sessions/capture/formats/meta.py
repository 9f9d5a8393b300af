"""Meta's Llama API, whose chat has a format of its own under the path of OpenAI's, which Meta's other hosts speak.

Usage (https://llama.developer.meta.com/docs/api/chat): a list of ``metrics``, in a stream in one of its last events.
The model stands in the request alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from otel_sessions.capture.formats import openai
from otel_sessions.capture.formats.wire import Answer, Usage, decode, tokens


class _Metric(msgspec.Struct):
    metric: Any = None
    value: Any = None


class _Message(msgspec.Struct):
    stop_reason: Any = None


class _Event(_Message):
    metrics: list[_Metric] | None = None


class _Part(msgspec.Struct):
    completion_message: _Message | None = None
    metrics: list[_Metric] | None = None
    event: _Event | None = None


def read(data: bytes, answer: Answer) -> None:
    """A message with its metrics, one event of its stream, or what OpenAI's chat would answer."""
    openai.read_part(data, answer)
    part = decode(_Part, data)
    if part is None:
        return
    event = part.event or _Event()
    answer.finish(0, (part.completion_message or event).stop_reason)
    metrics = part.metrics or event.metrics or ()
    answer.use_counts({metric.metric: metric.value for metric in metrics if metric.metric in _COUNTS})


_COUNTS = ("num_prompt_tokens", "num_completion_tokens", "num_total_tokens")
"""A tuple, since the name of a metric may be anything, also what has no hash."""


def usage(raw: Mapping[str, Any]) -> Usage:
    """By the names that are there."""
    if "num_prompt_tokens" in raw or "num_completion_tokens" in raw:
        return Usage(input=tokens(raw.get("num_prompt_tokens")), output=tokens(raw.get("num_completion_tokens")))
    return openai.usage(raw)


_META = "meta"

ENDPOINTS = (replace(openai.CHAT, provider=_META, read=read, usage=usage, telling=None, only=(_META,)),)
