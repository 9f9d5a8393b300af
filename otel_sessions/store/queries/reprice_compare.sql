-- What the calls of each model cost so far, and what they would cost.
SELECT
    toString(p.old_provider) AS provider,
    toString(if(p.old_response_model != '', p.old_response_model, p.old_request_model)) AS model,
    count() AS calls,
    countIf(NOT (p.cost_usd <=> p.old_usd)) AS changed_calls,
    sumOrNull(p.old_usd) AS old_cost_usd,
    sumOrNull(p.cost_usd) AS new_cost_usd,
    countIf(p.old_usd IS NULL) AS old_unpriced_calls,
    countIf(p.cost_usd IS NULL) AS new_unpriced_calls
FROM
(
    /*calls priced again*/
) AS p
GROUP BY provider, model
ORDER BY new_cost_usd DESC NULLS LAST, calls DESC, provider, model
