// Which experts will a later layer name? Its router, applied to what this layer's router saw, knows most of them: the
// residual stream changes little from layer to layer (Eliseev & Mazur 2023, arXiv:2312.17238, section 3.2).
//
// The two routers' inputs differ by their norm weights, so the input is rescaled: x * norm_later / norm_here.
// How far a guess can be trusted depends on the model, on how many layers lie between, and above all on its margin: by
// how much its score exceeds the border between the experts that are chosen and those that are not. So the share of
// right guesses is learned for each distance and margin, over experts that were not in memory when guessed. Right is
// what any token of the pass names: of many tokens nearly everything is, so that passes of few and of many tokens are
// different matters, each with a GuessTrust of its own.
#pragma once

#include "base/status.h"
#include "engine/expert_compute.h"
#include "engine/graph_capture.h"

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace hypura::engine {

struct ExpertGuess {
    uint32_t expert = 0;
    uint32_t token = 0;  // of the pass
    float margin = 0;    // score less the border, in standard deviations of the token's scores; never negative
};

// By how much a router's scores differ from guesses of them in the mean, expert by expert, for one layer and distance.
// A router's scores need not be known: the expert that came r-th should have had the r-th best score of the guess.
// Nothing is corrected before eight tokens have been learned from.
class GuessCorrection {
public:
    void apply(std::span<float> scores) const;
    // For a token a guess gave these scores, not corrected, and the router ranked its experts so, best first.
    void learn(std::span<const float> scores, std::span<const int32_t> ranking);

private:
    float tokens_ = 0;            // that have been learned from
    std::vector<float> offsets_;  // by expert; empty: nothing has been learned
    std::vector<float> sorted_;   // scratch of learn()
};

class RouterGuess {
public:
    static constexpr size_t kMostLayersAhead = 3;
    // All 512 of a prompt took 1.6 % of its time on two cores and found nine tenths of the experts that were lacking;
    // these find two thirds.
    static constexpr size_t kMostTokens = 256;

    // The one whose scores are kept, of a pass of so many, for GuessCorrection to learn from. Not the first one of a
    // text, which is like no other.
    static size_t sample_token(size_t tokens);

    // Scores the experts of the router `later` for tokens of `input`, the input of the router `here`, and keeps each
    // token's best `top_k`, best first. Of a pass of more than kMostTokens, so many are asked about, evenly spread.
    // Nothing where a router was not traced.
    Status make(ExpertCompute& compute, const RouterTrace& here, const RouterTrace& later, const ggml_tensor* input,
                size_t top_k, const GuessCorrection& correction);

    // Of the last make(): token after token.
    std::span<const ExpertGuess> guesses() const { return guesses_; }
    // Of sample_token(), not corrected; nothing where nothing was guessed.
    std::span<const float> sample() const { return sample_; }

private:
    void rescale(const RouterTrace& here, const RouterTrace& later, const ggml_tensor* input, size_t step);
    void keep_best(std::span<const float> scores, uint32_t token, size_t top_k);

    std::vector<ExpertGuess> guesses_;
    std::vector<float> sample_;
    std::vector<float> scores_;  // scratch of make(): of one token, corrected
    std::vector<float> inputs_;
    std::vector<uint32_t> order_;  // scratch of keep_best
};

// `layers_ahead`: 1 to RouterGuess::kMostLayersAhead.
class GuessTrust {
public:
    // Margins are trusted that are right at least so often. 0.75: a wrong read takes the place of a right one.
    explicit GuessTrust(float least_precision = 0.75F) : least_precision_(least_precision) {}

    bool is_trusted(size_t layers_ahead, float margin) const;
    // Some margin is trusted, or too little has been tried to know.
    bool is_worthwhile(size_t layers_ahead) const;
    // A guess was of an expert that had to be read, and was right or not.
    void learn(size_t layers_ahead, float margin, bool right);

private:
    static constexpr size_t kMargins = 32;
    struct Record {
        float tried = 0;
        float right = 0;
    };
    struct Distance {
        std::array<Record, kMargins> margins{};
        float tried = 0;
    };
    bool is_precise(const Record& record) const;

    float least_precision_;
    std::array<Distance, RouterGuess::kMostLayersAhead> distances_{};
};

}  // namespace hypura::engine
