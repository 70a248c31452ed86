#include "engine/prompt_lookup.h"

#include <algorithm>

namespace hypura::engine {
namespace {

constexpr size_t kLongestMatch = 32;  // more says nothing more

// How many tokens before `end` are the last tokens of `text`.
size_t match_before(std::span<const int32_t> text, size_t end) {
    const size_t most = std::min(end, kLongestMatch);
    size_t tokens = 0;
    while (tokens < most && text[end - 1 - tokens] == text[text.size() - 1 - tokens]) ++tokens;
    return tokens;
}

}  // namespace

LookedUp look_up_draft(std::span<const int32_t> text, size_t most) {
    LookedUp found;
    size_t begin = 0;  // of what followed
    for (size_t end = text.size(); end-- > 1 && found.matched_tokens < kLongestMatch;) {
        const size_t tokens = match_before(text, end);
        if (tokens > found.matched_tokens) found.matched_tokens = tokens, begin = end;
    }
    if (found.matched_tokens == 0) return found;
    for (size_t i = 0; i < most; ++i)
        found.tokens.push_back(begin + i < text.size() ? text[begin + i] : found.tokens[begin + i - text.size()]);
    return found;
}

}  // namespace hypura::engine
