"""Hostile response bodies against the readers: `python -m bench.fuzz sse|lines|eventstream [--seconds N]`.

Whatever the bytes, nothing may raise, and the parts may not depend on how the bytes were split; then every wire format
reads every part, and converts what usage it took. With atheris (coverage-guided) if it is installed, else by plain
mutation of the seeds.
"""

from __future__ import annotations

import argparse
import base64
import importlib
import json
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

from otel_sessions.capture.body import Body
from otel_sessions.capture.exchange import _merged
from otel_sessions.capture.formats import ENDPOINTS
from otel_sessions.capture.formats.wire import Answer, Endpoint

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 1}}
DOCUMENTS: tuple[Any, ...] = (
    {"id": "1", "model": "m", "choices": [{"index": 0, "finish_reason": "stop"}], "usage": USAGE},
    {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 1, "output_tokens": 1}}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
    {"type": "response.completed", "response": {"status": "completed", "usage": {"input_tokens": 1}}},
    {"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 2, "promptTokensDetails": [{}]}},
    {"metadata": {"usage": {"inputTokens": 1, "outputTokens": -2}}, "error": {"type": "x"}},
    {"results": [{"tokenCount": 1.5, "input_token_count": 2**70}], "prompt_eval_count": "7", "done_reason": "stop"},
    {"response": {"meta": {"billed_units": {"input_tokens": 1.0}}}, "finish_reason": "COMPLETE"},
    {"result": {"usage": USAGE}, "object": "error", "type": "x", "base_resp": {"status_code": 1004}},
    {"usage": {"output_tokens": 1, "iterations": [{"type": "fallback_message", "model": "m"}]}, "deep": None},
)
TEXTS = tuple(json.dumps(document).encode() for document in DOCUMENTS)


def message(headers: bytes, payload: bytes) -> bytes:
    """A message of an AWS event stream, with right checksums."""
    prelude = struct.pack(">II", len(headers) + len(payload) + 16, len(headers))
    whole = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return whole + struct.pack(">I", crc32(whole))


def header(name: bytes, value: bytes) -> bytes:
    """A header that is a text."""
    return bytes([len(name)]) + name + b"\7" + struct.pack(">H", len(value)) + value


def sse(data: bytes) -> bytes:
    """Input as it is, or as the data of events."""
    return data if data[:1] < b"\x80" else b"".join(b"data: " + part + b"\n\n" for part in data[1:].split(b"\xff"))


def lines(data: bytes) -> bytes:
    """Input after a first line that makes lines of the rest, or as it is."""
    return data if data[:1] < b"\x80" else b"{}\n" + data[1:].replace(b"\xff", b"\n")


def eventstream(data: bytes) -> bytes:
    """Input as it is, or as headers and payloads with right checksums: at random no checksum is ever right."""
    if data[:1] < b"\x40":
        return b"\0" + data
    parts = [part.partition(b"\xfe") for part in data[1:].split(b"\xff")]
    return b"".join(message(header(b":event-type", name) + name, payload or name) for name, _, payload in parts)


SHAPES: dict[str, Callable[[bytes], bytes]] = {"sse": sse, "lines": lines, "eventstream": eventstream}
SEEDS: dict[str, tuple[bytes, ...]] = {
    "sse": (b"\x80" + b"\xff".join(TEXTS), *(b"event: x\r\ndata: " + text + b"\r\n\r\n" for text in TEXTS)),
    "lines": (b"\x80" + b"\xff".join(TEXTS), b"\n".join(TEXTS), b"[" + b",".join(TEXTS) + b"]"),
    "eventstream": (
        b"\x80" + b"\xff".join(b"metadata\xfe" + text for text in TEXTS),
        b"\x80" + b"\xff".join(b'chunk\xfe{"bytes":"%s"}' % base64.b64encode(text) for text in TEXTS),
        message(header(b":event-type", b"metadata"), TEXTS[5])[1:],
    ),
}


def parts_of(*pieces: bytes) -> list[bytes]:
    """The parts of a body that arrives in ``pieces``."""
    found: list[bytes] = []
    body = Body(found.append)
    for piece in pieces:
        body.add(piece)
    body.end()
    return found


def check(body: bytes) -> None:
    """Raise if a reader does, or if a split makes a difference."""
    whole = parts_of(body)
    middle = len(body) // 3
    if (
        parts_of(body[:middle], body[middle:]) != whole
        or parts_of(*(body[i : i + 1] for i in range(len(body)))) != whole
    ):
        raise AssertionError("the parts depend on the split")
    for endpoint in ENDPOINTS:
        answer = Answer()
        for part in whole:
            endpoint.read(part, answer)
        for usage in answer.usages:
            endpoint.usual(bytes(usage))
        endpoint.usage(_merged(answer.usages or answer.spare)[0])
        if endpoint.telling is not None:
            by_what_tells(endpoint, body)


def by_what_tells(endpoint: Endpoint, body: bytes) -> None:
    """Read ``body`` as a stream is read once model and id are known: only the events that say more."""
    answer = Answer()

    def read(part: bytes) -> bool:
        endpoint.read(part, answer)
        return answer.model is not None

    reader = Body(read, endpoint.telling)
    reader.add(body)
    reader.end()


def mutate(seeds: tuple[bytes, ...], chance: random.Random) -> bytes:
    """One of ``seeds`` with a few bytes changed, cut out or doubled."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randrange(1, 8)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(3):
            case 0:
                data[at : at + 1] = bytes(
                    [chance.choice(b'{}[]":,\n\r\0\xff\xfe0-e\\' + bytes([chance.randrange(256)]))]
                )
            case 1:
                del data[at : at + chance.randrange(20)]
            case _:
                data[at:at] = data[at : at + chance.randrange(40)]
    return bytes(data)


def main(arguments: list[str]) -> None:
    """Fuzz one reader for a while; an exception ends the process with its input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader", choices=sorted(SHAPES))
    parser.add_argument("--seconds", type=int, default=60)
    asked = parser.parse_args(arguments)
    shape = SHAPES[asked.reader]
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        print("atheris is not installed: mutating seeds without guidance")
        return plainly(shape, SEEDS[asked.reader], asked.seconds)
    corpus = Path(tempfile.mkdtemp(prefix="corpus-"))
    for number, seed in enumerate(SEEDS[asked.reader]):
        (corpus / str(number)).write_bytes(seed)
    check_shape = atheris.instrument_func(lambda data: check(shape(data)))
    for module in ("body", "eventstream", "formats.wire", "formats.openai", "formats.bedrock", "formats.cohere"):
        instrument(atheris, f"otel_sessions.capture.{module}")
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={asked.seconds}",
            "-max_len=4096",
            "-verbosity=0",
            "-print_final_stats=1",
            f"-artifact_prefix={tempfile.gettempdir()}/",
            str(corpus),
        ],
        check_shape,
    )
    atheris.Fuzz()
    return None


def instrument(atheris: Any, name: str) -> None:
    """Have ``atheris`` see the branches of the functions and methods of a module."""
    module = importlib.import_module(name)
    for holder in (module, *(item for item in vars(module).values() if isinstance(item, type))):
        if getattr(holder, "__module__", name) != name:
            continue
        for key, value in [*vars(holder).items()]:
            if type(value) is type(main) and value.__module__ == name:
                setattr(holder, key, atheris.instrument_func(value))


def plainly(shape: Callable[[bytes], bytes], seeds: tuple[bytes, ...], seconds: int) -> None:
    """Mutate ``seeds`` until the time is up."""
    chance, runs, until = random.Random(), 0, time.monotonic() + seconds
    while time.monotonic() < until:
        data = mutate(seeds, chance)
        try:
            check(shape(data))
        except Exception:
            print(f"failed on {data!r}")
            raise
        runs += 1
    print(f"{runs} inputs in {seconds} s, none failed")


if __name__ == "__main__":
    main(sys.argv[1:])
