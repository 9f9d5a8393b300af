-- Calls whose price changed, while they are being priced anew (Store.reprice): what they cost before and after. Empty
-- at other times; what a crash leaves here is finished by the next run.
CREATE TABLE IF NOT EXISTS repricing /*on_cluster*/
(
    run String,
    key UInt128,
    session_id String,
    session_name String,
    path String,
    started_at DateTime64(9, 'UTC'),
    ended_at DateTime64(9, 'UTC'),
    provider LowCardinality(String),
    model LowCardinality(String),
    input_tokens UInt64,
    output_tokens UInt64,
    old_usd Nullable(Decimal(38, 12)),
    old_status LowCardinality(String),
    cost_usd Nullable(Decimal(38, 12)),
    cost_status LowCardinality(String),
    cost_source LowCardinality(String)
)
ENGINE = /*replicated*/MergeTree
ORDER BY (run, session_id, started_at);

-- The same by call, for the update of llm_calls, which cannot join.
CREATE TABLE IF NOT EXISTS repriced /*on_cluster*/
(
    key UInt128,
    cost_usd Nullable(Decimal(38, 12)),
    cost_status String,
    cost_source String
)
ENGINE = Join(ANY, LEFT, key);
