-- The models that the price book should know: those that it has, and those of calls without a price.
SELECT DISTINCT provider, model
FROM
(
    SELECT toString(provider) AS provider, toString(model) AS model FROM model_prices
    UNION ALL
    SELECT toString(c.provider) AS provider, arrayJoin([toString(c.response_model), toString(c.request_model)]) AS model
    FROM llm_calls AS c
    WHERE c.cost_status = 'unpriced'
)
WHERE model != ''
ORDER BY provider, model
