#include "engine/router_guess.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace hypura::engine {
namespace {

constexpr float kLeastTrials = 64;   // of a distance, before it can be known not to be worthwhile
constexpr float kMostTrials = 256;   // of a margin: then the past counts half
constexpr float kMarginStep = 0.1F;  // standard deviations
constexpr float kTinyNorm = 1e-6F;
constexpr float kFewestTokens = 8;     // fewer say more about themselves than about the next ones
constexpr float kTokensOfMemory = 50;  // of more the last ones count most

// What a later norm does to an input that this layer's norm has scaled.
float ratio(const RouterTrace& here, const RouterTrace& later, size_t i) {
    const float own = here.norm == nullptr ? 1 : static_cast<const float*>(here.norm->data)[i];
    const float other = later.norm == nullptr ? 1 : static_cast<const float*>(later.norm->data)[i];
    return std::abs(own) < kTinyNorm ? 1 : other / own;
}

bool is_float(const ggml_tensor* tensor) { return tensor == nullptr || tensor->type == GGML_TYPE_F32; }

// A broken model's are not, and cannot be sorted.
bool are_finite(std::span<const float> values) {
    return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

float deviation(std::span<const float> values) {
    const auto count = static_cast<float>(values.size());
    const float mean = std::reduce(values.begin(), values.end()) / count;
    float squares = 0;
    for (const float value : values) squares += (value - mean) * (value - mean);
    return std::max(std::sqrt(squares / count), kTinyNorm);
}

size_t step_between(size_t tokens) { return (tokens + RouterGuess::kMostTokens - 1) / RouterGuess::kMostTokens; }

size_t margin_cell(float margin, size_t cells) {
    return std::min(static_cast<size_t>(std::max(margin, 0.0F) / kMarginStep), cells - 1);
}

}  // namespace

void GuessCorrection::apply(std::span<float> scores) const {
    if (tokens_ < kFewestTokens || offsets_.size() != scores.size()) return;
    std::ranges::transform(scores, offsets_, scores.begin(), std::plus{});
}

void GuessCorrection::learn(std::span<const float> scores, std::span<const int32_t> ranking) {
    if (ranking.empty() || ranking.size() != scores.size() || !are_finite(scores)) return;
    offsets_.resize(scores.size());
    sorted_.assign_range(scores);
    std::ranges::sort(sorted_, std::greater{});
    tokens_ = std::min(tokens_ + 1, kTokensOfMemory);
    for (size_t rank = 0; rank < ranking.size(); ++rank) {
        const auto expert = static_cast<size_t>(ranking[rank]);
        if (expert >= scores.size()) continue;
        offsets_[expert] += (sorted_[rank] - scores[expert] - offsets_[expert]) / tokens_;
    }
}

size_t RouterGuess::sample_token(size_t tokens) {
    const size_t step = step_between(tokens);
    return tokens == 0 ? 0 : tokens / step / 2 * step;
}

Status RouterGuess::make(ExpertCompute& compute, const RouterTrace& here, const RouterTrace& later,
                         const ggml_tensor* input, size_t top_k, const GuessCorrection& correction) {
    guesses_.clear();
    sample_.clear();
    if (later.weight == nullptr || input == nullptr || !is_on_host(input) || input->type != GGML_TYPE_F32 ||
        !is_float(here.norm) || !is_float(later.norm) || input->ne[0] != later.weight->ne[0])
        return {};
    const auto tokens = static_cast<size_t>(ggml_nrows(input));
    if (tokens == 0) return {};
    const size_t step = step_between(tokens);
    rescale(here, later, input, step);
    HYPURA_ASSIGN(const std::span<const float> scores, compute.project(later.weight, inputs_));
    const auto experts = static_cast<size_t>(later.weight->ne[1]);
    const auto of_row = [&](size_t row) { return scores.subspan(row * experts, experts); };
    sample_.assign_range(of_row(sample_token(tokens) / step));
    for (size_t row = 0; row * experts < scores.size(); ++row) {
        scores_.assign_range(of_row(row));
        correction.apply(scores_);
        keep_best(scores_, static_cast<uint32_t>(row * step), top_k);
    }
    return {};
}

// Every step-th row, scaled as the later router sees it.
void RouterGuess::rescale(const RouterTrace& here, const RouterTrace& later, const ggml_tensor* input, size_t step) {
    const auto columns = static_cast<size_t>(input->ne[0]);
    const size_t rows = (static_cast<size_t>(ggml_nrows(input)) + step - 1) / step;
    inputs_.resize(columns * rows);
    for (size_t row = 0; row < rows; ++row) {
        const auto* values =
            reinterpret_cast<const float*>(static_cast<const std::byte*>(input->data) + row * step * input->nb[1]);
        std::copy_n(values, columns, &inputs_[row * columns]);
    }
    if (here.norm == nullptr && later.norm == nullptr) return;
    for (size_t i = 0; i < inputs_.size(); ++i) inputs_[i] *= ratio(here, later, i % columns);
}

// The border lies midway between the last expert that is chosen and the first that is not.
void RouterGuess::keep_best(std::span<const float> scores, uint32_t token, size_t top_k) {
    order_.resize(scores.size());
    std::iota(order_.begin(), order_.end(), 0U);
    const size_t chosen = std::min(top_k, scores.size());
    const size_t ranked = std::min(chosen + 1, scores.size());
    std::partial_sort(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(ranked), order_.end(),
                      [&](uint32_t a, uint32_t b) { return scores[a] > scores[b]; });
    const float border = (scores[order_[chosen - 1]] + scores[order_[ranked - 1]]) / 2;
    const float unit = deviation(scores);
    for (const uint32_t expert : std::span(order_).first(chosen))
        guesses_.push_back({expert, token, (scores[expert] - border) / unit});
}

// With a precision of 0.75 five in a row make an untried margin trusted.
bool GuessTrust::is_precise(const Record& record) const {
    return (record.right + 1) / (record.tried + 3) >= least_precision_;
}

bool GuessTrust::is_trusted(size_t layers_ahead, float margin) const {
    return is_precise(distances_[layers_ahead - 1].margins[margin_cell(margin, kMargins)]);
}

bool GuessTrust::is_worthwhile(size_t layers_ahead) const {
    const Distance& distance = distances_[layers_ahead - 1];
    return distance.tried < kLeastTrials ||
           std::ranges::any_of(distance.margins, [this](const Record& record) { return is_precise(record); });
}

void GuessTrust::learn(size_t layers_ahead, float margin, bool right) {
    Distance& distance = distances_[layers_ahead - 1];
    distance.tried += 1;
    Record& record = distance.margins[margin_cell(margin, kMargins)];
    if (record.tried >= kMostTrials) record = {record.tried / 2, record.right / 2};
    record.tried += 1;
    record.right += right ? 1.0F : 0.0F;
}

}  // namespace hypura::engine
