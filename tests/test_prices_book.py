"""The price book: conditions become rows, and names are found under which they are called."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from genai_prices import data_snapshot

from otel_sessions.base.errors import OtelSessionsError
from otel_sessions.prices import book_version, fetch_book, rows_for
from otel_sessions.prices.costs import in_force, tariff

AUGUST = datetime(2026, 8, 1, tzinfo=UTC)
BOOK = [
    {
        "id": "openai",
        "name": "OpenAI",
        "api_pattern": "x",
        "models": [
            {"id": "gpt-9", "match": {"equals": "gpt-9"}, "prices": {"input_mtok": 3, "output_mtok": {"base": 4, "tiers": [{"start": 100, "price": 5}]}}}
        ],
    }
]  # fmt: skip


def figures(*values: object) -> str:
    """Prices as they are written in a list."""
    return " ".join(map(str, values))


def test_a_tier_is_a_row_of_its_own() -> None:
    """Above 200,000 input tokens the whole call has the higher price, cache included."""
    large, small = (row for row in rows_for("anthropic", "claude-sonnet-4-5") if row.service_tier == "")
    assert figures(small.tier_start, small.input, small.cached_input, small.output) == "0 3 0.3 15"
    assert figures(large.tier_start, large.input, large.cached_input, large.output) == "200000 6 0.6 22.5"
    tariffs = [tariff(row) for row in (large, small)]
    found = [in_force(tariffs, int(AUGUST.timestamp()), tokens) for tokens in (200_000, 200_001)]
    assert found == [tariff(small), tariff(large)]


def test_an_hour_of_the_day_is_a_row_of_its_own() -> None:
    """DeepSeek is dearer from 1:00 to 4:00 and from 6:00 to 10:00 UTC."""
    tariffs = [tariff(row) for row in rows_for("deepseek", "deepseek-v4-flash")]
    seconds = [int(datetime(2026, 10, 1, hour, tzinfo=UTC).timestamp()) for hour in (0, 1, 3, 4, 6, 9, 10, 23)]
    found = [in_force(tariffs, second, 1) for second in seconds]
    assert [each.weights["input"] / 10**18 for each in found if each] == [0.15, 0.3, 0.3, 0.15, 0.3, 0.3, 0.15, 0.15]


def test_a_kind_of_token_without_a_price_costs_what_the_general_kind_does() -> None:
    """Audio to a text model is input; the output of an embedding model is not billed."""
    [gpt] = rows_for("azure", "gpt-4o")
    assert figures(gpt.input, gpt.audio_input, gpt.cache_write, gpt.reasoning) == "2.5 2.5 2.5 10"
    [embedding] = rows_for("openai", "text-embedding-3-small")
    assert figures(embedding.input, embedding.output, embedding.reasoning) == "0.02 None None"


def test_no_two_service_tiers_are_the_same() -> None:
    """Only tiers that cost something else, and only days on which something changes, have rows."""
    rows = rows_for("openai", "gpt-5.4")
    anywhere = {"", "flex", "priority", "fast", "batch"}
    assert {row.service_tier for row in rows} == anywhere | {f"regional {tier}".rstrip() for tier in anywhere}
    assert [row.valid_from.year for row in rows if row.service_tier == ""] == [1970, 1970]


@pytest.mark.parametrize(
    ("provider", "model", "found"),
    [
        ("azure.ai.openai", "gpt-4o", "azure/gpt-4o"),
        ("az.ai.inference", "gpt-4o", "azure/gpt-4o"),
        ("gcp.gen_ai", "gemini-2.5-flash", "google/gemini-2.5-flash"),
        ("gcp.vertex_ai", "claude-sonnet-4-5", "google/claude-sonnet-4-5"),
        ("aws.bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "aws/regional.anthropic.claude-sonnet-4-5"),
        ("x_ai", "grok-4", "x-ai/grok-4"),
        ("openai.chat", "gpt-4o", "openai/gpt-4o"),
        ("groq.chat", "llama-3.3-70b-versatile", "groq/llama-3.3-70b-versatile"),
        ("OpenAI", "GPT-4o", "openai/gpt-4o"),
        ("mistral_ai", "mistral-large-latest", "mistral/mistral-large"),
    ],
)
def test_providers_are_found_under_the_names_in_use(provider: str, model: str, found: str) -> None:
    """OpenTelemetry's names, older ones, and those of the AI SDK."""
    rows = rows_for(provider, model)
    assert rows
    assert {(row.provider, row.model) for row in rows} == {(provider, model)}
    assert rows[-1].source.rpartition(" ")[2].startswith(found)


@pytest.mark.parametrize("model", ["whisper-1", "moderation", "no-such-model", "", "x" * 2**20])
def test_what_is_not_billed_by_tokens_has_no_rows(model: str) -> None:
    """Minutes of audio, nothing known, and names that are none."""
    assert rows_for("openai", model) == ()


def test_a_free_model_costs_nothing() -> None:
    """Where the name says so; a missing price alone does not."""
    [row] = rows_for("openrouter", "deepseek/deepseek-chat-v3-0324:free")
    assert figures(row.input, row.output) == "0 0"
    assert rows_for("github-copilot", "gpt-4o") == ()


def test_the_version_of_the_book_is_below_any_update() -> None:
    """What was written on request is not replaced by what was not."""
    assert 0 < book_version() < 10**9


@pytest.fixture
def server() -> Iterator[str]:
    """Serves a price book of one model on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(BOOK if self.path == "/book" else {"no": "list"}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()
    data_snapshot.set_custom_snapshot(None)


def test_newer_prices_can_be_fetched(server: str) -> None:
    """They replace the bundled ones in this process, and the rows say from when they are."""
    edition = fetch_book(f"{server}/book")
    assert edition == f"genai-prices of {datetime.now().astimezone():%Y-%m-%d}"
    large, small = (row for row in rows_for("openai", "gpt-9") if row.service_tier == "")
    assert figures(small.output, large.tier_start, large.output) == "4 100 5"
    assert small.source == f"{edition} openai/gpt-9"
    assert rows_for("openai", "gpt-4o") == ()


def test_prices_that_cannot_be_fetched_are_an_error_and_change_nothing(server: str) -> None:
    """An answer that is no price book, and no answer at all."""
    for url in (f"{server}/other", "http://127.0.0.1:9/nobody"):
        with pytest.raises(OtelSessionsError, match="could not be fetched"):
            fetch_book(url)
    assert rows_for("openai", "gpt-4o")
