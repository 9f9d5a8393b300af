"""The wire formats, one file each. A new provider with its own format is one file and one line here.

wire          what a format is made of
openai        chat completions, completions, embeddings, Responses, of all who speak so
media         OpenAI's images, speech, transcription, moderation
anthropic     messages
gemini        generateContent, embeddings
interactions  Google's Interactions API
bedrock       Converse, InvokeModel
cohere        chat, generate, embed
rerank        ranking, whoever does it
mistral       conversations, OCR
ollama        chat, generate, embed
meta          the Llama API
watsonx       text generation, chat, embeddings
huggingface   text generation servers
cloudflare    Workers AI
dashscope     Alibaba Cloud: generation, embeddings, ranking
replicate     predictions
"""

from __future__ import annotations

from otel_sessions.capture.formats import (
    anthropic,
    bedrock,
    cloudflare,
    cohere,
    dashscope,
    gemini,
    huggingface,
    interactions,
    media,
    meta,
    mistral,
    ollama,
    openai,
    replicate,
    rerank,
    watsonx,
)
from otel_sessions.capture.formats.wire import Endpoint

_FORMATS = (
    watsonx, interactions, gemini, openai, anthropic, bedrock, media, cohere, rerank, mistral, ollama, huggingface,
    cloudflare, dashscope, replicate, meta,
)  # fmt: skip

ENDPOINTS: tuple[Endpoint, ...] = tuple(endpoint for form in _FORMATS for endpoint in form.ENDPOINTS)
"""In the order in which they are tried: the first whose path matches, on such a host, is taken."""
