"""OpenAI's format as others speak it, media, Responses' tools, and which provider's host it is."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
from exchanges import counts, events, exchange
from hypothesis import given
from hypothesis import strategies as st

from otel_sessions.base import names
from otel_sessions.base.settings import Settings
from otel_sessions.capture.formats import openai

OPENAI = "https://api.openai.com/v1"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def usage_of(usage: dict[str, Any], host: str = "https://api.openai.com") -> dict[str, Any] | None:
    return exchange(f"{host}/v1/chat/completions", CHAT, {"model": "m", "choices": [], "usage": usage})


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 9, "total_tokens": 117, "completion_tokens_details": {"reasoning_tokens": 98}},
         {"input_tokens": 10, "output_tokens": 107, "reasoning.output_tokens": 98}),
        ({"prompt_tokens": 16, "completion_tokens": 30, "total_tokens": 46, "reasoning_tokens": 900, "num_search_queries": 5},
         {"input_tokens": 16, "output_tokens": 930, "reasoning.output_tokens": 900}),
        ({"prompt_tokens": 10, "completion_tokens": 9, "total_tokens": 19, "completion_tokens_details": {"reasoning_tokens": 4}},
         {"input_tokens": 10, "output_tokens": 9, "reasoning.output_tokens": 4}),
        ({"prompt_tokens": 10, "completion_tokens": 1, "prompt_cache_hit_tokens": 6, "prompt_cache_miss_tokens": 4},
         {"input_tokens": 10, "output_tokens": 1, "cache_read.input_tokens": 6}),
        ({"prompt_tokens": 10, "completion_tokens": 1, "cache_read_input_tokens": 6},
         {"input_tokens": 10, "output_tokens": 1, "cache_read.input_tokens": 6}),
        ({"prompt_tokens": 10, "completion_tokens": 8, "prompt_tokens_details": {"audio_tokens": 5, "image_tokens": 3, "cache_write_tokens": 2},
          "completion_tokens_details": {"audio_tokens": 6, "image_tokens": 1}},
         {"input_tokens": 10, "output_tokens": 8, "audio.input_tokens": 5, "image.input_tokens": 3, "cache_creation.input_tokens": 2,
          "audio.output_tokens": 6, "image.output_tokens": 1}),
        ({"prompt_tokens": 10, "completion_tokens": 2, "completion_token_details": {"reasoning_tokens": 1}, "prompt_token_details": None},
         {"input_tokens": 10, "output_tokens": 2, "reasoning.output_tokens": 1}),
        ({"prompt_tokens": 95, "completion_tokens": 60, "total_tokens": 156, "completion_tokens_details": {"reasoning_tokens": 61}},
         {"input_tokens": 95, "output_tokens": 61, "reasoning.output_tokens": 61}),
        ({"prompt_tokens": 41, "completion_tokens": 2, "total_tokens": 86, "prompt_tokens_details": {"cached_tokens": 43}},
         {"input_tokens": 84, "output_tokens": 2, "cache_read.input_tokens": 43}),
        ({"prompt_tokens": 41, "completion_tokens": 2, "total_tokens": 50, "prompt_tokens_details": {"cached_tokens": 3},
          "completion_tokens_details": {"reasoning_tokens": 4}},
         {"input_tokens": 44, "output_tokens": 6, "cache_read.input_tokens": 3, "reasoning.output_tokens": 4}),
        ({"prompt_tokens": 3, "completion_tokens": 41, "total_tokens": 419, "prompt_tokens_details": {"audio_tokens": 375}},
         {"input_tokens": 378, "output_tokens": 41, "audio.input_tokens": 375}),
        ({"prompt_tokens": 5, "completion_tokens": 24, "total_tokens": 404, "prompt_tokens_details": {"cached_tokens": 368}},
         {"input_tokens": 380, "output_tokens": 24, "cache_read.input_tokens": 368}),
        ({"input_tokens": 12, "output_tokens": 40, "total_tokens": 52, "input_tokens_details": {"cached_tokens": 4100}},
         {"input_tokens": 12, "output_tokens": 40, "cache_read.input_tokens": 4100}),
    ],
    ids=[
        "xai", "perplexity", "openai", "deepseek", "databricks", "modalities", "writer", "one more than it wrote",
        "cache beside", "cache and reasoning beside", "audio beside", "neither", "a contradiction",
    ],
)  # fmt: skip
def test_totals_are_inclusive_whoever_states_them(usage: dict[str, Any], expected: dict[str, int]) -> None:
    """What stands beside the totals is added, as the stated total says, and cached tokens are found under all their names."""
    assert counts(usage_of(usage)) == expected


@pytest.mark.parametrize(("above", "tier"), [({}, "priority"), ({"service_tier": "default"}, "default")])
def test_the_tier_may_stand_in_the_usage(above: dict[str, str], tier: str) -> None:
    """Mistral's does; what stands above the usage wins."""
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "service_tier": "priority"}
    found = exchange("https://api.mistral.ai/v1/chat/completions", CHAT, {"model": "m", "usage": usage, **above})
    assert found is not None
    assert found["gen_ai.response.service_tier"] == tier


COUNTS = st.one_of(st.none(), st.integers(0, 9), st.sampled_from([2.0, -1, "3", True, 2**63]))
DETAILS = st.one_of(
    st.none(),
    st.dictionaries(
        st.sampled_from(
            ["cached_tokens", "audio_tokens", "reasoning_tokens", "accepted_prediction_tokens", "text_tokens"]
        ),
        COUNTS,
    ),
)


@given(
    st.fixed_dictionaries(
        {"prompt_tokens": st.integers(0, 9), "completion_tokens": st.integers(0, 9)},
        optional={
            "total_tokens": st.one_of(COUNTS, st.integers(0, 30)),
            "prompt_tokens_details": DETAILS,
            "completion_tokens_details": DETAILS,
            "reasoning_tokens": COUNTS,
        },
    )
)
def test_the_short_way_says_the_same(stated: dict[str, Any]) -> None:
    """Usage of the usual shape is read without the detours that other shapes need; no reasoning is beyond the output."""
    short, whole = openai.usual(json.dumps(stated).encode()), openai.usage(stated)
    assert short is None or short == whole.attributes()
    assert (whole.reasoning or 0) <= (whole.output or 0)


def test_the_usual_shape_takes_the_short_way() -> None:
    """What OpenAI states of nearly every chat; a modality of 0 is left out."""
    inputs, outputs = {"cached_tokens": 4, "audio_tokens": 0}, {"reasoning_tokens": 0, "audio_tokens": 0}
    stated = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    assert openai.usual(
        json.dumps(stated | {"prompt_tokens_details": inputs, "completion_tokens_details": outputs}).encode()
    ) == {
        names.INPUT_TOKENS: 9,
        names.OUTPUT_TOKENS: 3,
        names.CACHE_READ_TOKENS: 4,
        names.REASONING_TOKENS: 0,
    }


@pytest.mark.parametrize(
    ("stated", "cost"),
    [
        ({"cost": 0.0031}, 0.0031),
        ({"cost": 0.0001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}}, 0.0201),
        ({"cost": {"input_tokens_cost": 0.1, "total_cost": 0.25}}, 0.25),
        ({"cost_in_usd_ticks": 37_756_000}, 0.0037756),
        ({"estimated_cost": 0.5}, 0.5),
        ({"cost": -1}, None),
        ({"cost": "much"}, None),
    ],
    ids=["openrouter", "own key", "perplexity", "xai", "deepinfra", "negative", "text"],
)
def test_a_stated_cost_is_provided(stated: dict[str, Any], cost: float | None) -> None:
    """Dollars, however the provider spells them; what cannot be a cost is none."""
    found = usage_of({"prompt_tokens": 1, "completion_tokens": 1, **stated}) or {}
    assert found.get("gen_ai.usage.cost") == (None if cost is None else pytest.approx(cost))
    assert found.get("otel_sessions.cost.status") == (None if cost is None else "provided")


def test_a_gateway_states_its_cost_in_a_header() -> None:
    """LiteLLM's proxy does; its zero means that it does not know."""
    for value, cost in (("0.0042", 0.0042), ("0.0", None), ("None", None), ("nan", None)):
        headers = {"x-litellm-response-cost": value}
        found = exchange("http://litellm:4000/chat/completions", CHAT, {"model": "m"}, headers=headers) or {}
        assert found.get("gen_ai.usage.cost") == cost


@pytest.mark.parametrize(
    ("response", "searches"),
    [
        ({"output": [{"type": "web_search_call", "action": {"type": "search"}}, {"type": "web_search_call"},
                     {"type": "web_search_call", "action": {"type": "open_page"}}, {"type": "message"}]}, 2),
        ({"output": [{"type": "web_search_call"}] * 3, "tool_usage": {"web_search": {"num_requests": 1}}}, 1),
        ({"output": [{"type": "computer_call", "action": "click"}]}, None),
    ],
    ids=["by items", "as stated", "other tools"],
)  # fmt: skip
@pytest.mark.parametrize("streamed", [False, True])
def test_searches_of_the_responses_api(response: dict[str, Any], searches: int | None, streamed: bool) -> None:  # noqa: FBT001
    """What is billed, as stated or by the searches among the output; opening a page is free."""
    whole = {
        "object": "response",
        "status": "completed",
        "model": "m",
        "usage": {"input_tokens": 1, "output_tokens": 2},
    } | response
    body = events({"type": "response.created", "response": {}}, {"type": "response.completed", "response": whole})
    found = exchange(
        f"{OPENAI}/responses", {"model": "m", "input": "x", "stream": streamed}, body if streamed else whole
    )
    assert found is not None
    assert found.get("otel_sessions.usage.web_searches") == searches
    assert counts(found) == {"input_tokens": 1, "output_tokens": 2}


def test_compaction_and_decisions_are_billed() -> None:
    """Both answer with usage in the form of Responses."""
    usage = {"input_tokens": 3, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": 2, "total_tokens": 5}
    compacted = exchange(
        f"{OPENAI}/responses/compact", {"model": "m", "input": []}, {"object": "response.compaction", "usage": usage}
    )
    decided = exchange(
        f"{OPENAI}/decisions", {"model": "m", "input": "x", "questions": []}, {"model": "m", "usage": usage}
    )
    assert counts(compacted) == counts(decided) == {"input_tokens": 3, "output_tokens": 2, "cache_read.input_tokens": 1}
    assert exchange("http://app.internal/decisions", {"model": "m", "input": "x"}, {}) is None


@pytest.mark.parametrize(
    "path",
    ["responses/r_1/cancel", "responses/input_tokens", "threads/runs", "batches", "files", "vector_stores/v/search",
     "conversations", "chat/completions/c_1", "realtime/client_secrets", "videos", "uploads", "containers"],
)  # fmt: skip
def test_control_calls_are_no_calls(path: str) -> None:
    """What manages, counts or polls is not billed as a call."""
    assert exchange(f"{OPENAI}/{path}", CHAT | {"input": "x"}, {"usage": {"input_tokens": 1}}) is None


def test_finish_reasons_stand_in_the_order_of_the_choices() -> None:
    """Not in the order in which they ended."""
    body = events(*(
        {"id": "c", "model": "m", "choices": [{"index": index, "finish_reason": reason}]}
        for index, reason in ((0, None), (2, "length"), (1, "stop"), (0, "tool_calls"))
    ))  # fmt: skip
    found = exchange(f"{OPENAI}/chat/completions", CHAT | {"stream": True, "n": 3}, body)
    assert found is not None
    assert found["gen_ai.response.finish_reasons"] == ("tool_calls", "stop", "length")


def test_groq_tells_of_its_hardware_outside_of_streams() -> None:
    """x_groq.usage counts only where it is the usage."""
    answer = {"usage": {"prompt_tokens": 5, "completion_tokens": 6}, "x_groq": {"usage": {"dram_cached_tokens": 3}}}
    assert counts(exchange("https://api.groq.com/openai/v1/chat/completions", CHAT, answer)) == {
        "input_tokens": 5,
        "output_tokens": 6,
    }


class TestMedia:
    IMAGES: ClassVar = {
        "input_tokens": 50, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
        "output_tokens": 60, "output_tokens_details": {"image_tokens": 60, "text_tokens": 0}, "total_tokens": 110,
    }  # fmt: skip

    @pytest.mark.parametrize("streamed", [False, True])
    def test_images(self, streamed: bool) -> None:  # noqa: FBT001
        """Tokens by modality, of the document or of the event that completes."""
        body: Any = {"data": [{"b64_json": "x" * 999}], "usage": self.IMAGES}
        if streamed:
            body = events(
                {"type": "image_generation.partial_image"}, {"type": "image_generation.completed", "usage": self.IMAGES}
            )
        found = exchange(
            f"{OPENAI}/images/generations", {"model": "gpt-image-2", "prompt": "x", "stream": streamed}, body
        )
        assert counts(found) == {
            "input_tokens": 50,
            "output_tokens": 60,
            "image.input_tokens": 40,
            "image.output_tokens": 60,
        }
        assert found is not None
        assert found["gen_ai.operation.name"] == "generate_content"

    def test_transcription_is_sent_as_a_form(self) -> None:
        """The model is a text field of the form; the file is not touched."""
        usage = {
            "type": "tokens",
            "input_tokens": 14,
            "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
            "output_tokens": 5,
        }
        found = exchange(
            f"{OPENAI}/audio/transcriptions", None, {"text": "hi", "usage": usage},
            data={"model": "gpt-4o-transcribe", "response_format": "json"}, files={"file": ("a.wav", b"RIFF")},
        )  # fmt: skip
        assert counts(found) == {"input_tokens": 14, "output_tokens": 5, "audio.input_tokens": 10}
        assert found is not None
        assert found["gen_ai.request.model"] == "gpt-4o-transcribe"

    @pytest.mark.parametrize(
        ("path", "answer"),
        [
            ("transcriptions", {"text": "hi", "finish_reason": "stop"}),
            ("transcriptions", events({"object": "transcription.chunk", "choices": [{"finish_reason": "stop"}]})),
        ],
    )
    def test_others_say_why_a_transcription_ended(self, path: str, answer: Any) -> None:
        """Mistral in the document, vLLM as in a chat."""
        found = exchange(f"{OPENAI}/audio/{path}", {"model": "m", "input": "x"}, answer)
        assert found is not None
        assert found["gen_ai.response.finish_reasons"] == ("stop",)

    def test_a_form_that_is_already_bytes(self) -> None:
        """Some clients build the form themselves."""
        form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--b--\r\n'
        found = exchange(
            f"{OPENAI}/audio/translations", form, {"text": "hi", "usage": {"type": "duration", "seconds": 3}}
        )
        assert found is not None
        assert found["gen_ai.request.model"] == "whisper-1"
        assert counts(found) == {}

    def test_speech_is_not_parsed(self) -> None:
        """Audio is no JSON, whatever its bytes look like; as events it ends with its usage."""
        asked = {"model": "gpt-4o-mini-tts", "input": "hi", "voice": "x"}
        found = exchange(
            f"{OPENAI}/audio/speech",
            asked,
            b'RIFF\n{"usage": {"input_tokens": 1}}\n',
            headers={"content-type": "audio/mpeg"},
        )
        assert found is not None
        assert counts(found) == {}
        done = {"type": "speech.audio.done", "usage": {"input_tokens": 3, "output_tokens": 40, "total_tokens": 43}}
        assert counts(exchange(f"{OPENAI}/audio/speech", asked, events(done))) == {
            "input_tokens": 3,
            "output_tokens": 40,
        }

    def test_moderation_is_free(self) -> None:
        """It is a span, of an operation of its own, and has no usage."""
        found = exchange(
            f"{OPENAI}/moderations", {"model": "omni", "input": "x"}, {"id": "i", "model": "omni", "results": []}
        )
        assert found is not None
        assert (found["gen_ai.operation.name"], counts(found)) == ("moderation", {})


class TestHosts:
    @pytest.mark.parametrize(
        ("listed", "url", "provider"),
        [
            ("llm.internal=mistral_ai", "https://llm.internal/v1/conversations", "mistral_ai"),
            ("10.0.0.7:8000=ollama", "http://10.0.0.7:8000/api/chat", "ollama"),
            ("proxy=cohere", "https://proxy/v2/chat", "cohere"),
            ("proxy", "https://proxy/v2/chat", "cohere"),
            ("proxy", "https://proxy/v1/chat/completions", "openai"),
            ("proxy = together", "https://proxy/v1/chat/completions", "together"),
        ],
    )
    def test_listed_hosts_may_name_their_provider(self, listed: str, url: str, provider: str) -> None:
        """The provider given is that of the spans, and opens its own paths; without one every path of a format counts."""
        found = exchange(url, {}, {}, settings=Settings(llm_hosts=(listed,)))
        assert found is not None
        assert found["gen_ai.provider.name"] == provider

    def test_a_port_is_listed_alone(self) -> None:
        """Another port of the same host is another server."""
        assert exchange("http://h:9000/v2/chat", {}, {}, settings=Settings(llm_hosts=("h:8000=cohere",))) is None

    def test_perplexity_and_databricks_have_paths_of_their_own(self) -> None:
        """They answer in OpenAI's format."""
        answer = {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}
        assert counts(exchange("https://api.perplexity.ai/v1/sonar", CHAT, answer)) == {
            "input_tokens": 1,
            "output_tokens": 2,
        }
        url = "https://adb-1.2.azuredatabricks.net/serving-endpoints/llama/invocations"
        found = exchange(url, {"model": "m", "messages": []}, answer)
        assert counts(found) == {"input_tokens": 1, "output_tokens": 2}
        assert exchange(url, {"dataframe_split": {}}, {}) is None

    @pytest.mark.parametrize(("host", "output"), [("api.perplexity.ai", 17), ("w.azuredatabricks.net", 12)])
    def test_reasoning_beside_the_completion_or_in_it(self, host: str, output: int) -> None:
        """Perplexity names it like others do, and counts it apart even where it is less than the completion."""
        stated = {"prompt_tokens": 3, "completion_tokens": 12, "total_tokens": 15, "reasoning_tokens": 5}
        found = exchange(f"https://{host}/chat/completions", CHAT, {"usage": {**stated, "citation_tokens": 99}})
        assert counts(found) == {"input_tokens": 3, "output_tokens": output, "reasoning.output_tokens": 5}

    @pytest.mark.parametrize(
        ("usage", "expected"),
        [
            ({"prompt_tokens_details": {"cached_tokens": 2, "cache_creation_tokens": 3}}, (2, 3)),
            ({"prompt_tokens_details": {"cached_tokens": 2}, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 2}, (2, 3)),
            ({"prompt_tokens_details": {"cached_tokens": 2, "cache_creation_input_tokens": 3, "cache_type": "ephemeral"}}, (2, 3)),
            ({"prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 3}}, (2, 3)),
            ({"input_tokens_details": {"cache_read_input_tokens": 2, "cache_creation_input_tokens": 3}}, (2, 3)),
            ({"num_cached_tokens": 2}, (2, None)),
            ({"prompt_tokens_details": {"cached_tokens": 2, "cached_creation_tokens": 3}}, (2, 3)),
        ],
        ids=["litellm", "litellm beside", "alibaba", "openai", "perplexity", "mistral", "new api"],
    )  # fmt: skip
    def test_caches_by_each_name(self, usage: dict[str, Any], expected: tuple[int, int | None]) -> None:
        """What was read from a cache and what was written to it are parts of the input."""
        found = counts(usage_of({"prompt_tokens": 9, "completion_tokens": 1, **usage}))
        assert found["input_tokens"] == 9
        assert (found.get("cache_read.input_tokens"), found.get("cache_creation.input_tokens")) == expected

    @pytest.mark.parametrize(
        "kept",
        [
            {"prompt_tokens_details": {"cache_creation_token_details": {"ephemeral_1h_input_tokens": 4}}},
            {"claude_cache_creation_5_m_tokens": 1, "claude_cache_creation_1_h_tokens": 4},
        ],
        ids=["litellm", "new api"],
    )
    def test_caches_kept_for_an_hour(self, kept: dict[str, Any]) -> None:
        """Gateways pass on how long Anthropic keeps what was written."""
        found = usage_of({"prompt_tokens": 9, "completion_tokens": 1, "cache_creation_tokens": 5, **kept})
        assert found is not None
        assert found["otel_sessions.usage.cache_creation_1h.input_tokens"] == 4

    @pytest.mark.parametrize(
        "answer",
        [
            {"responses": [{"message": {"content": "x"}, "finish_reason": "length"}]},
            events({"responses": [{"chunk": {"content": "x"}, "finish_reason": None}]},
                   {"responses": [{"chunk": {"content": "x"}, "finish_reason": "length"}]}),
        ],
        ids=["document", "stream"],
    )  # fmt: skip
    def test_reka_has_another_name_for_the_choices(self, answer: Any) -> None:
        """Why they ended stands where others have it."""
        found = exchange("https://api.reka.ai/v1/chat", CHAT, answer)
        assert found is not None
        assert found["gen_ai.response.finish_reasons"] == ("length",)

    def test_moonshot_states_usage_in_the_last_choice(self) -> None:
        """It counts where no chunk states it beside the choices."""
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "cached_tokens": 2}
        last = {"id": "i", "model": "m", "choices": [{"index": 0, "finish_reason": "stop", "usage": usage}]}
        body = events({"id": "i", "model": "m", "choices": [{"index": 0, "delta": {"content": "x"}}]}, last)
        found = exchange("https://api.moonshot.ai/v1/chat/completions", CHAT | {"stream": True}, body)
        assert counts(found) == {"input_tokens": 3, "output_tokens": 4, "cache_read.input_tokens": 2}
        both = exchange(
            "https://api.moonshot.ai/v1/chat/completions", CHAT | {"stream": True},
            events(last, {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 6}}),
        )  # fmt: skip
        assert counts(both) == {"input_tokens": 5, "output_tokens": 6}
