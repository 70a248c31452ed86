// Drafts without a model: where a text repeats itself, what followed last time is a fair guess at what follows now.
// Code that is edited, documents that are quoted and lists that go on do so for many tokens in a row.
//
// Technique: prompt lookup decoding (https://github.com/apoorvumang/prompt-lookup-decoding).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace hypura::engine {

struct LookedUp {
    std::vector<int32_t> tokens;
    size_t matched_tokens = 0;  // that stood before them both times, as far as was looked: the more, the surer
};

// What followed the last tokens of `text` the last time that they stood there: the longest ending that occurs before
// (of the longest the latest). At most `most` tokens; none where the last token is new. A match that reaches the end of
// the text goes on as a loop.
LookedUp look_up_draft(std::span<const int32_t> text, size_t most);

}  // namespace hypura::engine
