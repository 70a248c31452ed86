#include "engine/drafting.h"

#include "base/clock.h"
#include "engine/prompt_lookup.h"

#include <utility>

namespace hypura::engine {
namespace {

constexpr size_t kLeastMatchTokens = 3;  // that must have been seen before, one behind the other
constexpr size_t kSurerThanAModel = 8;   // a text that repeats itself for so long goes on doing so

}  // namespace

Result<std::vector<Token>> Drafting::draft(std::span<const Token> text, size_t sequences, size_t most) {
    const size_t length = pace_.tokens(sequences, most);
    if (length == 0) return std::vector<Token>{};
    const bool asks_model = model_ != nullptr && sequences == 1;
    std::vector<Token> draft = look_up_draft(text, asks_model ? kSurerThanAModel : kLeastMatchTokens, length);
    if (!draft.empty() || !asks_model) return draft;
    const int64_t begin_us = now_us();
    auto drafted = model_->draft(text, length);
    model_us_ += now_us() - begin_us;
    return drafted;
}

void Drafting::note_pass(size_t tokens, int64_t elapsed_us) {
    pace_.note_pass(tokens, elapsed_us + std::exchange(model_us_, 0));
}

void Drafting::note_draft(size_t drafted, size_t accepted) {
    pace_.note_draft(drafted, accepted);
    counters_.drafted_tokens += drafted;
    counters_.accepted_tokens += accepted;
}

}  // namespace hypura::engine
