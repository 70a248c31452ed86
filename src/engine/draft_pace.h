// How many tokens to draft: as many as make tokens fastest, by what passes and drafts were worth so far.
//
// A pass of one token and a draft of n yields 1 + p + p² + … + pⁿ tokens, where p is the share of tested draft tokens
// that were right, and takes as long as passes of 1 + n tokens took lately. Where weights come from a disk, a few more
// tokens take hardly longer; where they are in memory they do, and then no drafts come of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace hypura::engine {

class DraftPace {
public:
    // A pass with drafts. Up to seven rows libggml's products give the bits that they give one by one; from eight on
    // it takes other kernels (DraftTest compares all logits).
    static constexpr size_t kMostPassTokens = 7;

    // Tokens to draft for each of `sequences`, which have one token each in the pass, at most `most`.
    size_t tokens(size_t sequences, size_t most);

    // A pass that read no prompts took `elapsed_us`; `tokens`, drafts included.
    void note_pass(size_t tokens, int64_t elapsed_us);
    // Of a draft of `drafted` tokens, the first `accepted` were right.
    void note_draft(size_t drafted, size_t accepted);

private:
    struct PassTime {
        double us = 0;
        uint64_t noted_at = 0;  // in passes; 0: never
    };
    bool is_known(size_t tokens) const;
    double pass_us(size_t tokens) const;
    size_t best(size_t sequences, size_t most) const;

    std::array<PassTime, kMostPassTokens + 1> times_{};  // by tokens of the pass
    double right_ = 0.7;                                 // share of draft tokens, until something is known
    uint64_t passes_ = 1;
    uint64_t drafted_at_ = 1;  // in passes
};

}  // namespace hypura::engine
