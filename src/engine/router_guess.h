// Which experts will the next layer name? Its router, applied to what this layer's router saw, knows most of them: the
// residual stream changes little from layer to layer (Eliseev & Mazur 2023, arXiv:2312.17238, section 3.2).
//
// The two routers' inputs differ by their norm weights, so the input is rescaled: x * norm_next / norm_here.
// A guess is worth a read only if it is right often enough, and how often that is depends on the model and on the rank
// of the guess. So the share of right guesses is learned for each rank, over experts that were not in memory when
// guessed, and only ranks above kLeastPrecision are followed.
#pragma once

#include "base/status.h"
#include "engine/expert_compute.h"
#include "engine/graph_capture.h"

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace hypura::engine {

class RouterGuess {
public:
    // Scores the experts of the router `next` for each token of `input`, the input of the router `here`, and keeps each
    // token's best `top_k`, best first. Nothing where a router was not traced.
    Status make(ExpertCompute& compute, const RouterTrace& here, const RouterTrace& next, const ggml_tensor* input,
                size_t top_k);
    void clear() { guesses_.clear(); }

    // guesses()[token * top_k + rank]
    std::span<const uint32_t> guesses() const { return guesses_; }
    size_t top_k() const { return top_k_; }
    bool is_trusted(size_t index) const;
    bool is_worthwhile() const;  // some rank is trusted, or has not been tried often enough to know

    // Guess `index` was of an expert that had to be read, and was right or not.
    void learn(size_t index, bool right);

private:
    static constexpr size_t kMostRanks = 16;
    struct Rank {
        uint32_t trials = 0;
        float precision = 0;  // the mean of the first trials, then an exponential one
    };
    size_t rank_of(size_t index) const { return index % top_k_; }
    void rescale(const RouterTrace& here, const RouterTrace& next, const ggml_tensor* input);
    void keep_best(std::span<const float> scores, size_t experts);

    size_t top_k_ = 1;
    std::vector<uint32_t> guesses_;
    std::array<Rank, kMostRanks> ranks_{};
    std::vector<float> inputs_;
    std::vector<uint32_t> order_;  // scratch of keep_best
};

}  // namespace hypura::engine
