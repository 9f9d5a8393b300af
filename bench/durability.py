"""Nothing lost, nothing twice: `python -m bench.durability [outage|breaks|kills|cost|exporter|flood|soak ...]`.

A ClickHouse HTTP server over chDB in a process of its own, a proxy in front of it that can break connections, and hosts
in processes of their own that use the package as users do. Without a name: all but the soak, each with less time.

outage  the server away for --seconds under 500 calls/s: lost, doubled; before that the host's p99 call time in windows of
        10 s, with the server there and away in turns
breaks  --batches inserts over connections that break before, in the middle of and after the insert, at random
kills   kill -9 of a host at --rounds random moments: what had ended before the documented age, lost and doubled
cost    spans/s and CPU per span with and without the spool; time added on the calling thread
exporter spans/s through ClickHouseSpanExporter, 512 at a time
flood   a full queue and a full spool: the accounts, memory, the slowest span, garbage collections
soak    2,000 spans/s for --seconds: memory, threads, file descriptors
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from breaking_proxy import PASS, BreakingProxy, at_random, breaking
from clickhouse_server import Server, running
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_sessions.store import Store, open_store

AGE_SECONDS = 1.0
WINDOW_SECONDS = 10.0
WINDOWS = 10
SAMPLE_SECONDS = 15.0
ATTRIBUTES: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.usage.input_tokens": 10,
    "gen_ai.usage.output_tokens": 1,
    "gen_ai.response.finish_reasons": ("stop",),
    **{f"app.attribute.{number}": f"value {number}" for number in range(12)},
}


class Place:
    """A server, a proxy in front of it, a spool, and a database that is empty."""

    def __init__(self, server: Server, proxy: BreakingProxy, folder: Path) -> None:
        self.proxy = proxy
        self.folder = folder
        direct = server.dsn()
        self.dsn = direct.replace(str(server.port), str(proxy.port))
        self.store: Store = open_store(direct)
        self.store.migrate()

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return self.store.reader().query(query).rows

    def counts(self) -> dict[str, int]:
        """Rows and different spans in each place where a span could be lost or doubled."""
        [raw] = self.ask("SELECT count(), uniqExact(SpanId) FROM otel_traces WHERE SpanKind = 'Client'")
        [calls] = self.ask("SELECT count(), uniqExact(span_id) FROM llm_calls")
        [sums] = self.ask("SELECT sum(calls) FROM sessions")
        return {"otel_traces": raw[0], "llm_calls": calls[0], "sessions": sums[0] or 0, "different": raw[1]}

    def host(self, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bench.durability", "--host", *map(str, arguments)]
        environ = os.environ | {
            "OTEL_SESSIONS_STORE": self.dsn,
            "OTEL_SESSIONS_SPOOL_DIR": str(self.folder / "spool"),
            "OTEL_SESSIONS_BATCH_AGE_SECONDS": str(AGE_SECONDS),
        }
        return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


@contextmanager
def place() -> Iterator[Place]:
    with (
        tempfile.TemporaryDirectory() as name,
        running(Path(name) / "server") as server,
        breaking(server.port, lambda: PASS) as proxy,
    ):
        yield Place(server, proxy, Path(name))


def outage(seconds: float) -> bool:
    """One host: the server there and away in turns of ten seconds, for the host's p99, and then away for so long."""
    turns = [(WINDOW_SECONDS, number % 2 == 1) for number in range(1, 2 * WINDOWS + 1)]
    plan = [(WINDOW_SECONDS, False), *turns, (seconds, True), (WINDOW_SECONDS, False)]
    with place() as here:
        process = here.host("calls", 500, sum(length for length, _ in plan), "outage")
        assert process.stdout is not None
        started = float(process.stdout.readline())
        for length, away in plan:
            here.proxy.away = away
            started += length
            time.sleep(max(0.0, started - time.monotonic()))
        taken = last_line(process)
        counts = here.counts()
    p99 = {away: [one for one, (_, then) in zip(taken["p99_us"][1:], turns, strict=False) if then is away]
           for away in (False, True)}  # fmt: skip
    there, gone = (statistics.median(p99[away]) for away in (False, True))
    print(f"outage {seconds:.0f} s: {taken['calls']} calls, {counts}; at the end {taken['result']}")
    print(f"host's p99 call in {len(p99[False])} and {len(p99[True])} windows of {WINDOW_SECONDS:.0f} s in turns, medians: "
          f"{there:.0f} µs, the server away {gone:.0f} µs, ratio {gone / there:.2f}; {rounded(p99)}")  # fmt: skip
    return all(number == taken["calls"] for number in counts.values()) and gone <= 1.1 * there


def rounded(p99: dict[bool, list[float]]) -> str:
    there, away = ([round(one) for one in p99[is_away]] for is_away in (False, True))
    return f"there {there}, away {away}"


def breaks(batches: int) -> bool:
    """Short batches through a proxy that breaks half of all inserts."""
    import logging

    from otel_sessions.assembly import StoreSender, spool_of
    from otel_sessions.base import settings
    from otel_sessions.delivery import Delivery, Limits, sender

    logging.getLogger("otel_sessions").setLevel(logging.ERROR)
    sender._FIRST_RETRY_SECONDS, sender._LAST_RETRY_SECONDS = 0.005, 0.02
    with place() as here:
        here.proxy.choose = at_random(seed=1)
        wanted = settings.load({"store": here.dsn, "spool_dir": str(here.folder / "spool")})
        sending = StoreSender(open_store(here.dsn), wanted)
        delivery = Delivery(
            "proxy", sending.send, limits=Limits(10**6, 10, 60), encode=Store.encode, spool=spool_of(wanted)
        )
        make = maker(delivery)
        for number in range(10 * batches):
            make(str(number), f"s{number % 50}")
        result = delivery.flush(3600)
        delivery.shutdown()
        counts = here.counts()
        print(f"breaks: {batches} batches, {dict(here.proxy.seen)}; {result.delivered} spans delivered, {counts}")
        return result.delivered == 10 * batches and set(counts.values()) == {10 * batches}


def kills(rounds: int) -> bool:
    """Hosts that are killed while the store comes and goes; the one started last sends what they left."""
    ages: dict[str, float] = {}
    with place() as here:
        rng = random.Random(7)
        for number in range(rounds):
            here.proxy.away = rng.random() < 0.5
            process = here.host("spans", 500, 60, f"r{number}")
            mine = read_for(process, AGE_SECONDS + rng.uniform(0.2, 1.5))
            os.kill(process.pid, signal.SIGKILL)
            killed = time.monotonic()
            process.communicate()
            ages |= {name: killed - at for name, at in mine}
        here.proxy.away = False
        last_line(here.host("recover", 0, 600, "last"))
        rows = here.ask("SELECT SpanName, count() FROM otel_traces WHERE SpanKind = 'Client' GROUP BY SpanName")
        arrived = {str(name): int(spans) for name, spans in rows}
        counts = here.counts()
    lost = {name: age for name, age in ages.items() if name not in arrived}
    due = sum(age > AGE_SECONDS for age in ages.values())
    too_old = {name: age for name, age in lost.items() if age > AGE_SECONDS}
    doubled = sum(spans > 1 for spans in arrived.values())
    print(f"kills: {rounds} rounds, {len(ages)} spans, {due} older than {AGE_SECONDS} s at the kill: {len(too_old)} lost, in "
          f"{len({name.split('-')[0] for name in too_old})} rounds, {doubled} doubled; of the younger ones "
          f"{len(lost) - len(too_old)} lost; the oldest lost was {max(lost.values(), default=0):.2f} s old; {counts}")  # fmt: skip
    return not too_old and not doubled and counts["llm_calls"] == counts["sessions"] == counts["otel_traces"]


def cost(spans: int) -> bool:
    """The same spans with the spool and without, in turns; medians."""
    found: dict[str, list[dict[str, float]]] = {"off": [], "on": []}
    with place() as here:
        for _ in range(5):
            for spool, results in found.items():
                process = here.host(f"cost-{spool}", spans, 0, spool)
                results.append(last_line(process))
    medians = {
        spool: {name: statistics.median(one[name] for one in results) for name in results[0]}
        for spool, results in found.items()
    }
    for spool, one in medians.items():
        print(f"cost, spool {spool:3}: {one['per_second']:,.0f} spans/s, {one['cpu_us']:.1f} µs CPU per span beyond making "
              f"it, {one['calling_us']:.2f} µs in on_end")  # fmt: skip
    ratio = medians["on"]["cpu_us"] / medians["off"]["cpu_us"]
    print(f"CPU with spool / without: {ratio:.2f}")
    return ratio <= 1.5


def exporter(spans: int) -> bool:
    """ClickHouseSpanExporter behind the SDK's batch processor's 512 spans at a time: until safe, and until stored."""
    from bench.export import spans_of
    from otel_sessions import ClickHouseSpanExporter

    made = spans_of("calls", spans)
    with place() as here:
        os.environ["OTEL_SESSIONS_SPOOL_DIR"] = str(here.folder / "spool")
        exporting = ClickHouseSpanExporter(here.dsn)
        exporting.export(made[:512])
        exporting.force_flush()
        started = time.perf_counter()
        taken = [exporting.export(made[start : start + 512]) for start in range(512, spans, 512)]
        safe = time.perf_counter() - started
        arrived = exporting.force_flush(600_000)
        stored = time.perf_counter() - started
        exporting.shutdown()
        counts = here.counts()
    print(f"exporter: {spans - 512} spans, {(spans - 512) / safe:,.0f}/s until safe on disk, {(spans - 512) / stored:,.0f}/s "
          f"until stored; {counts}")  # fmt: skip
    return arrived and all(one is SpanExportResult.SUCCESS for one in taken) and set(counts.values()) == {spans}


def flood(seconds: float) -> bool:
    """No store, a small queue, a small spool, and as many spans as there is time for."""
    with place() as here:
        here.proxy.away = True
        found = last_line(here.host("flood", 0, seconds, "flood"))
    result = found["result"]
    total = result["delivered"] + result["pending"] + result["dropped"]
    print(f"flood: {found['made']} spans made, accounts {total}: {result}; memory grew {found['grown_mb']:.0f} MB, "
          f"slowest span {found['slowest_ms']:.1f} ms, longest garbage collection {found['collection_ms']:.1f} ms "
          f"(before the flood {found['collection_alone_ms']:.1f} ms)")  # fmt: skip
    return bool(total == found["made"]) and found["collection_ms"] < 1.5 * found["collection_alone_ms"]


def soak(seconds: float) -> bool:
    """2,000 spans/s; memory, threads and files every 15 s. The first third is warm-up: there memory may grow."""
    with place() as here:
        found = last_line(here.host("soak", 2000, seconds, "soak"))
        counts = here.counts()
    samples = found["samples"]
    for at, memory, threads, files in samples:
        print(f"soak {at:5.0f} s: {memory:6.1f} MB, {threads} threads, {files} file descriptors")
    rest = samples[len(samples) // 3 :]
    growth = slope([(at, memory) for at, memory, _, _ in rest])
    print(f"soak {seconds:.0f} s: {found['made']} spans, {counts}; after the first third memory grew "
          f"{growth * 60:.2f} MB per minute")  # fmt: skip
    steady = all(max(one[column] for one in rest) <= rest[0][column] + room for column, room in ((2, 0), (3, 2)))
    return steady and growth * 60 < 0.5 and counts["otel_traces"] == counts["different"] == found["made"]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How fast the second of each pair grows with the first, by least squares."""
    if len(points) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def maker(processor: Any) -> Callable[[str, str], None]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import SpanKind

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("bench")

    def make(name: str, session: str) -> None:
        attributes = {**ATTRIBUTES, "session.id": session, "session.path": "/a"}
        tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes).end()

    return make


def read_for(process: subprocess.Popen[str], seconds: float) -> list[tuple[str, float]]:
    """Names and times of the spans that a host says have ended, for so long from the first."""
    ended: list[tuple[str, float]] = []
    assert process.stdout is not None
    for line in process.stdout:
        name, at = line.split()
        ended.append((name, float(at)))
        if ended[-1][1] - ended[0][1] > seconds:
            break
    return ended


def last_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate()
    assert process.returncode == 0, output
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


class Host:
    """What runs in the processes that use the package. Prints one JSON line at its end."""

    def __init__(self, rate: float, seconds: float, name: str) -> None:
        import otel_sessions

        self.package = otel_sessions
        self.rate = rate
        self.seconds = seconds
        self.name = name

    def run(self, what: str) -> None:
        print(json.dumps(getattr(self, what.replace("-", "_"))()), flush=True)

    def ticks(self) -> Iterator[int]:
        """A number as often per second as the rate says; late ones follow at once."""
        started = time.perf_counter()
        for number in range(int(self.rate * self.seconds)):
            due = started + number / self.rate
            if (left := due - time.perf_counter()) > 0:
                time.sleep(left)
            yield number

    def calls(self) -> dict[str, Any]:
        """LLM calls over a transport that answers at once; the p99 of each window of ten seconds."""
        import httpx2

        usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}
        answer = {"id": "c", "object": "chat.completion", "model": "gpt-4o-2024-08-06", "choices": [], "usage": usage}
        self.package.configure()
        client = httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, json=answer)))
        times = []
        print(time.monotonic(), flush=True)
        with self.package.session(self.name):
            for _ in self.ticks():
                started = time.perf_counter()
                client.post("https://api.openai.com/v1/chat/completions", json={"model": "gpt-4o", "messages": []})
                times.append(time.perf_counter() - started)
        result = self.package.flush(120)
        size = int(self.rate * WINDOW_SECONDS)
        windows = [sorted(times[start : start + size]) for start in range(0, len(times), size)]
        p99 = [window[int(len(window) * 0.99)] * 1e6 for window in windows]
        return {"calls": len(times), "p99_us": p99, "result": str(result)}

    def spans(self) -> dict[str, Any]:
        """Spans, and a line for each as soon as it has ended."""
        make = self._tracer()
        for number in self.ticks():
            make(f"{self.name}-{number}", self.name)
            print(f"{self.name}-{number} {time.monotonic()}", flush=True)
        return {}

    def recover(self) -> dict[str, Any]:
        """Start, send what others left, end."""
        from otel_sessions.assembly import spool_of
        from otel_sessions.base import settings
        from otel_sessions.delivery import Spool

        self.package.configure()
        place = spool_of(settings.load())
        assert place is not None
        deadline = time.monotonic() + self.seconds
        while Spool(place).status().spans and time.monotonic() < deadline:
            time.sleep(0.1)
        return {"result": str(self.package.shutdown(30))}

    def cost_on(self) -> dict[str, Any]:
        """As fast as they are taken, in portions that the queue has room for."""
        return self._cost("on")

    def cost_off(self) -> dict[str, Any]:
        return self._cost("off")

    def _cost(self, spool: str) -> dict[str, Any]:
        spans = int(self.rate)
        making = self._making(spans)
        make = self._tracer(spool=spool)
        make("first", "cost")
        self.package.flush(60)
        cpu, started = time.process_time(), time.perf_counter()
        for number in range(spans):
            make("x", f"s{number % 100}")
            if number % 20_000 == 19_999:
                self.package.flush(60)
        result = self.package.flush(60)
        wall, cpu = time.perf_counter() - started, time.process_time() - cpu
        assert result.delivered == spans + 1, result
        return {
            "per_second": spans / wall,
            "cpu_us": (cpu - making) / spans * 1e6,
            "calling_us": self._calling(),
        }

    def _making(self, spans: int) -> float:
        """CPU seconds that making the spans takes without us."""
        from opentelemetry.sdk.trace import SpanProcessor

        make = maker(SpanProcessor())
        started = time.process_time()
        for number in range(spans):
            make("x", f"s{number % 100}")
        return time.process_time() - started

    def _calling(self) -> float:
        """Median µs of on_end itself."""
        from otel_sessions import assembly

        running = assembly._running
        assert running is not None
        delivery = running.deliveries[0]
        span = sampled_span()
        times = []
        for _ in range(2000):
            started = time.perf_counter_ns()
            delivery.on_end(span)
            times.append(time.perf_counter_ns() - started)
        return statistics.median(times) / 1000

    def flood(self) -> dict[str, Any]:
        make = self._tracer(queue_size=20_000, spool_max_bytes=5_000_000)
        make("first", "flood")
        self.package.flush(1)
        before, slowest, made = rss_mb(), 0.0, 1
        alone = max(collection() for _ in range(5))
        with collections() as times:
            deadline = time.perf_counter() + self.seconds
            while (now := time.perf_counter()) < deadline:
                make("x", f"s{made % 100}")
                slowest = max(slowest, time.perf_counter() - now)
                made += 1
            times.append(collection())
        result = self.package.shutdown(5)
        accounts = {name: getattr(result, name) for name in ("delivered", "pending", "pending_disk", "dropped")}
        return {
            "made": made, "result": accounts | {"reasons": dict(result.dropped_reasons)},
            "grown_mb": rss_mb() - before, "slowest_ms": slowest * 1000,
            "collection_ms": max(times) * 1000, "collection_alone_ms": alone * 1000,
        }  # fmt: skip

    def soak(self) -> dict[str, Any]:
        make = self._tracer()
        samples: list[tuple[float, float, int, int]] = []
        every = int(self.rate * SAMPLE_SECONDS)
        made = 0
        for number in self.ticks():
            make("x", f"s{number // 1000}")
            made += 1
            if made % every == 0:
                files = len([*Path("/proc/self/fd").iterdir()])
                samples.append((made / self.rate, rss_mb(), threading.active_count(), files))
        self.package.shutdown(60)
        return {"samples": samples, "made": made}

    def _tracer(self, **settings: Any) -> Callable[[str, str], None]:
        """Spans of the host's own, through all that configure() set up."""
        from opentelemetry import trace
        from opentelemetry.trace import SpanKind

        self.package.configure(**settings)
        tracer = trace.get_tracer("bench")

        def make(name: str, session: str) -> None:
            attributes = {**ATTRIBUTES, "session.id": session, "session.path": "/a"}
            tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes).end()

        return make


def collection() -> float:
    """CPU seconds of a full garbage collection now."""
    started = time.thread_time()
    gc.collect()
    return time.thread_time() - started


@contextmanager
def collections() -> Iterator[list[float]]:
    """CPU seconds of each garbage collection meanwhile, on whatever thread; the interpreter stands still so long."""
    times: list[float] = []
    started = [0.0]

    def observe(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            started[0] = time.thread_time()
        else:
            times.append(time.thread_time() - started[0])

    gc.callbacks.append(observe)
    yield times
    gc.callbacks.remove(observe)


def sampled_span() -> Any:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, TraceFlags

    context = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return ReadableSpan("x", context, attributes=ATTRIBUTES, start_time=1, end_time=2)


def rss_mb() -> float:
    """Memory of this process now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["outage", "breaks", "kills", "cost", "exporter", "flood"])
    parser.add_argument("--seconds", type=float, help="outage: 60, soak: 600, flood: 20 unless told otherwise")
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--spans", type=int, default=60_000)
    parser.add_argument("--host", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.host:
        what, rate, seconds, name = options.host
        Host(float(rate), float(seconds), name).run(what)
        return 0
    runs: dict[str, Callable[[], bool]] = {
        "outage": lambda: outage(options.seconds or 60),
        "breaks": lambda: breaks(options.batches),
        "kills": lambda: kills(options.rounds),
        "cost": lambda: cost(options.spans),
        "exporter": lambda: exporter(options.spans),
        "flood": lambda: flood(options.seconds or 20),
        "soak": lambda: soak(options.seconds or 600),
    }
    results = {name: runs[name]() for name in options.what}
    print("held:", ", ".join(f"{name} {'yes' if held else 'NO'}" for name, held in results.items()))
    return int(not all(results.values()))


if __name__ == "__main__":
    sys.exit(main())
