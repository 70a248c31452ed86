// Drafts: guesses at the next tokens, which one pass over the weights checks together with the token before them. What
// the model would have said anyway is taken, the rest is thrown away, so a draft changes how long a text takes and not
// what it says. Where weights stream, a pass costs what it reads, and a dense model reads the same for one token and
// for seven: docs/drafts.md.
//
// One per engine; the model thread's, as everything of an engine.
#pragma once

#include "engine/draft_model.h"
#include "engine/draft_pace.h"

#include <memory>
#include <span>
#include <vector>

namespace hypura::engine {

struct Draft {
    std::vector<Token> tokens;  // none: nothing is worth checking
    DraftBasis basis{};
};

class Drafting {
public:
    // `model`: null: drafts are looked up in the text.
    explicit Drafting(std::unique_ptr<DraftModel> model) : model_(std::move(model)) {}

    // How `text` may go on, in a pass of one token for each of `sequences` sequences: as many tokens as are worth
    // checking, at most `most`. A model drafts for one sequence alone: it has one timeline. Errors: the model's.
    Result<Draft> draft(std::span<const Token> text, size_t sequences, size_t most);

    // A pass over the weights that read no prompts: its tokens, drafts included, and how long it took.
    void note_pass(size_t tokens, int64_t elapsed_us);
    // The first `accepted` tokens of a draft were right.
    void note_draft(const Draft& draft, size_t accepted);

    struct Counters {
        uint64_t drafted_tokens = 0;
        uint64_t accepted_tokens = 0;
    };
    const Counters& counters() const { return counters_; }

private:
    Result<Draft> draft_by_model(std::span<const Token> text, size_t sequences, size_t most);

    std::unique_ptr<DraftModel> model_;
    DraftPace pace_;
    int64_t model_us_ = 0;  // that drafting took for the pass to come
    Counters counters_;
};

}  // namespace hypura::engine
