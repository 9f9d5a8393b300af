"""The wire formats, one file each. A new provider with its own format is one file and one line here.

wire       what a format is made of
openai     chat completions, completions, embeddings, Responses
anthropic  messages
gemini     generateContent, embedContent
"""

from __future__ import annotations

from otel_sessions.capture.formats import anthropic, gemini, openai
from otel_sessions.capture.formats.wire import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (*openai.ENDPOINTS, *anthropic.ENDPOINTS, *gemini.ENDPOINTS)
"""In the order in which they are tried: the first whose path matches is taken."""
