"""What every wire format is made of: an :class:`Endpoint`, and the values that it reads.

A format is a module that ends in a tuple ``ENDPOINTS``. Its functions do no I/O, take bytes that any server or
client may have made up, and never trust a type: a usage that is a text, a negative number or beyond 64 bits is as
good as absent, and takes no other field with it.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar, get_args

import msgspec

from otel_sessions.base import names
from otel_sessions.base.attributes import Plain

MAX_TEXT = 256
"""Longest model name, response id or error type that is recorded, in characters."""
NOTHING = msgspec.Raw(b"")
_MAX_TOKENS = 2**63 - 1

Parameters = Mapping[str, str | int | float | bool]
Message = dict[str, Any]
S = TypeVar("S", bound=msgspec.Struct)


class Call(msgspec.Struct, frozen=True):
    """What a request asks for.

    ``fits`` says whether the body has the keys of its format, which tells an LLM call from any other request on a
    host that is not known. ``lacks_usage`` is a stream that will carry no usage unless the request asks for it.
    """

    model: str | None = None
    stream: bool = False
    fits: bool = False
    lacks_usage: bool = False
    operation: str | None = None
    """Where one path serves several operations, and only the body tells which."""
    parameters: Parameters = msgspec.field(default_factory=dict)


_USAGE_NAMES: Mapping[str, str] = {
    "input": names.INPUT_TOKENS,
    "output": names.OUTPUT_TOKENS,
    "cache_read": names.CACHE_READ_TOKENS,
    "cache_write": names.CACHE_CREATION_TOKENS,
    "cache_write_1h": names.CACHE_CREATION_1H_TOKENS,
    "reasoning": names.REASONING_TOKENS,
    "audio_input": names.AUDIO_INPUT_TOKENS,
    "audio_output": names.AUDIO_OUTPUT_TOKENS,
    "image_input": names.IMAGE_INPUT_TOKENS,
    "image_output": names.IMAGE_OUTPUT_TOKENS,
    "video_input": names.VIDEO_INPUT_TOKENS,
    "video_output": names.VIDEO_OUTPUT_TOKENS,
    "cached_audio": names.CACHED_AUDIO_TOKENS,
    "cached_image": names.CACHED_IMAGE_TOKENS,
    "web_searches": names.WEB_SEARCHES,
    "service_tier": names.RESPONSE_SERVICE_TIER,
    "speed": names.RESPONSE_SPEED,
    "region": names.RESPONSE_REGION,
    "cost": names.COST,
}


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, rename=_USAGE_NAMES):
    """Tokens of one exchange. ``input`` includes cache reads and writes, ``output`` includes reasoning.

    ``None`` is unknown, never 0. ``cache_write_1h`` is the part of ``cache_write`` that is kept for an hour, the
    modalities are parts of ``input``, ``output`` and ``cache_read``.
    """

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    image_input: int | None = None
    image_output: int | None = None
    video_input: int | None = None
    video_output: int | None = None
    cached_audio: int | None = None
    cached_image: int | None = None
    web_searches: int | None = None
    """Searches that the provider made and bills one by one."""
    service_tier: str | None = None
    speed: str | None = None
    region: str | None = None
    cost: float | None = None
    """USD, where the response itself says so."""

    def attributes(self) -> dict[str, Plain]:
        """The span attributes. A modality of 0 tokens is left out: nearly every call says so, and each costs 1 µs."""
        found: dict[str, Plain] = msgspec.to_builtins(self)
        return {name: value for name, value in found.items() if value or name not in _MODALITIES}


_MODALITIES = frozenset(
    name for key, name in _USAGE_NAMES.items() if key.startswith(("audio", "image", "video", "cached_"))
)


class Answer(msgspec.Struct):
    """What the parts of a response said so far. A part is a whole JSON document or one event of a stream."""

    model: str | None = None
    id: str | None = None
    service_tier: str | None = None
    error_type: str | None = None
    web_searches: int | None = None
    """Searches that show in the answer itself, where usage does not count them."""
    cost: float | None = None
    """USD, where a gateway says so beside the answer."""
    finish_reasons: dict[Any, str] = msgspec.field(default_factory=dict)
    usages: list[bytes] = msgspec.field(default_factory=list)
    """The usage objects that count, JSON text: the last one, or those that must be merged."""
    spare: list[bytes] = msgspec.field(default_factory=list)
    """A usage object that counts if there is no other."""
    begun: bytes | None = None
    """The usage object that a stream began with: a guess, until what follows completes it."""

    def name(self, model: object, response_id: object, service_tier: object = None) -> None:
        """Take model and id of a part, of which the first that is not empty stands, and service tier: the last."""
        # Without :func:`text`, as below: this runs for every call, and functions are what it costs.
        if self.model is None and isinstance(model, str) and model:
            self.model = model[:MAX_TEXT]
        if self.id is None and isinstance(response_id, str) and response_id:
            self.id = response_id[:MAX_TEXT]
        if isinstance(service_tier, str) and service_tier:
            self.service_tier = service_tier[:MAX_TEXT]

    def finish(self, index: object, reason: object) -> None:
        """Take the finish reason of one choice; the last stands."""
        if isinstance(reason, str) and reason:
            self.finish_reasons[index if isinstance(index, int) else 0] = reason[:MAX_TEXT]

    def use(self, usage: msgspec.Raw, *, merge: bool = False) -> None:
        """Take a usage object: it replaces what was there, or is merged into it field by field. An empty one says nothing."""
        raw = bytes(usage)
        if not raw.startswith(b"{") or raw == b"{}":
            return
        if not merge:
            self.usages.clear()
        self.usages.append(raw)

    def begin(self, usage: msgspec.Raw) -> None:
        """Take the usage object that a stream begins with, which counts from :meth:`settle` on."""
        raw = bytes(usage)
        if raw.startswith(b"{"):
            self.begun = raw

    def settle(self) -> None:
        """If the stream has said more of its usage, or how it ends, what it began with counts too."""
        if self.begun is not None and (self.usages or self.finish_reasons):
            self.usages.insert(0, self.begun)
            self.begun = None

    def use_unless_stated(self, usage: msgspec.Raw) -> None:
        """Take a usage object from beside the answer, for answers that state none."""
        raw = bytes(usage)
        if raw.startswith(b"{") and raw != b"{}":
            self.spare = [raw]

    def use_counts(self, counts: Mapping[str, object], *, merge: bool = False) -> None:
        """Take usage that stands among other fields: the ``counts`` that are numbers of tokens, by their own names."""
        usable = {name: value for name, value in counts.items() if tokens(value) is not None}
        if usable:
            self.use(msgspec.Raw(msgspec.json.encode(usable)), merge=merge)

    def fail(self, *candidates: object) -> None:
        """Take the first usable text or number as the error's type."""
        found = (str(item) if isinstance(item, int) else text(item) for item in candidates)
        self.error_type = self.error_type or next(filter(None, found), "error")


@dataclass(frozen=True, slots=True)
class Conversation:
    """Content of a request in the shape of the GenAI conventions: ``[{"role", "parts": [{"type", …}]}]``."""

    messages: Sequence[Message] = ()
    system: Sequence[Message] = ()


def _no_content(_body: Any) -> Conversation:
    return Conversation()


def _no_output(_parts: Sequence[Any]) -> Sequence[Message]:
    return ()


def no_usage(_raw: Mapping[str, Any]) -> Usage:
    """For answers that state none."""
    return Usage()


def no_form(_fields: Mapping[str, str]) -> Call:
    """For end points that take no multipart form."""
    return Call()


def nothing_usual(_raw: bytes) -> None:
    """For end points none of whose usage objects is read on a shorter way."""


def gateway_headers(headers: Mapping[str, str], answer: Answer) -> None:
    """The cost that a LiteLLM proxy states in a header; 0 is what it says of models whose price it does not know."""
    if "x-litellm-response-cost" not in headers:
        return
    with contextlib.suppress(ValueError):
        cost = float(headers["x-litellm-response-cost"])
        answer.cost = cost if 0 < cost < math.inf else None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end point of a wire format.

    ``path`` is a pattern that the end of the URL's path matches, but for a slash at its end; its group ``model``, if any, is the model's name.
    ``provider`` is what is said of hosts that are not known. ``only`` names the providers on whose hosts alone the
    path has this meaning, where others use it too. ``call`` reads a request's body, ``form`` the text fields of a
    multipart form. ``telling`` is found in every event of a stream that says more than a piece of text; the others are
    not read once model and id are known. ``read`` takes one part of a response, ``headers`` its headers; ``usage`` converts a decoded usage
    object, ``usual`` the JSON text of one that has the shape of nearly all, straight into attributes; ``sent`` and ``received`` give the content of a decoded request and of the decoded parts of a response.
    """

    operation: str
    provider: str
    path: str
    call: Callable[[bytes], Call]
    read: Callable[[bytes, Answer], None]
    usage: Callable[[Mapping[str, Any]], Usage]
    usual: Callable[[bytes], Mapping[str, int] | None] = nothing_usual
    streams: bool = False
    telling: re.Pattern[bytes] | None = None
    only: tuple[str, ...] = ()
    form: Callable[[Mapping[str, str]], Call] = no_form
    headers: Callable[[Mapping[str, str], Answer], None] = gateway_headers
    sent: Callable[[Any], Conversation] = _no_content
    received: Callable[[Sequence[Any]], Sequence[Message]] = _no_output
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", re.compile(f"{self.path}/?$"))

    def tells(self, event: bytes) -> bool:
        """Whether an event of a stream may say more than a piece of text."""
        return self.telling is None or self.telling.search(event) is not None


def text(value: object) -> str | None:
    """``value`` if it is a text with something in it, cut to :data:`MAX_TEXT`."""
    return value[:MAX_TEXT] if isinstance(value, str) and value else None


def tokens(value: object) -> int | None:
    """``value`` if it can be a number of tokens: whole, not negative, within 64 bits."""
    if type(value) is float and value.is_integer():
        value = int(value)
    # ``type`` and not ``isinstance``: true is no number, and this runs for every count of every call.
    return value if type(value) is int and 0 <= value <= _MAX_TOKENS else None


def number(value: object) -> int | float | None:
    """``value`` if it is a finite number that a span attribute can hold."""
    # By ``type``: true is no number. NaN is within no limits.
    return value if (type(value) is float or type(value) is int) and -_MAX_TOKENS <= value <= _MAX_TOKENS else None


def mapping(value: object) -> Mapping[str, Any]:
    """``value`` if it is a decoded object, else an empty one."""
    return value if isinstance(value, dict) else {}  # 20 times cheaper than asking for a Mapping


def part_of(value: object, key: str) -> Mapping[str, Any]:
    """The object under ``key`` of the object ``value``; empty where either is something else."""
    return mapping(mapping(value).get(key))


def objects(value: object) -> list[Mapping[str, Any]]:
    """The objects in the list ``value``."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def total(*counts: int | None) -> int | None:
    """Sum of the counts that are known; ``None`` if none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def parameters(
    *, max_tokens: object = None, temperature: object = None, top_p: object = None, service_tier: object = None
) -> Parameters:
    """Request parameters as span attributes; what has no usable value is left out."""
    found: dict[str, str | int | float | bool] = {}
    if max_tokens is not None and (usable := number(max_tokens)) is not None:
        found[names.REQUEST_MAX_TOKENS] = usable
    if temperature is not None and (usable := number(temperature)) is not None:
        found[names.REQUEST_TEMPERATURE] = usable
    if top_p is not None and (usable := number(top_p)) is not None:
        found[names.REQUEST_TOP_P] = usable
    if service_tier is not None and (tier := text(service_tier)) is not None:
        found[names.REQUEST_SERVICE_TIER] = tier
    return found


@lru_cache(maxsize=64)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode(kind: type[S], data: bytes | msgspec.Raw) -> S | None:
    """The fields of ``kind`` in the JSON object ``data``; ``None`` if it is no object, or no JSON.

    What ``kind`` does not name is skipped without building it. A field of the wrong type is as good as absent.
    """
    try:
        found: S = _decoder(kind).decode(data)
    except msgspec.ValidationError:
        return _salvage(kind, data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        repaired = _repair(bytes(data))
        return None if repaired is None else _salvage(kind, repaired)
    except RecursionError:
        return _salvage(kind, shallow(bytes(data)))
    return found


def _salvage(kind: type[S], data: bytes | msgspec.Raw) -> S | None:
    try:
        raws = _decoder(dict[str, msgspec.Raw]).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    except RecursionError:
        raws = _decoder(dict[str, msgspec.Raw]).decode(shallow(bytes(data)))
    values = {}
    for known in msgspec.structs.fields(kind):
        if known.encode_name in raws:
            values[known.name] = _field(known.type, raws[known.encode_name])
    return kind(**{name: value for name, value in values.items() if value is not None})


def _field(kind: Any, raw: msgspec.Raw) -> Any:
    try:
        return _decoder(kind).decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        nested = next(
            (arg for arg in get_args(kind) if isinstance(arg, type) and issubclass(arg, msgspec.Struct)), None
        )
        return None if nested is None else _salvage(nested, raw)


def shallow(data: bytes) -> bytes:
    """The JSON text ``data`` with ``null`` for what is nested deeper than :data:`_DEEPEST`, which no parser follows.

    What is wanted of an answer stands a few levels deep, whatever else it carries.
    """
    kept, depth, start = [], 0, 0
    for match in _STRUCTURE.finditer(data):
        if data[match.start()] in b"[{":
            depth += 1
            if depth == _DEEPEST + 1:
                kept += [data[start : match.start()], b"null"]
        elif data[match.start()] in b"]}":
            if depth == _DEEPEST + 1:
                start = match.end()
            depth -= 1
    return b"".join([*kept, data[start:]]) if depth <= _DEEPEST else b"".join(kept)


_DEEPEST = 50
_STRUCTURE = re.compile(rb'[\[{\]}]|"[^"\\]*(?:\\.?[^"\\]*)*(?:"|\Z)', re.DOTALL)


def _repair(data: bytes) -> bytes | None:
    """``data`` as strict JSON, if the standard library reads it: it is laxer (BOM, UTF-16, NaN, lone surrogates)."""
    try:
        found = json.loads(_text_of(data), parse_constant=lambda _: None, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")


def _text_of(data: bytes) -> str:
    return data.decode(json.detect_encoding(data), "replace")


def _finite(literal: str) -> float | None:
    value = float(literal)
    return value if math.isfinite(value) else None


def plain(data: bytes) -> Any:
    """``data`` decoded in full, for content; ``None`` if it is no JSON."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        repaired = _repair(data)
        return None if repaired is None else msgspec.json.decode(repaired)
    except RecursionError:
        return plain(shallow(data))


def starts(raw: msgspec.Raw, *openings: bytes) -> bool:
    """Whether the raw JSON value begins with one of ``openings``: ``[`` for a list, ``"`` for a text."""
    return raw is not NOTHING and memoryview(raw)[0] in b"".join(openings)
