-- The price book, and the one place where a call gets its price, whoever wrote its span.
-- Prices are in US dollars, per million tokens; request and web_search per thousand. NULL: such tokens are not billed.
-- A row holds from valid_from on, each day from time_from (seconds since midnight UTC), for calls with more than
-- tier_start input tokens (0: all), answered on service_tier (empty: any that has no row of its own). Of the rows that
-- hold for a call those of its own service tier win, then the user's over the book's, then the latest. A call that had to
-- be answered in a region has `regional` before its tier: `regional flex` wins over `regional`, that over `flex`.
CREATE TABLE IF NOT EXISTS model_prices /*on_cluster*/
(
    provider LowCardinality(String) COMMENT 'gen_ai.provider.name as on the span',
    model String COMMENT 'model as on the span',
    service_tier LowCardinality(String) COMMENT 'tier of the response, `regional` before it for calls that had to be answered in one region; empty: every tier that has no row of its own',
    origin LowCardinality(String) COMMENT 'book, or user: such rows win',
    valid_from DateTime('UTC') COMMENT 'holds for calls that start then or later',
    time_from UInt32 COMMENT 'holds each day from this second on, since midnight UTC',
    tier_start UInt64 COMMENT 'holds for calls with more input tokens than this; 0: all',
    input Nullable(Decimal(38, 18)) COMMENT 'US dollars per million input tokens that are of none of the kinds below; NULL: not billed',
    cached_input Nullable(Decimal(38, 18)) COMMENT 'read from the provider''s cache',
    cache_write Nullable(Decimal(38, 18)) COMMENT 'written to the provider''s cache',
    cache_write_1h Nullable(Decimal(38, 18)) COMMENT 'written to the cache for an hour',
    audio_input Nullable(Decimal(38, 18)) COMMENT 'audio',
    cached_audio_input Nullable(Decimal(38, 18)) COMMENT 'audio read from the cache',
    image_input Nullable(Decimal(38, 18)) COMMENT 'images',
    cached_image_input Nullable(Decimal(38, 18)) COMMENT 'images read from the cache',
    video_input Nullable(Decimal(38, 18)) COMMENT 'video',
    output Nullable(Decimal(38, 18)) COMMENT 'US dollars per million output tokens that are of none of the kinds below; NULL: not billed',
    reasoning Nullable(Decimal(38, 18)) COMMENT 'reasoning',
    audio_output Nullable(Decimal(38, 18)) COMMENT 'audio',
    image_output Nullable(Decimal(38, 18)) COMMENT 'images',
    video_output Nullable(Decimal(38, 18)) COMMENT 'video',
    request Nullable(Decimal(38, 18)) COMMENT 'US dollars per thousand calls',
    web_search Nullable(Decimal(38, 18)) COMMENT 'US dollars per thousand searches that the provider made',
    source String COMMENT 'where the prices come from, in words',
    version UInt64 COMMENT 'of two rows under one condition the larger counts',
    id UInt64 MATERIALIZED sipHash64(provider, model, service_tier, origin, valid_from, time_from, tier_start, version),
    -- Sorts in the order in which the rows of a model are tried.
    condition Tuple(tier_rank UInt8, from_book Bool, negative_since Int64, negative_time Int64, negative_start Int64, negative_version Int64, tier String, id UInt64)
        MATERIALIZED (multiIf(service_tier = '', 3, service_tier = 'regional', 1, startsWith(service_tier, 'regional '), 0, 2), origin != 'user', -toInt64(toUnixTimestamp(valid_from)), -toInt64(time_from), -toInt64(tier_start), -toInt64(version), toString(service_tier), id),
    bills_input Bool MATERIALIZED input IS NOT NULL,
    bills_output Bool MATERIALIZED output IS NOT NULL,
    -- What one more of each count of usage adds to the cost while the totals stay as they are; the order is that of
    -- `counts` below. Input and output are totals, so a cached token costs the difference to an uncached one, and one
    -- that is counted both as cached and as audio what corrects the sum of the two.
    weights Array(Decimal(38, 18)) MATERIALIZED [
        ifNull(input, 0),
        ifNull(cached_input, 0) - ifNull(input, 0),
        ifNull(cache_write, 0) - ifNull(input, 0),
        ifNull(output, 0),
        ifNull(reasoning, 0) - ifNull(output, 0),
        ifNull(cache_write_1h, 0) - ifNull(cache_write, 0),
        ifNull(audio_input, 0) - ifNull(input, 0),
        ifNull(cached_audio_input, 0) - ifNull(audio_input, 0) - ifNull(cached_input, 0) + ifNull(input, 0),
        ifNull(image_input, 0) - ifNull(input, 0),
        ifNull(cached_image_input, 0) - ifNull(image_input, 0) - ifNull(cached_input, 0) + ifNull(input, 0),
        ifNull(video_input, 0) - ifNull(input, 0),
        ifNull(audio_output, 0) - ifNull(output, 0),
        ifNull(image_output, 0) - ifNull(output, 0),
        ifNull(video_output, 0) - ifNull(output, 0),
        1000 * ifNull(web_search, 0),
        1000 * ifNull(request, 0)
    ]
)
ENGINE = /*replicated*/ReplacingMergeTree(version)
ORDER BY (provider, model, service_tier, origin, valid_from, time_from, tier_start);

CREATE MATERIALIZED VIEW IF NOT EXISTS typed_spans_mv /*on_cluster*/ TO typed_spans AS
SELECT
    * EXCEPT (is_known, is_free, is_provided, given_cost, given_source, book_source, book_id),
    multiIf(NOT is_llm, '', is_provided, 'provided', cost_usd IS NOT NULL, 'priced', is_known, 'unpriced', 'no_usage') AS cost_status,
    multiIf(is_free, 'not billed', is_provided OR book_id = 0, given_source, cost_usd IS NULL, '', book_source) AS cost_source,
    false AS is_correction,
    toUInt64(is_billable) AS counted_calls,
    toUInt64(is_billable AND status = 'error') AS counted_errors,
    is_billable * duration_ns AS counted_ns,
    is_billable * ifNull(input_tokens, 0) AS counted_input_tokens,
    is_billable * ifNull(cached_input_tokens, 0) AS counted_cached_tokens,
    is_billable * ifNull(cache_write_tokens, 0) AS counted_cache_write_tokens,
    is_billable * ifNull(output_tokens, 0) AS counted_output_tokens,
    is_billable * ifNull(reasoning_tokens, 0) AS counted_reasoning_tokens,
    if(is_billable, ifNull(cost_usd, 0), 0) AS counted_cost_usd,
    toUInt64(is_billable AND cost_usd IS NOT NULL) AS costed_calls,
    toUInt64(is_billable AND cost_usd IS NULL AND is_known) AS unpriced_calls,
    if(cost_usd IS NULL AND is_known, counted_input_tokens, 0) AS unpriced_input_tokens,
    if(cost_usd IS NULL AND is_known, counted_output_tokens, 0) AS unpriced_output_tokens,
    toUInt64(is_billable AND cost_usd IS NULL AND NOT is_known) AS no_usage_calls,
    toUInt64(is_billable AND is_free) AS unbilled_calls
FROM
(
    SELECT
        typed.* EXCEPT (counts, priced_model, input_size, started_second, said_tier, tiers),
        prices.id AS book_id,
        prices.source AS book_source,
        multiIf(
            typed.is_provided OR prices.id = 0, typed.given_cost,
            typed.input_tokens IS NOT NULL
                AND arrayMax(counts) <= 1000000000000
                -- What is left of each kind of token without the kinds that are part of it.
                AND least(
                    arrayDotProduct(counts, [0, 1, 0, 0, 0, 0, 0, -1, 0, -1, 0, 0, 0, 0, 0, 0]),
                    arrayDotProduct(counts, [0, 0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
                    arrayDotProduct(counts, [0, 0, 0, 0, 0, 0, 1, -1, 0, 0, 0, 0, 0, 0, 0, 0]),
                    arrayDotProduct(counts, [0, 0, 0, 0, 0, 0, 0, 0, 1, -1, 0, 0, 0, 0, 0, 0]),
                    arrayDotProduct(counts, [1, -1, -1, 0, 0, 0, -1, 1, -1, 1, -1, 0, 0, 0, 0, 0]),
                    arrayDotProduct(counts, [0, 0, 0, 1, -1, 0, 0, 0, 0, 0, 0, -1, -1, -1, 0, 0])
                ) >= 0
                -- Something of what was used is billed: not to be billed is not the same as to cost nothing.
                AND (counts[1] + counts[4] = 0 OR counts[1] * prices.bills_input + counts[4] * prices.bills_output > 0)
                -- Not: some input is cached, some is audio, nobody says how much is both, and it would cost something else.
                AND NOT (counts[2] > 0 AND arrayExists(
                    (kind, overlap, weight) -> typed.usage_details[kind] > 0 AND NOT mapContains(typed.usage_details, overlap) AND weight != 0,
                    ['audio_input', 'image_input'], ['cached_audio_input', 'cached_image_input'], [prices.weights[8], prices.weights[10]]
                )),
            CAST(roundBankers(arraySum((count, weight) -> count * weight, counts, prices.weights), 6) / 1000000, 'Nullable(Decimal(38, 12))'),
            NULL
        ) AS cost_usd
    FROM
    (
        SELECT
            * EXCEPT (llm),
            llm['provider'] AS provider,
            llm['request_model'] AS request_model,
            llm['response_model'] AS response_model,
            if(response_model != '', response_model, request_model) AS model,
            llm['response_id'] AS response_id,
            llm['server_address'] AS server_address,
            multiIf(llm['speed'] NOT IN ('', 'standard'), concat('speed=', llm['speed']), lower(llm['batch']) = 'true', 'batch', llm['service_tier']) AS said_tier,
            -- Hosts of OpenAI, xAI and Vertex AI that answer in their own region; prices/costs.py has the same.
            if(
                llm['region'] != '' OR match(server_address, '^([a-z]+\\.api\\.(openai\\.com|x\\.ai)|[a-z0-9-]+-aiplatform\\.googleapis\\.com|aiplatform\\.[a-z]+\\.rep\\.googleapis\\.com)$'),
                trim(TRAILING ' ' FROM concat('regional ', said_tier)),
                said_tier
            ) AS service_tier,
            if(startsWith(service_tier, 'regional'), [service_tier, 'regional', trim(LEADING ' ' FROM substring(service_tier, 9)), ''], [service_tier, '']) AS tiers,
            toUInt16OrZero(llm['http_status']) AS http_status,
            llm['streamed'] = 'true' AS streamed,
            llm['response_end'] AS response_end,
            multiIf(llm['finish'] = '', [], startsWith(llm['finish'], '[') AND isValidJSON(llm['finish']), JSONExtract(llm['finish'], 'Array(String)'), splitByString(', ', trim(BOTH '[]' FROM llm['finish']))) AS finish_reasons,
            toFloat64OrNull(llm['ttft_seconds']) AS ttft_seconds,
            toUInt64OrNull(llm['input']) AS input_tokens,
            toUInt64OrNull(llm['cached']) AS cached_input_tokens,
            toUInt64OrNull(llm['cache_write']) AS cache_write_tokens,
            toUInt64OrNull(llm['output']) AS output_tokens,
            toUInt64OrNull(llm['reasoning']) AS reasoning_tokens,
            mapApply((kind, count) -> (kind, toUInt64OrZero(count)), mapFilter((kind, count) -> kind IN ('cache_write_1h', 'audio_input', 'cached_audio_input', 'image_input', 'cached_image_input', 'video_input', 'audio_output', 'image_output', 'video_output', 'web_search') AND toUInt64OrNull(count) IS NOT NULL, llm)) AS usage_details,
            -- A count beyond what is believed is cut, so that no product overflows; such a call has no price.
            arrayMap(
                count -> toInt64(least(count, 1000000000001)),
                arrayConcat(
                    [ifNull(input_tokens, 0), ifNull(cached_input_tokens, 0), ifNull(cache_write_tokens, 0), ifNull(output_tokens, 0), ifNull(reasoning_tokens, 0)],
                    arrayMap(
                        kind -> usage_details[kind],
                        ['cache_write_1h', 'audio_input', 'cached_audio_input', 'image_input', 'cached_image_input', 'video_input', 'audio_output', 'image_output', 'video_output', 'web_search']
                    ),
                    [1]
                )
            ) AS counts,
            ifNull(input_tokens, 0) AS input_size,
            toUnixTimestamp(started_at) AS started_second,
            if((llm['provider'], llm['response_model']) IN (SELECT provider, model FROM model_prices), llm['response_model'], llm['request_model']) AS priced_model,
            toDecimal128OrNull(llm['cost'], 12) AS given_cost,
            llm['cost_source'] AS given_source,
            given_cost IS NOT NULL AND llm['cost_status'] != 'priced' AS is_provided,
            input_tokens IS NOT NULL OR output_tokens IS NOT NULL AS is_known,
            -- Refused by the provider, never arrived there, or a moderation: of no usage, and of no cost.
            is_llm AND NOT is_known AND given_cost IS NULL AND (
                http_status >= 400 OR operation = 'moderation'
                OR http_status = 0 AND match(error_type, '(ConnectError|ConnectTimeout|PoolTimeout|UnsupportedProtocol)$')
            ) AS is_free
        FROM read_spans
    ) AS typed
    LEFT ANY JOIN
    (
        SELECT provider AS of_provider, model AS of_model, arraySort(groupArray(condition)) AS conditions
        FROM model_prices
        GROUP BY provider, model
    ) AS named ON named.of_provider = typed.provider AND named.of_model = typed.priced_model
    LEFT ANY JOIN
    (
        SELECT id, source, bills_input, bills_output, weights
        FROM model_prices
    ) AS prices ON prices.id = arrayFirst(
        condition -> has(typed.tiers, condition.tier)
            AND condition.negative_since + typed.started_second >= 0
            AND condition.negative_time + typed.started_second % 86400 >= 0
            AND (condition.negative_start = 0 OR condition.negative_start + typed.input_size > 0),
        named.conditions
    ).id
);
