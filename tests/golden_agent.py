"""A program for tests: real SDKs against the provider on loopback, traced by the instrumentations named; prints spans.

``golden_agent.py SCENARIO RUN...``: a run names the instrumentations that are active, joined by ``+``. Per run one line
of JSON: its name and its spans. Each exchange is made inside a span that alone knows the session (scenario and run) and
the path (the exchange's name), as a Collector would see it; with ``ours`` in it, inside a session and a step of ours.
Each run is a child of the process that has loaded the SDKs: not all instrumentations can be taken off again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

SCENARIO, *RUNS = sys.argv[1:]
os.environ["ANTHROPIC_OPEN_TELEMETRY"] = "false"
os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
os.environ.update(AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="k", AWS_DEFAULT_REGION="us-east-1")
os.environ.update(LANGSMITH_API_KEY="k", LANGSMITH_OTEL_ENABLED="true", LANGSMITH_OTEL_ONLY="true")
os.environ.update(SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS="true", GOOGLE_API_KEY="k")
os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="true", OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf")
os.environ.update(MLFLOW_USE_DEFAULT_TRACER_PROVIDER="false", LANGFUSE_TRACING_ENABLED="true")

from golden_scenarios import SCENARIOS  # noqa: E402
from loopback_provider import serving  # noqa: E402
from opentelemetry import trace  # noqa: E402
from opentelemetry.sdk.resources import Resource  # noqa: E402
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402

_OPENTELEMETRY = "opentelemetry.instrumentation"
INSTRUMENTORS: dict[str, dict[str, tuple[str, str]]] = {
    "openai": {
        "openinference": ("openinference.instrumentation.openai", "OpenAIInstrumentor"),
        "genai": (f"{_OPENTELEMETRY}.genai.openai", "OpenAIInstrumentor"),
        "traceloop": (f"{_OPENTELEMETRY}.openai", "OpenAIInstrumentor"),
    },
    "anthropic": {
        "openinference": ("openinference.instrumentation.anthropic", "AnthropicInstrumentor"),
        "genai": (f"{_OPENTELEMETRY}.genai.anthropic", "AnthropicInstrumentor"),
        "traceloop": (f"{_OPENTELEMETRY}.anthropic", "AnthropicInstrumentor"),
    },
    "google": {
        "openinference": ("openinference.instrumentation.google_genai", "GoogleGenAIInstrumentor"),
        "otel": (f"{_OPENTELEMETRY}.google_genai", "GoogleGenAiSdkInstrumentor"),
        "traceloop": (f"{_OPENTELEMETRY}.google_generativeai", "GoogleGenerativeAiInstrumentor"),
    },
    "mistral": {
        "openinference": ("openinference.instrumentation.mistralai", "MistralAIInstrumentor"),
        "traceloop": (f"{_OPENTELEMETRY}.mistralai", "MistralAiInstrumentor"),
    },
    "groq": {
        "openinference": ("openinference.instrumentation.groq", "GroqInstrumentor"),
        "traceloop": (f"{_OPENTELEMETRY}.groq", "GroqInstrumentor"),
    },
    "bedrock": {
        "openinference": ("openinference.instrumentation.bedrock", "BedrockInstrumentor"),
        "genai": (f"{_OPENTELEMETRY}.genai.bedrock", "BedrockInstrumentor"),
        "botocore": (f"{_OPENTELEMETRY}.botocore", "BotocoreInstrumentor"),
        "traceloop": (f"{_OPENTELEMETRY}.bedrock", "BedrockInstrumentor"),
    },
    "langchain": {
        "openinference": ("openinference.instrumentation.langchain", "LangChainInstrumentor"),
        "traceloop": (f"{_OPENTELEMETRY}.langchain", "LangchainInstrumentor"),
    },
}
for _framework in ("langchain", "langfuse", "pydantic-ai"):
    _openai = {f"openai-{name}": INSTRUMENTORS["openai"][name] for name in ("openinference", "genai", "traceloop")}
    INSTRUMENTORS.setdefault(_framework, {}).update(_openai)
INSTRUMENTORS["anthropic-bedrock"] = INSTRUMENTORS["anthropic"]


def _instrument(name: str, provider: TracerProvider, url: str) -> None:
    """Switch on one instrumentation."""
    found = INSTRUMENTORS.get(SCENARIO, {}).get(name)
    if found is None:
        _SPECIAL[name](provider, url)
    else:
        instrumentor = getattr(import_module(found[0]), found[1])()
        instrumentor.instrument(tracer_provider=provider, skip_dep_check=True)


def _ours(provider: TracerProvider, url: str) -> None:
    from otel_sessions import capture
    from otel_sessions.base.settings import load

    settings = load({"llm_hosts": (f"{url.removeprefix('http://')}={SCENARIOS[SCENARIO][1]}",)}, {})
    capture.instrument(provider, settings=settings)


def _sdk(provider: TracerProvider, url: str) -> None:
    os.environ.update(ANTHROPIC_OPEN_TELEMETRY="true", MISTRAL_SDK_TELEMETRY="global")


def _logfire(provider: TracerProvider, url: str) -> None:
    logfire: Any = import_module("logfire")
    getattr(logfire, f"instrument_{SCENARIO.replace('-', '_')}")()


def _langfuse(provider: TracerProvider, url: str) -> None:
    import_module("langfuse").Langfuse(public_key="pk", secret_key="sk", base_url=url, tracer_provider=provider)


def _pydantic_ai(provider: TracerProvider, url: str) -> None:
    agents: Any = import_module("pydantic_ai")
    agents.Agent.instrument_all(agents.InstrumentationSettings(tracer_provider=provider))


def _mlflow(provider: TracerProvider, url: str) -> None:
    import_module("mlflow").start_span("warm").__enter__()  # the first one waits for its database, and is lost
    import_module(f"mlflow.{SCENARIO}").autolog()


def _agentops(provider: TracerProvider, url: str) -> None:
    import_module("openai")
    sdk = import_module("agentops")
    sdk.init(api_key="k", endpoint=url, exporter_endpoint=f"{url}/v1/traces", auto_start_session=False)
    import_module("agentops.sdk.core").tracer.provider.add_span_processor(provider._active_span_processor)


def _openlit(provider: TracerProvider, url: str) -> None:
    import_module("openlit").init(otlp_endpoint=url, disable_metrics=True, disable_events=True)


def _litellm(provider: TracerProvider, url: str) -> None:
    os.environ["USE_OTEL_LITELLM_REQUEST_SPAN"] = "true"
    litellm: Any = import_module("litellm")
    litellm.callbacks = ["otel"]


def _strands(provider: TracerProvider, url: str) -> None:
    pass  # it writes spans whenever a provider is set, as semantic-kernel and ADK do


def _openai_agents(provider: TracerProvider, url: str) -> None:
    import_module("openinference.instrumentation.openai_agents").OpenAIAgentsInstrumentor().instrument(
        tracer_provider=provider
    )


def _lmnr(provider: TracerProvider, url: str) -> None:
    tracing: Any = import_module("lmnr.opentelemetry_lib.tracing")
    tracing._tracer_provider = provider
    port = int(url.rpartition(":")[2])
    import_module("lmnr").Laminar.initialize(
        project_api_key="k", base_url="http://127.0.0.1", http_port=port, grpc_port=port, force_http=True
    )


def _langsmith(provider: TracerProvider, url: str) -> None:
    os.environ.update(LANGSMITH_ENDPOINT=url, LANGSMITH_TRACING="true")


_SPECIAL: dict[str, Callable[[TracerProvider, str], None]] = {
    "ours": _ours, "sdk": _sdk, "logfire": _logfire, "langfuse": _langfuse, "native": _pydantic_ai, "mlflow": _mlflow,
    "langsmith": _langsmith, "agentops": _agentops, "openlit": _openlit, "litellm": _litellm, "itself": _strands,
    "agents": _openai_agents, "lmnr": _lmnr,
}  # fmt: skip


@contextmanager
def _placed(run: str, exchange: str) -> Iterator[None]:
    session = f"{SCENARIO}/{run}"
    if "ours" in run.split("+"):
        import otel_sessions

        with otel_sessions.session(session), otel_sessions.step(exchange):
            yield
        return
    place = {"session.id": session, "session.path": f"/{exchange}"}
    with trace.get_tracer("agent").start_as_current_span("step", attributes=place):
        yield


def _literal(span: ReadableSpan) -> dict[str, Any]:
    context: Any = span.context
    return {
        "trace": f"{context.trace_id:032x}", "id": f"{context.span_id:016x}",
        "parent": f"{span.parent.span_id:016x}" if span.parent else "",
        "scope": span.instrumentation_scope.name if span.instrumentation_scope else "",
        "name": span.name, "kind": span.kind.name, "start": span.start_time, "end": span.end_time,
        "status": span.status.status_code.name, "attributes": dict(span.attributes or {}),
        "events": [[event.name, event.timestamp, dict(event.attributes or {})] for event in span.events],
    }  # fmt: skip


def _provider(active: list[str]) -> tuple[TracerProvider, InMemorySpanExporter]:
    memory = InMemorySpanExporter()
    processors: list[Any] = [SimpleSpanProcessor(memory)]
    if "ours" in active:
        import otel_sessions

        processors.insert(0, otel_sessions.SessionSpanProcessor())
    if "logfire" in active:
        logfire: Any = import_module("logfire")
        logfire.configure(
            send_to_logfire=False, console=False, inspect_arguments=False, scrubbing=False,
            additional_span_processors=processors,
        )  # fmt: skip
        return trace.get_tracer_provider().provider, memory  # type: ignore[attr-defined]
    provider = TracerProvider(resource=Resource({"service.name": "agent"}))
    for processor in processors:
        provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    return provider, memory


def _run(run: str) -> None:
    active = run.split("+")
    provider, memory = _provider(active)
    with serving() as url:
        for name in active:
            _instrument(name, provider, url)
        for name, make in SCENARIOS[SCENARIO][0](url):
            # The SDKs' own errors; those that nobody expected are missed by the test.
            with _placed(run, name), suppress(Exception):
                make()
        if "langsmith" in active:
            import_module("langchain_core.tracers.langchain").wait_for_all_tracers()
    spans = [_literal(span) for span in memory.get_finished_spans()]
    sys.stdout.write(json.dumps({"run": f"{SCENARIO}/{run}", "spans": spans}, default=str) + "\n")
    sys.stdout.flush()


def main() -> None:
    for name in {name for run in RUNS for name in run.split("+")} & INSTRUMENTORS.get(SCENARIO, {}).keys():
        import_module(INSTRUMENTORS[SCENARIO][name][0])
    for _ in SCENARIOS[SCENARIO][0]("http://127.0.0.1"):  # loads the SDKs
        pass
    for run in RUNS:
        child = os.fork()
        if not child:
            _run(run)
            os._exit(0)  # exporters of other products wait for their servers
        os.waitpid(child, 0)


main()
