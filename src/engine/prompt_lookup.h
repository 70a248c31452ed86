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

// What followed the last tokens of `text` the last time that they stood there: the longest ending that occurs before
// (of the longest the latest), of at least `least_match` tokens (from 1). At most `most` tokens; none where nothing
// repeats. One that reaches the end of the text goes on as a loop.
std::vector<int32_t> look_up_draft(std::span<const int32_t> text, size_t least_match, size_t most);

}  // namespace hypura::engine
