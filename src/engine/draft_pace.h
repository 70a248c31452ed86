// How many tokens to draft: as many as make tokens fastest, by what passes and drafts were worth so far.
//
// A pass of one token and a draft of n yields 1 + p + p² + … + pⁿ tokens, where p is the share of tested draft tokens
// that were right, and takes as long as passes of 1 + n tokens took lately. Where weights come from a disk, a few more
// tokens take hardly longer, and even a poor guess pays; where they are in memory they do, and then only good ones do.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace hypura::engine {

// What a draft rests on: so many tokens that the text said before, or a model. Each is right as often as it proves to
// be.
enum class DraftBasis : uint8_t { kMatch1, kMatch2, kMatch3, kMatch4, kMatch8, kModel };
DraftBasis basis_of_match(size_t matched_tokens);  // at least one

class DraftPace {
public:
    // A pass with drafts. Up to seven rows libggml's products give the bits that they give one by one; from eight on
    // it takes other kernels (`hypura verify` compares all logits).
    static constexpr size_t kMostPassTokens = 7;

    // Tokens to draft for a sequence in a pass that has one token of each of `sequences`, at most `most`.
    size_t tokens(DraftBasis basis, size_t sequences, size_t most) const;
    double share_right(DraftBasis basis) const { return record(basis).right; }

    // A pass that read no prompts took `elapsed_us`; `tokens`, drafts included.
    void note_pass(size_t tokens, int64_t elapsed_us);
    // Of a draft of `drafted` tokens, the first `accepted` were right.
    void note_draft(DraftBasis basis, size_t drafted, size_t accepted);

private:
    struct PassTime {
        double us = 0;
        uint64_t noted_at = 0;  // in passes; 0: never
    };
    struct Record {
        double right = 0;         // share of draft tokens
        uint64_t drafted_at = 1;  // in passes
    };
    const Record& record(DraftBasis basis) const { return records_[static_cast<size_t>(basis)]; }
    bool is_known(size_t tokens) const;
    double pass_us(size_t tokens) const;
    size_t best(double right, size_t sequences, size_t most) const;

    std::array<PassTime, kMostPassTokens + 1> times_{};  // by tokens of the pass
    // Until something is known.
    std::array<Record, 6> records_{{{0.2}, {0.35}, {0.5}, {0.65}, {0.8}, {0.7}}};
    uint64_t passes_ = 1;
};

}  // namespace hypura::engine
