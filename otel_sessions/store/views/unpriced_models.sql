CREATE OR REPLACE VIEW unpriced_models /*on_cluster*/
(
    provider LowCardinality(String) COMMENT 'provider called',
    model LowCardinality(String) COMMENT 'model for which the price book has no price',
    calls UInt64 COMMENT 'calls with known usage and no price',
    input_tokens UInt64 COMMENT 'input tokens of these calls',
    output_tokens UInt64 COMMENT 'output tokens of these calls',
    total_tokens UInt64 COMMENT 'input_tokens + output_tokens',
    first_seen DateTime64(9, 'UTC') COMMENT 'start of the first such call',
    last_seen DateTime64(9, 'UTC') COMMENT 'start of the last such call'
)
COMMENT 'One row per provider and model with calls that could not be priced.'
AS
SELECT
    r.provider AS provider,
    r.model AS model,
    sum(r.unpriced_calls) AS calls,
    sum(r.unpriced_input_tokens) AS input_tokens,
    sum(r.unpriced_output_tokens) AS output_tokens,
    input_tokens + output_tokens AS total_tokens,
    min(r.unpriced_first_seen) AS first_seen,
    max(r.unpriced_last_seen) AS last_seen
FROM model_rollup AS r
WHERE r.unpriced_calls > 0
GROUP BY provider, model
-- Calls that were priced later are taken off by rows of their own.
HAVING calls > 0;
