"""LLM sessions on OpenTelemetry and ClickHouse."""
