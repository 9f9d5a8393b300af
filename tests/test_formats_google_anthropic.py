"""What Anthropic's and Google's formats say beyond plain totals."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from exchanges import counts, events, exchange

GEMINI = "https://generativelanguage.googleapis.com/v1beta"
ASKED = {"contents": [{"parts": [{"text": "hi"}]}]}
CHAT = {"model": "claude-x", "max_tokens": 9, "messages": []}


class TestAnthropic:
    @pytest.mark.parametrize(
        "url",
        [
            "https://api.anthropic.com/v1/messages?beta=true",
            "https://hub.services.ai.azure.com/anthropic/v1/messages",
            "https://europe-west1-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/anthropic/models/claude-x:rawPredict",
            "https://api.deepseek.com/anthropic/v1/messages",
            "https://openrouter.ai/api/v1/messages",
        ],
    )
    def test_messages_whoever_serves_them(self, url: str) -> None:
        """Cached tokens are added to the input; tier, speed, searches and thinking are kept."""
        usage = {
            "input_tokens": 3, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 50,
            "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 15},
            "output_tokens_details": {"thinking_tokens": 30}, "server_tool_use": {"web_search_requests": 2},
            "service_tier": "priority", "speed": "fast", "inference_geo": "us",
        }  # fmt: skip
        found = exchange(url, CHAT, {"type": "message", "model": "claude-x", "stop_reason": "end_turn", "usage": usage})
        assert found is not None
        assert counts(found) == {
            "input_tokens": 123, "cache_read.input_tokens": 100, "cache_creation.input_tokens": 20,
            "output_tokens": 50, "reasoning.output_tokens": 30,
        }  # fmt: skip
        assert found["otel_sessions.usage.cache_creation_1h.input_tokens"] == 15
        assert found["otel_sessions.usage.web_searches"] == 2
        assert found["gen_ai.response.service_tier"] == "priority"
        assert found["otel_sessions.response.speed"] == "fast"
        assert found["otel_sessions.response.region"] == "us"

    @pytest.mark.parametrize("place", ["global", "not_available", None, 7])
    def test_a_place_that_was_not_asked_for_is_none(self, place: object) -> None:
        """Anthropic names one in each answer; only one that inference was kept in costs more."""
        usage = {"input_tokens": 3, "output_tokens": 5, "inference_geo": place}
        url = "https://api.anthropic.com/v1/messages"
        found = exchange(url, CHAT, {"type": "message", "model": "claude-x", "usage": usage})
        assert found is not None
        assert "otel_sessions.response.region" not in found

    def test_streams_state_the_tier_at_their_start(self) -> None:
        """The last value of each field stands; what only the start says is kept."""
        start = {
            "usage": {"input_tokens": 10, "output_tokens": 1, "service_tier": "standard"},
            "model": "claude-x",
            "id": "m",
        }
        body = events(
            {"type": "message_start", "message": start},
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "usage"}},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn"},
                "usage": {"output_tokens": 7, "server_tool_use": None},
            },
        )
        found = exchange("https://api.anthropic.com/v1/messages", CHAT | {"stream": True}, body)
        assert counts(found) == {"input_tokens": 10, "output_tokens": 7}
        assert found is not None
        assert found["gen_ai.response.service_tier"] == "standard"

    def test_a_compaction_is_billed_with_the_call(self) -> None:
        """It stands among the iterations only; an advisor's tokens are another model's."""
        extra = {
            "input_tokens": 1000,
            "output_tokens": 100,
            "cache_read_input_tokens": 10,
            "cache_creation_input_tokens": 0,
        }
        iterations = [
            {"type": "message", **extra},
            {"type": "compaction", **extra},
            {"type": "advisor_message", **extra},
        ]
        usage = {"input_tokens": 5, "output_tokens": 6, "iterations": iterations}
        found = exchange("https://api.anthropic.com/v1/messages", CHAT, {"type": "message", "usage": usage})
        assert counts(found) == {
            "input_tokens": 1015, "output_tokens": 106, "cache_read.input_tokens": 10, "cache_creation.input_tokens": 0,
        }  # fmt: skip

    @pytest.mark.parametrize("streamed", [False, True])
    def test_the_model_that_took_over_is_the_one_that_answered(self, streamed: bool) -> None:  # noqa: FBT001
        """A stream begins with the model that declined; the iterations say whose the answer is."""
        hops = [
            {"type": "message", "model": "claude-x", "input_tokens": 5, "output_tokens": 0},
            {"type": "fallback_message", "model": "claude-y", "input_tokens": 5, "output_tokens": 6},
        ]
        usage = {"input_tokens": 5, "output_tokens": 6, "iterations": hops}
        body = events(
            {"type": "message_start", "message": {"id": "m", "model": "claude-x", "usage": {"input_tokens": 5, "output_tokens": 1}}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        )  # fmt: skip
        whole = {"id": "m", "type": "message", "model": "claude-y", "stop_reason": "end_turn", "usage": usage}
        found = exchange("https://api.anthropic.com/v1/messages", CHAT, body if streamed else whole)
        assert counts(found) == {"input_tokens": 5, "output_tokens": 6}
        assert found is not None
        assert found["gen_ai.response.model"] == "claude-y"

    def test_text_completions_of_old(self) -> None:
        """They state no usage."""
        asked = {"model": "claude-2", "prompt": "hi", "max_tokens_to_sample": 9}
        found = exchange(
            "https://api.anthropic.com/v1/complete", asked, {"model": "claude-2", "stop_reason": "max_tokens"}
        )
        assert found is not None
        assert (found["gen_ai.operation.name"], counts(found)) == ("text_completion", {})
        assert found["gen_ai.request.max_tokens"] == 9

    @pytest.mark.parametrize("path", ["messages/count_tokens", "messages/batches", "files", "sessions/s/events"])
    def test_control_calls_are_no_calls(self, path: str) -> None:
        """Counting is free, and batches answer later."""
        assert exchange(f"https://api.anthropic.com/v1/{path}", CHAT, {"input_tokens": 4}) is None

    def test_counting_on_vertex_is_free_too(self) -> None:
        """It looks like a model there."""
        url = "https://aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict"
        assert exchange(url, CHAT, {"input_tokens": 4}) is None


class TestGemini:
    def test_modalities_thoughts_and_tools(self) -> None:
        """Thoughts are output, what tools read is input, a document's pages are images."""
        usage = {
            "promptTokenCount": 100, "candidatesTokenCount": 20, "thoughtsTokenCount": 5, "toolUsePromptTokenCount": 7,
            "cachedContentTokenCount": 60, "trafficType": "ON_DEMAND_FLEX",
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 40}, {"modality": "AUDIO", "tokenCount": 30},
                                    {"modality": "DOCUMENT", "tokenCount": 20}, {"modality": "VIDEO", "tokenCount": 10}],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 15}],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 12}],
        }  # fmt: skip
        found = exchange(f"{GEMINI}/models/gemini-x:generateContent", ASKED, {"usageMetadata": usage})
        assert found is not None
        assert counts(found) == {
            "input_tokens": 107, "output_tokens": 25, "reasoning.output_tokens": 5, "cache_read.input_tokens": 60,
            "audio.input_tokens": 30, "image.input_tokens": 20, "video.input_tokens": 10,
            "audio.cache_read.input_tokens": 15, "image.output_tokens": 12,
        }  # fmt: skip
        assert found["gen_ai.response.service_tier"] == "flex"

    @pytest.mark.parametrize(("model", "searches"), [("gemini-2.5-pro", 1), ("gemini-3-pro-preview", 3)])
    def test_searches(self, model: str, searches: int) -> None:
        """A grounded answer is billed once up to 2.5, by its different searches after."""
        grounding = {"groundingMetadata": {"webSearchQueries": ["a", "b", "a", "c", ""]}}
        answer = {"modelVersion": model, "candidates": [grounding], "usageMetadata": {"promptTokenCount": 1}}
        found = exchange(f"{GEMINI}/models/{model}:streamGenerateContent?alt=sse", ASKED, events(answer))
        assert found is not None
        assert found["otel_sessions.usage.web_searches"] == searches

    def test_modalities_of_embeddings(self) -> None:
        """They stand under a name of their own."""
        usage = {"promptTokenCount": 260, "promptTokenDetails": [{"modality": "IMAGE", "tokenCount": 258}]}
        found = exchange(f"{GEMINI}/models/gemini-embedding-x:embedContent", ASKED, {"usageMetadata": usage})
        assert counts(found) == {"input_tokens": 260, "image.input_tokens": 258}

    def test_a_blocked_prompt_has_a_reason(self) -> None:
        """There is no candidate that could say it."""
        blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}
        found = exchange(f"{GEMINI}/models/gemini-x:generateContent", ASKED, blocked)
        assert found is not None
        assert found["gen_ai.response.finish_reasons"] == ("SAFETY",)

    def test_predictions_of_vertex(self) -> None:
        """Embeddings count their tokens one by one; images are billed by the piece."""
        base = "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models"
        embeddings = [{"embeddings": {"statistics": {"token_count": count}, "values": []}} for count in (3, 4)]
        found = exchange(f"{base}/text-embedding-005:predict", {"instances": [{}]}, {"predictions": embeddings})
        assert counts(found) == {"input_tokens": 7}
        assert found is not None
        assert found["gen_ai.operation.name"] == "embeddings"
        image = exchange(
            f"{base}/imagen-4.0:predict", {"instances": [{}]}, {"predictions": [{"bytesBase64Encoded": "x"}]}
        )
        assert image is not None
        assert image["gen_ai.operation.name"] == "generate_content"
        assert exchange(f"{base}/my-classifier:predict", {"instances": [{}]}, {}) is None

    @pytest.mark.parametrize(
        "path", ["models/m:countTokens", "models/m:batchGenerateContent", "files", "cachedContents"]
    )
    def test_control_calls_are_no_calls(self, path: str) -> None:
        """Counting, batches, files and caches."""
        assert exchange(f"{GEMINI}/{path}", ASKED, {"usageMetadata": {"promptTokenCount": 1}}) is None

    @pytest.mark.parametrize(("total", "output"), [(1016, 996), (444, 424), (None, 424)])
    def test_the_compatible_end_point_hides_thoughts_in_the_total(self, total: int | None, output: int) -> None:
        """They are billed as output."""
        usage = {"prompt_tokens": 20, "completion_tokens": 424, "total_tokens": total}
        found = exchange(f"{GEMINI}/openai/chat/completions", CHAT, {"model": "gemini-x", "usage": usage})
        assert counts(found) == {"input_tokens": 20, "output_tokens": output}
        assert found is not None
        assert found["gen_ai.provider.name"] == "gcp.gemini"

    def test_mistral_on_vertex(self) -> None:
        """It keeps its own format there."""
        url = "https://aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/mistralai/models/mistral-x:streamRawPredict"
        found = exchange(
            url, {"model": "m", "messages": []}, events({"usage": {"prompt_tokens": 1, "completion_tokens": 2}})
        )
        assert counts(found) == {"input_tokens": 1, "output_tokens": 2}


class TestInteractions:
    USAGE: ClassVar = {
        "total_input_tokens": 10, "total_tool_use_tokens": 4, "total_output_tokens": 6, "total_thought_tokens": 3,
        "total_cached_tokens": 2, "grounding_tool_count": [{"type": "google_search", "count": 2}],
        "input_tokens_by_modality": [{"modality": "image", "tokens": 5}],
    }  # fmt: skip

    @pytest.mark.parametrize("streamed", [False, True])
    def test_usage_under_other_names(self, streamed: bool) -> None:  # noqa: FBT001
        """As generateContent's: thoughts are output, what tools read is input."""
        whole: dict[str, Any] = {"id": "i", "model": "gemini-x", "status": "completed", "usage": self.USAGE}
        body = events(
            {"event_type": "interaction.created", "interaction": {"id": "i", "status": "in_progress"}},
            {"event_type": "interaction.completed", "interaction": whole},
        )
        asked = {"model": "gemini-x", "input": "hi", "stream": streamed}
        found = exchange(f"{GEMINI}/interactions", asked, body if streamed else whole)
        assert found is not None
        assert counts(found) == {
            "input_tokens": 14, "output_tokens": 9, "reasoning.output_tokens": 3, "cache_read.input_tokens": 2,
            "image.input_tokens": 5,
        }  # fmt: skip
        assert found["otel_sessions.usage.web_searches"] == 2
        assert found["gen_ai.response.finish_reasons"] == ("completed",)
        assert found["gen_ai.response.id"] == "i"

    @pytest.mark.parametrize(("model", "searches"), [("gemini-2.5-flash", 1), ("gemini-3-flash", 3)])
    @pytest.mark.parametrize("shape", ["steps", "outputs", "stream"])
    def test_searches_that_usage_does_not_count(self, model: str, searches: int, shape: str) -> None:
        """They are read off the calls of the tool, and billed as in generateContent."""
        calls = [
            {"type": "google_search_call", "arguments": {"queries": queries}} for queries in (["a", "b", "a"], ["c"])
        ]
        usage = {"total_input_tokens": 10, "total_output_tokens": 6}
        whole: dict[str, Any] = {"id": "i", "model": model, "status": "completed", "usage": usage}
        body = events(
            {"event_type": "interaction.created", "interaction": {"id": "i", "model": model}},
            {"event_type": "step.start", "step": {"type": "google_search_call", "id": "7"}},
            *({"event_type": "step.delta", "delta": call} for call in calls),
            {"event_type": "interaction.completed", "interaction": whole},
        )
        asked = {"model": model, "input": "hi", "stream": shape == "stream"}
        found = exchange(f"{GEMINI}/interactions", asked, body if shape == "stream" else whole | {shape: calls})
        assert found is not None
        assert found["otel_sessions.usage.web_searches"] == searches

    def test_other_hosts_have_interactions_of_their_own(self) -> None:
        """The path says too little."""
        assert exchange("https://crm.example/v1/interactions", {"model": "m", "input": "x"}, {}) is None
