#include "engine/router_guess.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace hypura::engine {
namespace {

constexpr float kLeastPrecision = 0.85F;  // at 0.7, 16 % of what was read had been guessed wrongly, for no gain
constexpr uint32_t kLeastTrials = 32;
constexpr uint32_t kMostTrials = 256;  // the memory of the exponential mean
constexpr int64_t kMostTokens = 32;    // of a pass: larger ones need nearly every expert anyway
constexpr float kTinyNorm = 1e-6F;

// What the next norm does to an input that this layer's norm has scaled.
float ratio(const RouterTrace& here, const RouterTrace& next, size_t i) {
    const float own = here.norm == nullptr ? 1 : static_cast<const float*>(here.norm->data)[i];
    const float other = next.norm == nullptr ? 1 : static_cast<const float*>(next.norm->data)[i];
    return std::abs(own) < kTinyNorm ? 1 : other / own;
}

bool is_float(const ggml_tensor* tensor) { return tensor == nullptr || tensor->type == GGML_TYPE_F32; }

}  // namespace

Status RouterGuess::make(ExpertCompute& compute, const RouterTrace& here, const RouterTrace& next,
                         const ggml_tensor* input, size_t top_k) {
    clear();
    if (next.weight == nullptr || input == nullptr || !is_on_host(input) || input->type != GGML_TYPE_F32 ||
        !is_float(here.norm) || !is_float(next.norm) || ggml_nrows(input) > kMostTokens ||
        input->ne[0] != next.weight->ne[0])
        return {};
    rescale(here, next, input);
    HYPURA_ASSIGN(const std::span<const float> scores, compute.project(next.weight, inputs_));
    const auto experts = static_cast<size_t>(next.weight->ne[1]);
    top_k_ = std::min(top_k, experts);
    keep_best(scores, experts);
    return {};
}

void RouterGuess::rescale(const RouterTrace& here, const RouterTrace& next, const ggml_tensor* input) {
    const auto columns = static_cast<size_t>(input->ne[0]);
    const auto rows = static_cast<size_t>(ggml_nrows(input));
    inputs_.resize(columns * rows);
    for (size_t row = 0; row < rows; ++row) {
        const auto* values =
            reinterpret_cast<const float*>(static_cast<const std::byte*>(input->data) + row * input->nb[1]);
        std::copy_n(values, columns, &inputs_[row * columns]);
    }
    if (here.norm == nullptr && next.norm == nullptr) return;
    for (size_t i = 0; i < inputs_.size(); ++i) inputs_[i] *= ratio(here, next, i % columns);
}

void RouterGuess::keep_best(std::span<const float> scores, size_t experts) {
    order_.resize(experts);
    for (size_t first = 0; first < scores.size(); first += experts) {
        std::iota(order_.begin(), order_.end(), 0U);
        const auto last = order_.begin() + static_cast<std::ptrdiff_t>(top_k_);
        std::partial_sort(order_.begin(), last, order_.end(),
                          [&](uint32_t a, uint32_t b) { return scores[first + a] > scores[first + b]; });
        guesses_.insert(guesses_.end(), order_.begin(), last);
    }
}

bool RouterGuess::is_trusted(size_t index) const {
    if (rank_of(index) >= kMostRanks) return false;
    const Rank& rank = ranks_[rank_of(index)];
    return rank.trials >= kLeastTrials && rank.precision >= kLeastPrecision;
}

bool RouterGuess::is_worthwhile() const {
    return ranks_[0].trials < kLeastTrials ||
           std::ranges::any_of(ranks_, [](const Rank& rank) { return rank.precision >= kLeastPrecision; });
}

void RouterGuess::learn(size_t index, bool right) {
    if (rank_of(index) >= kMostRanks) return;
    Rank& rank = ranks_[rank_of(index)];
    rank.trials = std::min(rank.trials + 1, kMostTrials);
    rank.precision += ((right ? 1.0F : 0.0F) - rank.precision) / static_cast<float>(rank.trials);
}

}  // namespace hypura::engine
