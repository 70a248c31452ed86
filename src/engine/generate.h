// The token loop: prompt in, text out as it comes.
#pragma once

#include "engine/engine.h"
#include "engine/sampler.h"

#include <functional>
#include <string>
#include <vector>

namespace hypura::engine {

struct GenerateOptions {
    uint32_t max_tokens = 0;  // 0: until the model ends or the context is full
    SamplingOptions sampling;
    std::vector<std::string> stop;  // text that ends the answer and is not part of it
    std::vector<Token> timeline;    // what the session holds already, for drafts; may be left out
};

enum class StopReason { kEndOfText, kMaxTokens, kContextFull, kStopString, kCancelled };
std::string_view to_string(StopReason reason);

struct GenerateCallbacks {
    std::function<bool(size_t done, size_t total)> on_prompt;  // after each prompt pass; false cancels
    std::function<bool(std::string_view text)> on_text;        // whole UTF-8 characters; false cancels
};

struct GenerateResult {
    std::vector<Token> tokens;  // generated, the ending one left out
    std::string text;
    StopReason stop = StopReason::kEndOfText;
    size_t prompt_tokens = 0;
    int64_t prompt_us = 0;
    int64_t decode_us = 0;       // from the first generated token to the last
    int64_t first_token_us = 0;  // from the call
};

// Appends `prompt` to the session, then generates. The session keeps prompt and answer, so a chat goes on from there; a
// last token that nothing was to follow is not evaluated, so session.position() says what the session really holds.
Result<GenerateResult> generate(const Engine& engine, Session& session, std::span<const Token> prompt,
                                const GenerateOptions& options, const GenerateCallbacks& callbacks);

}  // namespace hypura::engine
