// Small texts that several dialects need: identifiers, timestamps, durations, base64.
#pragma once

#include "server/json.h"
#include "server/request.h"

#include <chrono>
#include <span>
#include <string>
#include <string_view>

namespace hypura::server {

// `prefix` and `length` random characters of [a-z0-9]. Any thread.
std::string random_id(std::string_view prefix, size_t length);

// {"token", "logprob", "bytes"}: what OpenAI and Ollama have in common of a token's log-probability.
Json logprob_json(const TokenLogprob& entry);

// "2026-08-21T10:00:00.123456789Z"
std::string rfc3339(std::chrono::system_clock::time_point time);
int64_t unix_seconds(std::chrono::system_clock::time_point time);

// A number of seconds, or a duration as Go writes it ("1h30m", "500ms", "-1m"); a bare number in a string is seconds
// too. Negative means forever. Errors: 400.
ApiResult<KeepAlive> parse_keep_alive(const Json* value);
ApiResult<KeepAlive> parse_keep_alive_text(std::string_view text);

// RFC 4648, with padding.
std::string base64(std::span<const unsigned char> bytes);

// A text after another: "a\n\nb"; either may be empty.
std::string joined(std::string first, std::string_view second);

}  // namespace hypura::server
