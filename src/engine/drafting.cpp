#include "engine/drafting.h"

#include "base/clock.h"
#include "engine/prompt_lookup.h"

#include <algorithm>
#include <utility>

namespace hypura::engine {

// The surer of the two, by how often each was right. What was looked up costs nothing, so it wins a draw.
Result<Draft> Drafting::draft(std::span<const Token> text, size_t sequences, size_t most) {
    LookedUp found = look_up_draft(text, std::min(most, DraftPace::kMostPassTokens));
    const DraftBasis basis = found.tokens.empty() ? DraftBasis::kMatch1 : basis_of_match(found.matched_tokens);
    const bool asks_model = model_ != nullptr && sequences == 1;
    if (asks_model && (found.tokens.empty() || pace_.share_right(basis) < pace_.share_right(DraftBasis::kModel)))
        return draft_by_model(text, sequences, most);
    found.tokens.resize(std::min(found.tokens.size(), pace_.tokens(basis, sequences, most)));
    return Draft{std::move(found.tokens), basis};
}

Result<Draft> Drafting::draft_by_model(std::span<const Token> text, size_t sequences, size_t most) {
    Draft draft{{}, DraftBasis::kModel};
    const size_t length = pace_.tokens(draft.basis, sequences, most);
    if (length == 0) return draft;
    // A prompt that the model reads for the first time says nothing about what drafts cost.
    const bool is_new = model_->unread_tokens(text) > DraftPace::kMostPassTokens;
    const int64_t begin_us = now_us();
    HYPURA_ASSIGN(draft.tokens, model_->draft(text, length));
    if (!is_new) model_us_ += now_us() - begin_us;
    return draft;
}

void Drafting::note_pass(size_t tokens, int64_t elapsed_us) {
    pace_.note_pass(tokens, elapsed_us + std::exchange(model_us_, 0));
}

void Drafting::note_draft(const Draft& draft, size_t accepted) {
    pace_.note_draft(draft.basis, draft.tokens.size(), accepted);
    counters_.drafted_tokens += draft.tokens.size();
    counters_.accepted_tokens += accepted;
}

}  // namespace hypura::engine
