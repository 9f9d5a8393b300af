// Prints the spans of the Vercel AI SDK, like golden_agent.py, against a server on loopback: node golden_ai_sdk.mjs URL
// Needs ai, @ai-sdk/openai, @ai-sdk/anthropic, @opentelemetry/api, @opentelemetry/sdk-trace-node from npm.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { trace } from "@opentelemetry/api";
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-node";
import { embed, generateObject, generateText, jsonSchema, streamText } from "ai";

const [url] = process.argv.slice(2);
const memory = new InMemorySpanExporter();
new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(memory)] }).register();
const openai = createOpenAI({ apiKey: "k", baseURL: `${url}/v1` });
const claude = createAnthropic({ apiKey: "k", baseURL: `${url}/v1` });
const more = { prompt: "hello", maxRetries: 0, experimental_telemetry: { isEnabled: true }, onError: () => {} };
const read = async (result) => { for await (const _ of result.textStream); await result.totalUsage; };
const exchanges = {
  chat: () => generateText({ ...more, model: openai.chat("gpt-4o") }),
  "chat-stream": () => read(streamText({ ...more, model: openai.chat("gpt-4o") })),
  responses: () => generateText({ ...more, model: openai("gpt-4o") }),
  "responses-stream": () => read(streamText({ ...more, model: openai("gpt-4o") })),
  messages: () => generateText({ ...more, model: claude("claude-sonnet-4-5") }),
  "messages-stream": () => read(streamText({ ...more, model: claude("claude-sonnet-4-5") })),
  embeddings: () => embed({ ...more, model: openai.embedding("text-embedding-3-small"), value: "hello" }),
  error: () => generateText({ ...more, model: openai.chat("no-such-model") }),
};
for (const [name, make] of Object.entries(exchanges)) {
  const attributes = { "session.id": "ai-sdk/itself", "session.path": `/${name}` };
  await trace.getTracer("agent").startActiveSpan("step", { attributes }, async (span) => {
    await make().catch(() => {});
    span.end();
  });
}
const nanoseconds = ([seconds, rest]) => seconds * 1e9 + rest;
const kinds = ["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];
const spans = memory.getFinishedSpans().map((span) => ({
  trace: span.spanContext().traceId, id: span.spanContext().spanId, parent: span.parentSpanContext?.spanId ?? "",
  scope: span.instrumentationScope.name, name: span.name, kind: kinds[span.kind],
  start: nanoseconds(span.startTime), end: nanoseconds(span.endTime),
  status: ["UNSET", "OK", "ERROR"][span.status.code], attributes: span.attributes,
  events: span.events.map((event) => [event.name, nanoseconds(event.time), event.attributes ?? {}]),
}));
console.log(JSON.stringify({ run: "ai-sdk/itself", spans }));
