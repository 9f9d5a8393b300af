"""Cohere, Ollama, Mistral, watsonx, text generation servers, Replicate, ranking: what their answers say."""

from __future__ import annotations

from typing import Any, ClassVar

import httpx2
import pytest
from exchanges import counts, events, exchange, lines

from otel_sessions.base.settings import Settings
from otel_sessions.capture.target import Targets

COHERE = "https://api.cohere.com"
BILLED = {"billed_units": {"input_tokens": 7, "output_tokens": 9}, "tokens": {"input_tokens": 69, "output_tokens": 9}}
CHAT = {"model": "command-a", "messages": [{"role": "user", "content": "hi"}]}


class TestCohere:
    @pytest.mark.parametrize(
        ("path", "answer"),
        [
            ("/v1/chat", {"response_id": "r", "finish_reason": "COMPLETE", "meta": BILLED}),
            ("/v2/chat", {"id": "r", "finish_reason": "COMPLETE", "usage": BILLED}),
            ("/v1/chat", lines({"event_type": "stream-start", "generation_id": "g"},
                               {"event_type": "stream-end", "finish_reason": "COMPLETE",
                                "response": {"response_id": "r", "finish_reason": "COMPLETE", "meta": BILLED}})),
            ("/v2/chat", events({"id": "r", "type": "message-start", "delta": {"message": {}}},
                                {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": BILLED}})),
        ],
        ids=["v1", "v2", "v1 lines", "v2 events"],
    )  # fmt: skip
    def test_what_is_billed_counts(self, path: str, answer: Any) -> None:
        """The preamble's tokens are free, so billed units are the usage."""
        found = exchange(COHERE + path, CHAT, answer)
        assert counts(found) == {"input_tokens": 7, "output_tokens": 9}
        assert found is not None
        assert found["gen_ai.provider.name"] == "cohere"
        assert found["gen_ai.response.id"] == "r"
        assert found["gen_ai.response.finish_reasons"] == ("COMPLETE",)

    def test_tokens_count_where_units_are_missing(self) -> None:
        """Cached tokens are a part of the model's tokens, not of the billed ones."""
        tokens = {"tokens": {"input_tokens": 212, "output_tokens": 5}, "cached_tokens": 208}
        found = exchange(COHERE + "/v2/chat", CHAT, {"usage": tokens})
        assert counts(found) == {"input_tokens": 212, "output_tokens": 5, "cache_read.input_tokens": 208}
        both = exchange(COHERE + "/v2/chat", CHAT, {"usage": tokens | BILLED})
        assert counts(both) == {"input_tokens": 7, "output_tokens": 9}

    def test_generate_and_embed(self) -> None:
        """The older and the smaller end points have their usage under meta."""
        generated = exchange(
            COHERE + "/v1/generate",
            {"prompt": "hi"},
            {"generations": [{"finish_reason": "MAX_TOKENS"}], "meta": BILLED},
        )
        assert generated is not None
        assert generated["gen_ai.operation.name"] == "text_completion"
        assert generated["gen_ai.response.finish_reasons"] == ("MAX_TOKENS",)
        embedded = exchange(COHERE + "/v2/embed", {"texts": ["a"]}, {"meta": {"billed_units": {"input_tokens": 3}}})
        assert counts(embedded) == {"input_tokens": 3}

    def test_its_paths_mean_nothing_elsewhere(self) -> None:
        """/v1/chat and /v2/chat are what many services call their own end points."""
        assert exchange("https://app.internal/v2/chat", CHAT, {}) is None
        assert exchange("https://api.writer.com/v1/chat", CHAT, {"usage": {"prompt_tokens": 1}}) is not None


@pytest.mark.parametrize(
    "url",
    [
        "https://api.cohere.com/v2/rerank",
        "https://api.jina.ai/v1/rerank",
        "https://dashscope-intl.aliyuncs.com/compatible-api/v1/reranks",
        "http://vllm:8000/rerank",
        "http://nim:8000/v1/ranking",
    ],
)
def test_ranking(url: str) -> None:
    """Tokens where they are billed; searches, which have no attribute, in the raw usage."""
    asked = {"model": "r", "query": "q", "documents": ["a"]}
    found = exchange(url, asked, {"id": "x", "results": [], "usage": {"total_tokens": 43}})
    assert found is not None
    assert found["gen_ai.operation.name"] == "rerank"
    assert counts(found) == {"input_tokens": 43}
    searched = exchange(url, asked, {"results": [], "meta": {"billed_units": {"search_units": 2}}})
    assert counts(searched) == {}
    assert searched is not None
    assert "search_units" in searched["otel_sessions.usage.raw"]


class TestOllama:
    HOST = "http://gpu.internal:11434"
    END: ClassVar = {"model": "llama3", "done": True, "done_reason": "stop", "prompt_eval_count": 17, "eval_count": 63}

    @pytest.mark.parametrize(
        ("path", "asked", "operation"),
        [
            ("/api/chat", {"model": "llama3", "messages": []}, "chat"),
            ("/api/generate", {"model": "llama3", "prompt": "hi"}, "text_completion"),
        ],
    )
    def test_answers_are_lines_unless_told_otherwise(self, path: str, asked: dict[str, Any], operation: str) -> None:
        """The counts stand in the last line; one document is the same with but one line."""
        streamed = exchange(self.HOST + path, asked, lines({"model": "llama3", "done": False}, self.END))
        whole = exchange(self.HOST + path, asked | {"stream": False}, self.END)
        assert counts(streamed) == counts(whole) == {"input_tokens": 17, "output_tokens": 63}
        assert streamed is not None
        assert whole is not None
        assert (streamed["gen_ai.operation.name"], streamed["gen_ai.provider.name"]) == (operation, "ollama")
        assert streamed["gen_ai.response.finish_reasons"] == ("stop",)
        assert streamed["gen_ai.request.stream"] is True
        assert "gen_ai.request.stream" not in whole

    def test_embeddings(self) -> None:
        """They are never streamed, and count the input where the end point is the newer one."""
        found = exchange(
            self.HOST + "/api/embed", {"model": "e", "input": "a"}, {"embeddings": [], "prompt_eval_count": 4}
        )
        assert counts(found) == {"input_tokens": 4}
        older = exchange(self.HOST + "/api/embeddings", {"model": "e", "prompt": "a"}, {"embedding": [0.1]})
        assert older is not None
        assert "gen_ai.request.stream" not in older

    def test_an_error_in_a_line(self) -> None:
        """A stream that breaks off says so in a line of its own."""
        found = exchange(self.HOST + "/api/chat", {"model": "m", "messages": []}, lines({"error": "out of memory"}))
        assert found is not None
        assert found["error.type"] == "error"

    @pytest.mark.parametrize(
        ("url", "asked"),
        [
            ("http://gpu.internal:11434/api/pull", {"model": "llama3"}),
            ("http://gpu.internal:11434/api/chat", {"text": "no request of this kind"}),
            ("https://shop.example/api/chat", {"model": "m", "messages": []}),
        ],
    )
    def test_what_is_no_call(self, url: str, asked: dict[str, Any]) -> None:
        """Loading models is none, and other hosts have an /api/chat of their own."""
        assert exchange(url, asked, {}) is None


class TestMistral:
    HOST = "https://api.mistral.ai/v1"

    def test_conversations_count_what_connectors_read(self) -> None:
        """Connector tokens are input, and searches are counted by connector."""
        usage = {
            "prompt_tokens": 188, "completion_tokens": 55, "total_tokens": 7355, "connector_tokens": 7112,
            "connectors": {"web_search": 1},
        }  # fmt: skip
        answer = {"conversation_id": "c", "outputs": [{"model": "mistral-medium"}], "usage": usage}
        found = exchange(f"{self.HOST}/conversations", {"model": "mistral-medium", "inputs": "hi"}, answer)
        assert found is not None
        assert counts(found) == {"input_tokens": 7300, "output_tokens": 55}
        assert found["otel_sessions.usage.web_searches"] == 1
        assert found["gen_ai.response.model"] == "mistral-medium"

    def test_conversation_streams_end_with_their_usage(self) -> None:
        """Appending to a conversation is a call too; its history is not."""
        body = events(
            {"type": "conversation.response.started", "conversation_id": "c"},
            {
                "type": "conversation.response.done",
                "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
            },
        )
        found = exchange(f"{self.HOST}/conversations/c", {"inputs": [], "stream": True}, body)
        assert counts(found) == {"input_tokens": 1, "output_tokens": 2}
        assert exchange(f"{self.HOST}/conversations/c/history", {"inputs": []}, {}) is None
        assert exchange("https://api.openai.com/v1/conversations", {"inputs": []}, {}) is None

    def test_agents_fim_and_moderation(self) -> None:
        """OpenAI's format under other paths."""
        usage = {"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
        for path, operation in (
            ("agents/completions", "chat"), ("fim/completions", "text_completion"), ("chat/moderations", "moderation"),
        ):  # fmt: skip
            found = exchange(f"{self.HOST}/{path}", {"prompt": "x"}, usage)
            assert found is not None
            assert found["gen_ai.operation.name"] == operation

    @pytest.mark.parametrize(("host", "added"), [("api.mistral.ai", False), ("api.openai.com", True)])
    def test_usage_is_not_asked_for_where_it_always_comes(self, host: str, added: bool) -> None:  # noqa: FBT001
        """The setting leaves Mistral's requests as they are."""
        target = Targets(Settings()).of(httpx2.URL(f"https://{host}/v1/chat/completions"))
        assert target is not None
        assert target.endpoint is not None
        found = target.endpoint.call(b'{"model": "m", "messages": [], "stream": true}')
        assert (found.fits, found.stream, found.lacks_usage) == (True, True, added)

    def test_ocr_is_billed_by_the_page(self) -> None:
        """Pages are no tokens; they stay in the raw usage."""
        found = exchange(
            f"{self.HOST}/ocr", {"model": "o", "document": {}}, {"model": "o", "usage_info": {"pages_processed": 3}}
        )
        assert counts(found) == {}
        assert found is not None
        assert found["otel_sessions.usage.raw"] == '{"pages_processed": 3}'


class TestWatsonx:
    HOST = "https://eu-de.ml.cloud.ibm.com/ml/v1"

    def test_results_are_summed(self) -> None:
        """Each result counts its own tokens."""
        results = [{"generated_token_count": 2, "input_token_count": 7, "stop_reason": "eos_token"}] * 2
        found = exchange(
            f"{self.HOST}/text/generation", {"model_id": "m", "input": "x"}, {"model_id": "m", "results": results}
        )
        assert counts(found) == {"input_tokens": 14, "output_tokens": 4}

    def test_streams_count_up(self) -> None:
        """The input stands in the first event, zero in the others; the output grows."""
        steps = [(8, 0, "not_finished"), (0, 5, "not_finished"), (0, 6, "eos_token")]
        body = events(*(
            {"model_id": "m", "results": [{"input_token_count": given, "generated_token_count": made, "stop_reason": reason}]}
            for given, made, reason in steps
        ))  # fmt: skip
        found = exchange(f"{self.HOST}/text/generation_stream", {"model_id": "m", "input": "x"}, body)
        assert counts(found) == {"input_tokens": 8, "output_tokens": 6}
        assert found is not None
        assert found["gen_ai.response.finish_reasons"] == ("eos_token",)

    def test_chat_and_embeddings(self) -> None:
        """Chat is OpenAI's format; embeddings count their input."""
        chat = exchange(
            f"{self.HOST}/text/chat",
            {"model_id": "m", "messages": []},
            {"usage": {"prompt_tokens": 3, "completion_tokens": 4}},
        )
        assert counts(chat) == {"input_tokens": 3, "output_tokens": 4}
        embedded = exchange(f"{self.HOST}/text/embeddings", {"model_id": "m", "inputs": []}, {"input_token_count": 9})
        assert counts(embedded) == {"input_tokens": 9}


class TestTextGenerationServers:
    def test_details_count_what_was_generated(self) -> None:
        """Without details there is no usage, with them only the output's."""
        asked = {"inputs": "hi", "parameters": {"max_new_tokens": 5}}
        answer = {"generated_text": "x", "details": {"finish_reason": "length", "generated_tokens": 5}}
        found = exchange("http://tgi:8080/generate", asked, [answer])
        assert counts(found) == {"output_tokens": 5}
        assert counts(exchange("http://tgi:8080/generate_stream", asked, events({"token": {}}, answer))) == {
            "output_tokens": 5
        }
        assert exchange("http://app/generate", {"inputs": "a report"}, {}) is None

    def test_the_root_of_a_dedicated_end_point_says_nothing(self) -> None:
        """What runs there may be any model."""
        assert exchange("https://x.endpoints.huggingface.cloud/", {"inputs": "hi", "parameters": {}}, {}) is None

    def test_models_of_the_inference_api(self) -> None:
        """The model stands in the path."""
        url = "https://router.huggingface.co/hf-inference/models/org/model"
        found = exchange(url, {"inputs": "hi", "parameters": {}}, [{"generated_text": "x"}])
        assert found is not None
        assert found["gen_ai.request.model"] == "org/model"
        embedded = exchange(f"{url}/pipeline/feature-extraction", {"inputs": ["a"]}, [[0.1]])
        assert embedded is not None
        assert embedded["gen_ai.operation.name"] == "embeddings"
        assert exchange(url, {"inputs": {"image": "x"}}, []) is None


class TestReplicate:
    def test_creating_a_prediction_is_the_call(self) -> None:
        """A model that writes text counts its tokens once it is through; cancelling is control."""
        answer = {
            "id": "p",
            "model": "meta/llama",
            "status": "succeeded",
            "metrics": {"input_token_count": 3, "output_token_count": 4},
        }
        found = exchange(
            "https://api.replicate.com/v1/models/meta/llama/predictions", {"input": {"prompt": "x"}}, answer
        )
        assert counts(found) == {"input_tokens": 3, "output_tokens": 4}
        assert found is not None
        assert found["gen_ai.request.model"] == "meta/llama"
        assert exchange("https://api.replicate.com/v1/predictions/p/cancel", {}, {}) is None


class TestDashScope:
    HOST = "https://dashscope.aliyuncs.com/api/v1/services"

    @pytest.mark.parametrize(
        ("usage", "expected"),
        [
            ({"input_tokens": 4, "image_tokens": 30, "total_tokens": 34}, 34),
            ({"input_tokens": 4, "image_tokens": 30}, 34),
            ({"input_tokens": 34, "input_tokens_details": {"text_tokens": 4, "image_tokens": 30}}, 34),
        ],
        ids=["with their sum", "without", "with details"],
    )
    def test_images_are_beside_the_text_of_embeddings(self, usage: dict[str, Any], expected: int) -> None:
        """Unless the details say of what the input is made."""
        url = f"{self.HOST}/embeddings/multimodal-embedding/multimodal-embedding"
        found = exchange(url, {"model": "m", "input": {"contents": []}}, {"output": {}, "usage": usage})
        assert counts(found) == {"input_tokens": expected, "image.input_tokens": 30}

    def test_images_are_part_of_what_is_read(self) -> None:
        """They stand beside the input, but are counted in it."""
        usage = {"input_tokens": 34, "image_tokens": 30, "video_tokens": 2, "output_tokens": 5}
        url = f"{self.HOST}/aigc/multimodal-generation/generation"
        found = exchange(url, {"model": "m", "input": {"messages": []}}, {"output": {}, "usage": usage})
        parts = {"image.input_tokens": 30, "video.input_tokens": 2}
        assert counts(found) == {"input_tokens": 34, "output_tokens": 5, **parts}


class TestMeta:
    URL = "https://api.llama.com/v1/chat/completions"
    METRICS: ClassVar = [
        {"metric": "num_completion_tokens", "value": 4, "unit": "tokens"},
        {"metric": "num_prompt_tokens", "value": 3.0, "unit": "tokens"},
        {"metric": ["odd"], "value": 1},
    ]

    @pytest.mark.parametrize(
        "answer",
        [
            {"id": "i", "completion_message": {"content": {}, "stop_reason": "length"}, "metrics": METRICS},
            events({"id": "i", "event": {"event_type": "start", "delta": {"text": ""}}},
                   {"id": "i", "event": {"event_type": "complete", "stop_reason": "length"}},
                   {"id": "i", "event": {"event_type": "metrics", "metrics": METRICS}}),
        ],
        ids=["document", "stream"],
    )  # fmt: skip
    def test_the_llama_api_measures(self, answer: Any) -> None:
        """Its usage is a list of metrics; what else they are is left out."""
        found = exchange(self.URL, CHAT, answer)
        assert counts(found) == {"input_tokens": 3, "output_tokens": 4}
        assert found is not None
        assert (found["gen_ai.provider.name"], found["gen_ai.response.id"]) == ("meta", "i")
        assert found["gen_ai.response.finish_reasons"] == ("length",)

    @pytest.mark.parametrize(
        "url", ["https://api.meta.ai/v1/chat/completions", "https://api.llama.com/compat/v1/chat/completions"]
    )
    def test_its_other_paths_speak_as_openai_does(self, url: str) -> None:
        """So the same end point reads both."""
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        found = exchange(url, CHAT, {"choices": [{"finish_reason": "stop"}], "usage": usage})
        assert counts(found) == {"input_tokens": 3, "output_tokens": 4}
