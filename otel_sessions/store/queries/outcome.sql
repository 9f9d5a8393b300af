-- What became of a span: counted, or left out and why; neither for a span that says nothing of an LLM call.
SELECT 'counted' AS outcome, c.session_id, toString(c.session_source), '' AS superseded_by FROM llm_calls AS c WHERE c.span_id = {span_id:String}
UNION ALL
SELECT toString(s.reason), s.session_id, '', s.superseded_by FROM suppressed_calls AS s WHERE s.span_id = {span_id:String}
LIMIT 1
