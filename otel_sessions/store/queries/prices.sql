SELECT
    toString(provider), toString(model), toString(service_tier), valid_from, time_from, tier_start,
    input, cached_input, cache_write, cache_write_1h, audio_input, cached_audio_input, image_input, cached_image_input,
    video_input, output, reasoning, audio_output, image_output, video_output, request, web_search,
    toString(origin), source
FROM model_prices FINAL
WHERE positionCaseInsensitiveUTF8(concat(provider, '/', model), {name:String}) > 0
ORDER BY provider, model, service_tier, valid_from, time_from, tier_start, origin DESC
