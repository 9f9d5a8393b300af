SELECT * FROM unpriced_models ORDER BY calls DESC, provider, model
