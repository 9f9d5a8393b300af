"""Every end point of the providers' SDKs, and the hosts that they are served on: which are calls, of what, by whom."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from exchanges import counts, events, exchange
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sessions.base.settings import Settings
from otel_sessions.capture.target import Targets

VERTEX = "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/l"
CALLS: dict[str, tuple[str, str]] = {
    # OpenAI, and those who have its paths
    "https://api.openai.com/v1/chat/completions": ("chat", "openai"),
    "https://api.openai.com/v1/responses?beta=true": ("chat", "openai"),
    "https://api.openai.com/v1/decisions": ("generate_content", "openai"),
    "https://openrouter.ai/api/v1/systemone": ("generate_content", "openrouter"),
    "https://openrouter.ai/api/v1/messages": ("chat", "openrouter"),
    "https://models.github.ai/orgs/o/inference/chat/completions": ("chat", "github"),
    "https://ai-gateway.vercel.sh/v1/chat/completions": ("chat", "vercel"),
    "https://us.inference.heroku.com/v1/chat/completions": ("chat", "heroku"),
    "https://api.business.githubcopilot.com/chat/completions": ("chat", "github-copilot"),
    "https://api.deepseek.com/beta/completions": ("text_completion", "deepseek"),
    "https://api.moonshot.cn/v1/chat/completions": ("chat", "moonshot_ai"),
    "https://api.moonshot.ai/anthropic/v1/messages": ("chat", "moonshot_ai"),
    "https://open.bigmodel.cn/api/paas/v4/chat/completions": ("chat", "zhipuai"),
    "https://api.z.ai/api/anthropic/v1/messages": ("chat", "z_ai"),
    "https://dashscope-us.aliyuncs.com/compatible-mode/v1/chat/completions": ("chat", "alibaba_cloud"),
    "https://w.cn-beijing.maas.aliyuncs.com/compatible-mode/v1/responses": ("chat", "alibaba_cloud"),
    "https://api.sambanova.ai/v1/chat/completions": ("chat", "sambanova"),
    "https://api.minimax.io/v1/text/chatcompletion_v2": ("chat", "minimax"),
    "https://ark.cn-beijing.volces.com/api/v3/chat/completions": ("chat", "volcengine"),
    "https://ark.cn-beijing.volces.com/api/v3/embeddings/multimodal": ("embeddings", "volcengine"),
    "https://dashscope.aliyuncs.com/compatible-api/v1/reranks": ("rerank", "alibaba_cloud"),
    "https://api.llama.com/v1/chat/completions": ("chat", "meta"),
    "https://eu-west-1.api.x.ai/v1/responses": ("chat", "x_ai"),
    "https://api.reka.ai/v1/chat": ("chat", "reka"),
    # Azure
    "https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=1": ("chat", "azure.ai.openai"),
    "https://x.openai.azure.us/openai/v1/responses": ("chat", "azure.ai.openai"),
    "https://x.services.ai.azure.com/models/embeddings": ("embeddings", "azure.ai.inference"),
    "https://x.services.ai.azure.com/openai/v1/chat/completions": ("chat", "azure.ai.openai"),
    "https://x.services.ai.azure.com/anthropic/v1/messages": ("chat", "azure.ai.inference"),
    "https://x.services.ai.azure.com/providers/cohere/v2/rerank": ("rerank", "azure.ai.inference"),
    "https://x.services.ai.azure.com/providers/mistral/azure/ocr": ("generate_content", "azure.ai.inference"),
    "https://m.eastus2.inference.ai.azure.com/v1/chat/completions": ("chat", "azure.ai.inference"),
    # Google
    f"{VERTEX}/publishers/anthropic/models/claude:rawPredict": ("chat", "gcp.vertex_ai"),
    f"{VERTEX}/publishers/ai21/models/jamba:rawPredict": ("chat", "gcp.vertex_ai"),
    f"{VERTEX}/publishers/mistralai/models/mistral:streamRawPredict": ("chat", "gcp.vertex_ai"),
    f"{VERTEX}/endpoints/openapi/chat/completions": ("chat", "gcp.vertex_ai"),
    "https://aiplatform.eu.rep.googleapis.com/v1/projects/p/locations/eu/publishers/anthropic/models/c:streamRawPredict":
        ("chat", "gcp.vertex_ai"),
    "https://aiplatform.mtls.googleapis.com/v1/publishers/google/models/g:generateContent":
        ("generate_content", "gcp.vertex_ai"),
    # Amazon
    "https://bedrock-runtime-fips.us-east-1.amazonaws.com/model/m/converse": ("chat", "aws.bedrock"),
    "https://bedrock-runtime.us-east-1.api.aws/model/m/invoke": ("chat", "aws.bedrock"),
    "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1/chat/completions": ("chat", "aws.bedrock"),
    "https://aws-external-anthropic.us-east-1.api.aws/v1/messages": ("chat", "anthropic"),
    # Others with paths of their own
    "https://api.eu.mistral.ai/v1/fim/completions": ("text_completion", "mistral_ai"),
    "https://api.mistral.ai/v1/conversations/c/restart": ("chat", "mistral_ai"),
    "https://api.cohere.com/v1/summarize": ("text_completion", "cohere"),
    "https://api.cohere.com/v2/parse": ("generate_content", "cohere"),
    "https://api.cohere.ai/compatibility/v1/chat/completions": ("chat", "cohere"),
    "https://api.perplexity.ai/v1/contextualizedembeddings": ("embeddings", "perplexity"),
    "https://ai.mongodb.com/v1/multimodalembeddings": ("embeddings", "voyage"),
    "https://api.jina.ai/v1/rerank": ("rerank", "jina"),
    "https://api.writer.com/v1/vision": ("generate_content", "writer"),
    "https://api.z.ai/api/paas/v4/layout_parsing": ("generate_content", "z_ai"),
    "https://dashscope-intl.aliyuncs.com/api/v1/services/aigc/text-generation/generation": ("chat", "alibaba_cloud"),
    "https://us-south.ml.cloud.ibm.com/ml/v1/text/chat_stream?version=1": ("chat", "ibm.watsonx.ai"),
    "https://ap-south-1.aws.wxai.ibm.com/ml/v1/text/chat": ("chat", "ibm.watsonx.ai"),
    # Cloudflare's gateway, which names whom it asks
    "https://gateway.ai.cloudflare.com/v1/acc/gw/groq/chat/completions": ("chat", "groq"),
    "https://gateway.ai.cloudflare.com/v1/acc/gw/cohere/v2/chat": ("chat", "cohere"),
    "https://gateway.ai.cloudflare.com/v1/acc/gw/aws-bedrock/bedrock-runtime/us-east-1/model/m/converse":
        ("chat", "aws.bedrock"),
    "https://gateway.ai.cloudflare.com/v1/acc/gw/compat/chat/completions": ("chat", "cloudflare"),
    "https://gateway.ai.cloudflare.com/v1/acc/gw/workers-ai/@cf/meta/llama": ("chat", "cloudflare"),
}  # fmt: skip


@pytest.mark.parametrize("url", CALLS)
def test_calls(url: str) -> None:
    """Host and path suffice to know them."""
    found = Targets(Settings()).of(httpx2.URL(url))
    assert found is not None
    assert (found.endpoint.operation, found.provider, found.certain) == (*CALLS[url], True)


# By host, the paths of the SDKs that manage, count, poll, schedule, search or speak another protocol.
CONTROL: dict[str, str] = {
    "https://api.openai.com/v1/": """agents agents/sessions agents/sessions/s/events assistants audio/voices audio/voice_consents batches
        chat/completions/c chatkit/sessions containers containers/c/files content_provenance_checks conversations
        conversations/c/items evals evals/e/runs files fine_tuning/jobs fine_tuning/alpha/graders/run live/sessions
        models organization/projects realtime/calls realtime/sessions responses/r responses/r/cancel
        responses/input_tokens skills threads threads/t/messages threads/t/runs threads/runs threads/t/runs/r/submit_tool_outputs
        uploads uploads/u/parts vector_stores vector_stores/v/search vector_stores/v/file_batches videos videos/v/remix""",
    "https://api.anthropic.com/v1/": """agents deployments/d/run dreams environments files memory_stores messages/batches messages/batches/b/cancel
        messages/count_tokens models sessions sessions/s/events skills user_profiles vaults""",
    "https://generativelanguage.googleapis.com/v1beta/": """batches/b:cancel cachedContents fileSearchStores files interactions/i/cancel
        models/m:asyncBatchEmbedContent models/m:batchGenerateContent models/m:countTokens models/m:predictLongRunning
        operations/o tunedModels""",
    f"{VERTEX}/": """batchPredictionJobs cachedContents endpoints/1:predict publishers/anthropic/models/count-tokens:rawPredict
        publishers/google/models/g:computeTokens publishers/google/models/g:countTokens publishers/google/models/veo:predictLongRunning
        ragCorpora reasoningEngines/1:streamQuery tuningJobs""",
    "https://api.mistral.ai/v1/": """agents audio/voices batch/jobs chat/classifications classifications conversations/c/history
        conversations/c/messages files fine_tuning/jobs libraries models observability/spans/search responses/input_tokens""",
    "https://api.cohere.com/": """v1/check-api-key v1/classify v1/connectors v1/datasets v1/detokenize v1/embed-jobs v1/embed-jobs/e/cancel
        v1/finetuning/finetuned-models v1/models v1/tokenize""",
    "https://api.together.xyz/v1/": "batches deployments endpoints evaluation files fine-tunes models queue/submit tci/execute videos",
    "https://api.groq.com/openai/v1/": "batches files fine_tunings models",
    "https://api.perplexity.ai/": "search v1/batches v1/browser/sessions v1/files v1/responses/r/cancel v1/skills",
    "https://api.writer.com/v1/": "applications/a/jobs files graphs graphs/g/file tools/pdf-parser/f tools/web-search",
    "https://api.fireworks.ai/": "v1/accounts/a/models api/v1/forward_backward api/v1/asample",
    "https://bedrock-runtime.us-east-1.amazonaws.com/": "async-invoke guardrail/g/version/1/apply model/m/count-tokens",
    "https://x.openai.azure.com/openai/": "assistants batches deployments/d files threads/t/runs v1/evals v1/files v1/vector_stores",
    "https://openrouter.ai/api/v1/": "auth/keys credits credits/coinbase generation keys models",
    "http://localhost:11434/api/": "blobs/b copy create delete ps pull push show tags",
    "http://localhost:8000/": "tokenize detokenize v1/tokenize pooling score v1/score classify health load",
    "https://api.replicate.com/v1/": "deployments files models/o/m predictions/p/cancel trainings",
    "https://router.huggingface.co/": "api/models/o/m v1/models",
}  # fmt: skip
_BODY = {
    "model": "m", "messages": [], "input": "x", "prompt": "x", "inputs": "x", "contents": [], "parameters": {}, "questions": [],
}  # fmt: skip


@pytest.mark.parametrize(("host", "path"), [(host, path) for host, paths in CONTROL.items() for path in paths.split()])
def test_control_calls_are_no_calls(host: str, path: str) -> None:
    """Whatever their body looks like, and even if their answer carries usage."""
    assert exchange(host + path, _BODY, {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}) is None


@pytest.mark.parametrize("url", CALLS)
def test_only_posting_is_a_call(url: str, exporter: InMemorySpanExporter) -> None:
    """The paths of calls serve what they made as well: polling is free."""
    with httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, json={}))) as client:
        for method in ("GET", "DELETE", "PATCH", "PUT", "OPTIONS"):
            client.request(method, url)
        assert exporter.get_finished_spans() == ()
        client.post(url)
    assert len(exporter.get_finished_spans()) == 1


PLAIN = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
READ = {"input_tokens": 3, "output_tokens": 4}
CHAT = {"model": "m", "messages": []}
CLOUDFLARE = "https://api.cloudflare.com/client/v4/accounts/a/ai/run/@cf/meta/llama-3"
DASHSCOPE = "https://dashscope-intl.aliyuncs.com/api/v1/services"
DATABRICKS = "https://w.azuredatabricks.net/serving-endpoints/m/invocations"

# URL, request, answer; then operation, provider, requested model and usage.
EXCHANGES: dict[str, tuple[str, Any, Any, tuple[str, str, str | None, dict[str, int]]]] = {
    "workers ai": (CLOUDFLARE, {"messages": []}, {"result": {"response": "x", "usage": PLAIN}, "success": True},
                   ("chat", "cloudflare", "@cf/meta/llama-3", READ)),
    "workers ai, streamed": (CLOUDFLARE, {"prompt": "x", "stream": True}, events({"response": "x"}, {"response": "", "usage": PLAIN}),
                             ("text_completion", "cloudflare", "@cf/meta/llama-3", READ)),
    "databricks chat": (DATABRICKS, {"messages": []}, {"usage": PLAIN}, ("chat", "databricks", "m", READ)),
    "databricks embeddings": (DATABRICKS, {"input": ["x"]}, {"usage": {"prompt_tokens": 3}}, ("embeddings", "databricks", "m", {"input_tokens": 3})),
    "snowflake": ("https://o.snowflakecomputing.com/api/v2/cortex/inference:complete", CHAT,
                  events({"id": "i", "model": "m", "usage": {}}, {"usage": PLAIN}), ("chat", "snowflake", "m", READ)),
    "snowflake embeddings": ("https://o.snowflakecomputing.com/api/v2/cortex/inference:embed", {"model": "m", "text": ["x"]},
                             {"object": "list", "data": [], "model": "m", "usage": {"total_tokens": 3}},
                             ("embeddings", "snowflake", "m", {"input_tokens": 3})),
    "pages on z.ai": ("https://api.z.ai/api/paas/v4/layout_parsing", {"model": "m", "file": "https://x/y.pdf"},
                      {"id": "i", "model": "M", "usage": PLAIN}, ("generate_content", "z_ai", "m", READ)),
    "dashscope": (f"{DASHSCOPE}/aigc/text-generation/generation", {"model": "m", "input": {"messages": []}},
                  {"request_id": "r", "output": {"choices": [{"finish_reason": "stop"}]}, "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}},
                  ("chat", "alibaba_cloud", "m", READ)),
    "dashscope, streamed": (f"{DASHSCOPE}/aigc/multimodal-generation/generation", {"model": "m", "input": {"messages": []}},
                            events({"output": {"choices": [{"finish_reason": "null"}]}, "usage": {"input_tokens": 3, "output_tokens": 1}},
                                   {"output": {"choices": [{"finish_reason": "stop"}]}, "usage": {"input_tokens": 3, "output_tokens": 4}}),
                            ("generate_content", "alibaba_cloud", "m", READ)),
    "dashscope embeddings": (f"{DASHSCOPE}/embeddings/text-embedding/text-embedding", {"model": "m", "input": {"texts": ["x"]}},
                             {"output": {"embeddings": []}, "usage": {"total_tokens": 3}}, ("embeddings", "alibaba_cloud", "m", {"input_tokens": 3})),
    "dashscope ranking": (f"{DASHSCOPE}/rerank/text-rerank/text-rerank", {"model": "m", "input": {"query": "x", "documents": ["y"]}},
                          {"output": {"results": []}, "usage": {"total_tokens": 3}}, ("rerank", "alibaba_cloud", "m", {"input_tokens": 3})),
    "minimax": ("https://api.minimax.io/v1/text/chatcompletion_v2", CHAT,
                {"id": "i", "choices": [{"finish_reason": "stop"}], "usage": PLAIN, "base_resp": {"status_code": 0}}, ("chat", "minimax", "m", READ)),
    "vertex, behind a gateway": ("http://gateway/vertex/publishers/anthropic/models/claude:streamRawPredict",
                                 {"anthropic_version": "vertex-2023-10-16", "messages": []}, {"usage": {"input_tokens": 3, "output_tokens": 4}},
                                 ("chat", "anthropic", "claude", READ)),
    "vertex, another maker": (f"{VERTEX}/publishers/ai21/models/jamba:rawPredict", {"messages": []}, {"usage": PLAIN},
                              ("chat", "gcp.vertex_ai", "jamba", READ)),
    "a prompt kept by a gateway": ("https://api.portkey.ai/v1/prompts/pp-1/completions", {"variables": {"x": "y"}},
                                   {"id": "i", "object": "chat.completion", "model": "m", "usage": PLAIN}, ("chat", "openai", None, READ)),
    "ranking on watsonx": ("https://us-south.ml.cloud.ibm.com/ml/v1/text/rerank", {"model_id": "m", "inputs": [], "query": "x"},
                           {"model_id": "m", "results": [{"index": 0, "score": 1}], "input_token_count": 3},
                           ("rerank", "ibm.watsonx.ai", "m", {"input_tokens": 3})),
    "ranking of passages": ("https://ai.api.nvidia.com/v1/retrieval/nvidia/reranking", {"model": "m", "query": {"text": "x"}, "passages": []},
                            {"rankings": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}}, ("rerank", "nvidia", "m", {"input_tokens": 3})),
    "nvidia's own server": ("http://nim:8000/v1/ranking", {"model": "m", "query": {"text": "x"}, "passages": [{"text": "y"}]},
                            {"rankings": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}}, ("rerank", "cohere", "m", {"input_tokens": 3})),
    "ark, images": ("https://ark.cn-beijing.volces.com/api/v3/embeddings/multimodal", {"model": "m", "input": [{"type": "image_url"}]},
                    {"data": {"embedding": []}, "usage": {"prompt_tokens": 5, "prompt_tokens_details": {"image_tokens": 4}}},
                    ("embeddings", "volcengine", "m", {"input_tokens": 5, "image.input_tokens": 4})),
    "cohere, behind a gateway": ("http://gateway:4000/cohere/v2/chat", CHAT,
                                 {"usage": {"billed_units": {"input_tokens": 3, "output_tokens": 4}}}, ("chat", "cohere", "m", READ)),
    "ollama, behind a gateway": ("http://webui:3000/ollama/api/generate", {"model": "m", "prompt": "x"},
                                 {"model": "m", "prompt_eval_count": 3, "eval_count": 4}, ("text_completion", "ollama", "m", READ)),
    "mistral, behind a gateway": ("http://gateway:4000/mistral/v1/conversations", {"model": "m", "inputs": "x"}, {"usage": PLAIN},
                                  ("chat", "mistral_ai", "m", READ)),
    "system one": ("http://localhost:11434/v1/systemone", {"model": "m", "state": "x", "questions": {"q": {}}},
                   {"model": "m", "usage": {"input_tokens": 3, "output_tokens": 4}}, ("generate_content", "ollama", "m", READ)),
    "summaries": ("https://api.cohere.com/v1/summarize", {"text": "x", "model": "m"},
                  {"summary": "x", "meta": {"billed_units": {"input_tokens": 3, "output_tokens": 4}}}, ("text_completion", "cohere", "m", READ)),
    "parsed pages": ("https://api.cohere.com/v2/parse", {"model": "m"}, {"id": "i", "pages": [], "meta": {"billed_units": {"pages": 3}}},
                     ("generate_content", "cohere", "m", {})),
}  # fmt: skip


@pytest.mark.parametrize("name", EXCHANGES)
def test_exchanges(name: str) -> None:
    """Model and usage, wherever they stand."""
    url, asked, answer, (operation, provider, model, usage) = EXCHANGES[name]
    found = exchange(url, asked, answer)
    assert found is not None
    assert (found["gen_ai.operation.name"], found["gen_ai.provider.name"]) == (operation, provider)
    assert found.get("gen_ai.request.model") == model
    assert counts(found) == usage


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://api.cloudflare.com/client/v4/accounts/a/ai/run/@cf/openai/whisper", {"audio": [1]}),
        (DATABRICKS, {"dataframe_records": []}),
        ("https://o.snowflakecomputing.com/api/v2/statements", {"statement": "SELECT 1"}),
        ("http://gateway/publishers/anthropic/models/claude:rawPredict", {"instances": []}),
        ("http://app.internal/prompts/1/completions", {"text": "x"}),
        ("http://app.internal/ocr", {"document": {}}),
        ("http://app.internal/cohere/v2/chat", {"message": {"to": "x"}}),
        ("http://app.internal/v2/chat/cohere", CHAT),
        ("http://app.internal/v1/vision", CHAT),
        ("http://app.internal/v1/ranking", {"model": "m", "query": "x", "season": 3}),
        ("https://notaiplatform.example/aiplatform.googleapis.com/x:rawPredict", CHAT),
    ],
)
def test_what_shares_a_path_or_a_host_with_them(url: str, asked: Any) -> None:
    """Hosts that serve anything are asked for the body as well."""
    assert exchange(url, asked, {"usage": PLAIN}) is None
