"""What instrumentation costs per call: `python -m bench.overhead [--rounds N]`.

The openai SDK over `MockTransport`: no network, one process per variant, which all live side by side and take turns, so
that every variant sees the same state of the machine. They are started anew several times: where a process happens to
have its code and data in memory is worth 10 µs per call. Spans go to a processor that drops them: only making them is
measured. Peers that are not installed are named and left out.

Per variant: the median time of a call, what that is above the plain SDK, and the same per chunk of a stream (slope
between a short and a long stream, so that what a stream costs once is not in it).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

OURS = "otel-sessions"
PEERS = {
    "openinference": "openinference-instrumentation-openai",
    "traceloop": "opentelemetry-instrumentation-openai",
    "logfire": "logfire",
    "langfuse": "langfuse",
}
VARIANTS = ("plain", OURS, "otel-sessions, no session", *PEERS)
CALLS, STREAMS, SHORT, LONG = 40, 3, 20, 420
STARTS, WARM_UP = 10, 2

TEXT = "The invoice of 3 March was paid twice; the second payment was returned on 9 March. " * 12
MESSAGES = [
    {"role": "system", "content": "You are the support agent of a shop. " * 20},
    *({"role": role, "content": TEXT[:400]} for role in ("user", "assistant", "user")),
]
USAGE = {
    "prompt_tokens": 612,
    "completion_tokens": 208,
    "total_tokens": 820,
    "prompt_tokens_details": {"cached_tokens": 512, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 0},
}
HEAD = {"id": "chatcmpl-9yXk2", "created": 1_760_000_000, "model": "gpt-4o-2024-08-06", "service_tier": "default"}
ANSWER = HEAD | {
    "object": "chat.completion",
    "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None,
                 "message": {"role": "assistant", "content": TEXT, "refusal": None}}],
    "usage": USAGE,
}  # fmt: skip


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    event = HEAD | {"object": "chat.completion.chunk", "choices": [choice], "usage": None} | more
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def stream_of(length: int) -> list[bytes]:
    """Events of a stream with ``length`` pieces of text, each in a chunk of its own."""
    words = [chunk({"content": " payment"}) for _ in range(length)]
    return [*words, chunk({}, "stop"), chunk({}, choices=[], usage=USAGE), b"data: [DONE]\n\n"]


class Worker:
    """One variant in a process of its own; measures a round when told to."""

    def __init__(self, variant: str) -> None:
        import httpx2

        self.streams = {length: stream_of(length) for length in (SHORT, LONG)}
        self.document = json.dumps(ANSWER).encode()
        self.length = 0
        self.around: Callable[[], AbstractContextManager[Any]] = nullcontext
        transport = httpx2.MockTransport(self.answer)
        self.client = self.instrumented(variant, httpx2.Client(transport=transport))

    def answer(self, _request: Any) -> Any:
        import httpx2

        if not self.length:
            return httpx2.Response(200, stream=body([self.document]), headers={"content-type": "application/json"})
        return httpx2.Response(
            200, stream=body(self.streams[self.length]), headers={"content-type": "text/event-stream"}
        )

    def instrumented(self, variant: str, http: Any) -> Any:
        """A client of the openai SDK, instrumented as the variant's documentation says."""
        import openai
        from opentelemetry.sdk.trace import TracerProvider

        options = {"api_key": "sk-none", "http_client": http, "max_retries": 0}
        provider = TracerProvider()
        provider.add_span_processor(dropping())
        if variant == "openinference":
            from openinference.instrumentation.openai import OpenAIInstrumentor

            OpenAIInstrumentor().instrument(tracer_provider=provider)
        elif variant == "traceloop":
            from opentelemetry.instrumentation.openai import OpenAIInstrumentor as Traceloop

            Traceloop().instrument(tracer_provider=provider)
        elif variant == "logfire":
            import logfire

            logfire.configure(
                send_to_logfire=False, console=False, additional_span_processors=[dropping()], metrics=False
            )
            client = openai.OpenAI(**options)
            logfire.instrument_openai(client)
            return client
        elif variant == "langfuse":
            from langfuse import Langfuse
            from langfuse.openai import OpenAI

            Langfuse(public_key="pk", secret_key="sk", base_url="http://127.0.0.1:9", span_exporter=exporting_nothing())
            return OpenAI(**options)
        elif variant != "plain":
            self.ours(provider, with_session=variant == OURS)
        return openai.OpenAI(**options)

    def ours(self, provider: Any, *, with_session: bool) -> None:
        from otel_sessions.capture import instrument
        from otel_sessions.processor import SessionSpanProcessor
        from otel_sessions.sessions import session

        provider.add_span_processor(SessionSpanProcessor(tracer_provider=provider))
        instrument(provider)
        if with_session:
            self.around = lambda: session("run-1", name="bench", path="/triage/classify", user_id="u-1")

    def call(self) -> None:
        self.client.chat.completions.create(model="gpt-4o", messages=MESSAGES, temperature=0.2)

    def stream(self) -> None:
        for _ in self.client.chat.completions.create(
            model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        ):
            pass

    def measure(self, length: int) -> float:
        """Median time of one call in µs."""
        self.length = length
        run, times = (self.stream, STREAMS) if length else (self.call, CALLS)
        taken = []
        with self.around():
            for _ in range(times):
                start = time.perf_counter_ns()
                run()
                taken.append(time.perf_counter_ns() - start)
        return statistics.median(taken) / 1000


def body(pieces: list[bytes]) -> Any:
    """A body in pieces, as a network transport would hand it over."""
    return _stream_class()(pieces)


@cache
def _stream_class() -> type:
    """One class for all bodies, as transports have it: a new one for each call would cost those who wrap it more."""
    import httpx2

    class Stream(httpx2.SyncByteStream):
        def __init__(self, pieces: list[bytes]) -> None:
            self.pieces = pieces

        def __iter__(self) -> Iterator[bytes]:
            return iter(self.pieces)

    return Stream


def dropping() -> Any:
    from opentelemetry.sdk.trace import SpanProcessor

    return SpanProcessor()


def exporting_nothing() -> Any:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Nothing(SpanExporter):
        def export(self, *_spans: Any) -> Any:
            return SpanExportResult.SUCCESS

    return Nothing()


def serve(variant: str) -> None:
    """Measure what stands on each line of standard input."""
    worker = Worker(variant)
    print("ready", flush=True)
    for line in sys.stdin:
        print(worker.measure(int(line)), flush=True)
    os._exit(0)  # peers flush at exit to where nothing listens


def installed(variant: str) -> bool:
    try:
        importlib.metadata.version(PEERS.get(variant, "openai"))
    except importlib.metadata.PackageNotFoundError:
        print(f"{variant}: {PEERS.get(variant, 'openai')} is not installed, left out")
        return False
    return True


class Process:
    def __init__(self, variant: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.overhead", "--worker", variant],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.ready = self.line() == "ready"

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def measure(self, length: int) -> float:
        assert self.process.stdin
        self.process.stdin.write(f"{length}\n")
        self.process.stdin.flush()
        return float(self.line())


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians in µs: of a call, of a chunk in a stream, and what each is above the plain SDK."""

    call: float
    call_added: float
    chunk: float
    chunk_added: float


def run(rounds: int) -> dict[str, Figures]:
    """The figures of every variant that is installed."""
    variants = [variant for variant in VARIANTS if installed(variant)]
    taken: dict[tuple[str, int], list[float]] = {}
    for _ in range(STARTS):
        processes = {variant: Process(variant) for variant in variants}
        for variant in [name for name, process in processes.items() if not process.ready]:
            print(f"{variant}: did not start, left out")
            variants.remove(variant)
            del processes[variant]
        take_turns(processes, -(-rounds // STARTS), taken)
        for process in processes.values():
            process.process.kill()
            process.process.wait()
    return {variant: figures(taken, variant) for variant in variants}


def take_turns(processes: dict[str, Process], rounds: int, taken: dict[tuple[str, int], list[float]]) -> None:
    """Add a time of every variant and length to ``taken`` in each round."""
    for number in range(-WARM_UP, rounds):
        for length in (0, SHORT, LONG):
            for variant, process in processes.items():
                found = process.measure(length)
                if number >= 0:
                    taken.setdefault((variant, length), []).append(found)


def figures(taken: dict[tuple[str, int], list[float]], variant: str) -> Figures:
    """Differences are taken within a round, where the machine was in the same state, and then their median."""

    def chunks(name: str) -> list[float]:
        return [
            (long - short) / (LONG - SHORT) for long, short in zip(taken[name, LONG], taken[name, SHORT], strict=True)
        ]

    def added(ours: list[float], plain: list[float]) -> float:
        return statistics.median(one - other for one, other in zip(ours, plain, strict=True))

    return Figures(
        call=statistics.median(taken[variant, 0]),
        call_added=added(taken[variant, 0], taken["plain", 0]),
        chunk=statistics.median(chunks(variant)),
        chunk_added=added(chunks(variant), chunks("plain")),
    )


def report(found: dict[str, Figures]) -> None:
    print(f"{'':28}{'call µs':>10}{'added':>10}{'chunk µs':>10}{'added':>10}")
    for variant, one in found.items():
        added = (f"{one.call_added:10.0f}", f"{one.chunk_added:10.2f}") if variant != "plain" else (" " * 10,) * 2
        print(f"{variant:28}{one.call:10.0f}{added[0]}{one.chunk:10.2f}{added[1]}")
    peers = [found[variant] for variant in PEERS if variant in found]
    if not peers:
        print("no peer is installed: no ratio")
        return
    for what, value in (("call", lambda one: one.call_added), ("chunk", lambda one: one.chunk_added)):
        ours, least = value(found[OURS]), min(map(value, peers))
        print(f"added per {what}: {ours:.2f} µs, the least of the peers {least:.2f} µs, ratio {ours / least:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(options.worker)
    else:
        report(run(options.rounds))


if __name__ == "__main__":
    main()
