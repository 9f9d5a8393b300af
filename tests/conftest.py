"""What all tests share: in CI a skipped test fails the run, since CI has every optional part."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from memory_store import memory_store
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sessions import capture
from otel_sessions.base.settings import Settings
from otel_sessions.store import Store


@pytest.fixture(scope="session", autouse=True)
def spool_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """No test writes into the spool of the user who runs it."""
    folder = str(tmp_path_factory.mktemp("spool"))
    os.environ["OTEL_SESSIONS_SPOOL_DIR"] = folder
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_width() -> None:
    """No test has the width of the terminal that the run was started in, which readline hands on."""
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)


@pytest.fixture
def provider() -> TracerProvider:
    """A tracer provider of the test's own."""
    return TracerProvider()


@pytest.fixture
def store() -> Iterator[Store]:
    """An empty store of the test's own."""
    with memory_store() as opened:
        yield opened


@pytest.fixture
def exporter(provider: TracerProvider) -> Iterator[InMemorySpanExporter]:
    """Instruments httpx and httpx2, and gives the spans of the test's LLM calls, in the order in which they ended."""
    memory = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    capture.instrument(provider, settings=Settings())
    yield memory
    capture.uninstrument()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    skipped = len(reporter.stats.get("skipped", []))
    if skipped and exitstatus == 0 and os.environ.get("OTEL_SESSIONS_CI"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line(f"{skipped} tests were skipped; in CI nothing may be missing", red=True)
