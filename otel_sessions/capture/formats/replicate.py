"""Replicate: creating a prediction is the call that is paid for; polling it is not.

Usage: token counts among the ``metrics``, if the model writes text and the request waited for its end
(https://replicate.com/docs/reference/http#predictions.create); else unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from otel_sessions.capture.formats.wire import NOTHING, Answer, Call, Endpoint, Usage, decode, starts, text, tokens

_REPLICATE = "replicate"


class _Request(msgspec.Struct):
    version: Any = None
    input: msgspec.Raw = NOTHING


class _Prediction(msgspec.Struct):
    id: Any = None
    model: Any = None
    status: Any = None
    metrics: msgspec.Raw = NOTHING
    error: Any = None


def call(body: bytes) -> Call:
    """Body of a request; the model stands in the path, or its version here."""
    found = decode(_Request, body)
    return Call() if found is None else Call(model=text(found.version), fits=starts(found.input, b"{"))


def read(data: bytes, answer: Answer) -> None:
    """The prediction, which has mostly only just begun."""
    prediction = decode(_Prediction, data)
    if prediction is None:
        return
    answer.name(prediction.model, prediction.id)
    answer.use(prediction.metrics)
    if prediction.status in ("succeeded", "failed", "canceled"):
        answer.finish(0, prediction.status)
    if prediction.error:
        answer.fail("failed")


def usage(raw: Mapping[str, Any]) -> Usage:
    """Tokens, where the model counts them."""
    return Usage(input=tokens(raw.get("input_token_count")), output=tokens(raw.get("output_token_count")))


_MODEL = "(?P<model>[^/]+/[^/]+)"

ENDPOINTS = (
    Endpoint(
        "generate_content", _REPLICATE, f"/v1/(?:(?:models|deployments)/{_MODEL}/)?predictions", call, read, usage,
        only=(_REPLICATE,),
    ),
)  # fmt: skip
