#include "engine/prompt_lookup.h"

#include <algorithm>
#include <ranges>

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

std::vector<int32_t> look_up_draft(std::span<const int32_t> text, size_t least_match, size_t most) {
    size_t longest = least_match - 1;
    size_t begin = 0;  // of what followed; 0: nothing found
    for (size_t end = text.size(); end-- > least_match && longest < kLongestMatch;) {
        const size_t tokens = match_before(text, end);
        if (tokens > longest) longest = tokens, begin = end;
    }
    std::vector<int32_t> draft;
    if (begin == 0) return draft;
    for (size_t i = 0; i < most; ++i)
        draft.push_back(begin + i < text.size() ? text[begin + i] : draft[begin + i - text.size()]);
    return draft;
}

}  // namespace hypura::engine
