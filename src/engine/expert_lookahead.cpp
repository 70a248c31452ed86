#include "engine/expert_lookahead.h"

#include <algorithm>

namespace hypura::engine {
namespace {

constexpr uint32_t kPassesBetweenTrials = 8;  // of distances that have not been worth a read
constexpr size_t kPagesBehindDemand = 2;      // of the next layer, beyond as many as this one lacked
constexpr size_t kPagesUnderWay = 2;          // with fewer, layers further ahead are asked
// The same in passes of many tokens, which need nearly all of a layer: the disk is to work through layers that lack
// nothing, for the first one behind them that does.
constexpr size_t kPagesUnderWayOfMany = 64;
constexpr double kNearlyAll = 7.0 / 8;
constexpr size_t kFewTokens = 32;

}  // namespace

void ExpertLookahead::begin_pass() {
    ++passes_;
    pass_tokens_ = 0;
    for (Forecasts& forecasts : layers_) {
        for (Forecast& forecast : forecasts.by_distance) forecast.forget();
        forecasts.chosen.clear();
    }
}

void ExpertLookahead::judge(size_t layer, const Routing& routing, std::span<const residency::PageId> demanded,
                            residency::SlotCache& cache) {
    Forecasts& judged = layers_[layer];
    const size_t tokens = routing.tokens();
    kind_ = tokens <= 1 ? kOneToken : tokens <= kFewTokens ? kSomeTokens : kManyTokens;
    note_named(judged.layer, routing.ids);
    note_width(judged, tokens);
    const auto named = static_cast<double>(std::ranges::count(named_, 1));
    names_nearly_all_ = kind_ == kManyTokens && named >= kNearlyAll * judged.layer.experts;
    learn(judged, routing);
    withdraw_wrong(judged, cache);
    note_lack(demanded, cache);
}

void ExpertLookahead::note_named(const Layer& layer, std::span<const int32_t> ids) {
    named_.assign(layer.experts, 0);
    for (const int32_t id : ids) named_[static_cast<size_t>(id)] = 1;
}

void ExpertLookahead::note_width(Forecasts& judged, size_t tokens) {
    pass_tokens_ = std::max(pass_tokens_, tokens);
    if (pass_tokens_ > 1) judged.narrows = tokens < pass_tokens_;
}

// Of several tokens the last layer mostly computes one: those whose logits somebody wants.
bool ExpertLookahead::is_narrow(size_t layer) const {
    return kind_ != kOneToken && layers_[layer].narrows.value_or(layer + 1 == layers_.size());
}

void ExpertLookahead::learn(Forecasts& judged, const Routing& routing) {
    for (size_t distance = 0; distance < judged.by_distance.size(); ++distance) {
        Forecast& forecast = judged.by_distance[distance];
        // The last layer may compute fewer tokens than the others.
        if (forecast.tokens == routing.tokens()) {
            for (const ExpertGuess& guess : forecast.absent)
                trust_[kind_].learn(distance + 1, guess.margin, named_[guess.expert] != 0);
            forecast.correction.learn(forecast.sample, routing.ranking);
        }
        forecast.forget();
    }
}

// The right ones stay promised until they are acquired, so that they count as used.
void ExpertLookahead::withdraw_wrong(Forecasts& judged, residency::SlotCache& cache) {
    wrong_.clear();
    foreseen_ = 0;
    for (const residency::PageId page : judged.chosen) {
        if (named_[page - judged.layer.first_page] == 0)
            wrong_.push_back(page);
        else if (!cache.is_absent(page))
            ++foreseen_;
    }
    judged.chosen.clear();
    cache.withdraw(wrong_);
}

// Guesses are made until a whole pass lacked nothing.
void ExpertLookahead::note_lack(std::span<const residency::PageId> demanded, const residency::SlotCache& cache) {
    missing_ = static_cast<size_t>(
        std::ranges::count_if(demanded, [&](residency::PageId page) { return cache.is_absent(page); }));
    routings_without_lack_ = missing_ + foreseen_ > 0 ? 0 : routings_without_lack_ + 1;
    asks_ = routings_without_lack_ <= layers_.size();
}

bool ExpertLookahead::wants_input(size_t layer, const residency::SlotCache& cache) const {
    if (!asks_) return false;
    for (size_t ahead = 1; ahead <= RouterGuess::kMostLayersAhead && layer + ahead < layers_.size(); ++ahead)
        if (is_worth_asking(layer + ahead, ahead, cache)) return true;
    return false;
}

Result<std::span<const residency::PageId>> ExpertLookahead::choose(size_t layer, const ggml_tensor* input, size_t top_k,
                                                                   const residency::SlotCache& cache,
                                                                   ExpertCompute& compute) {
    pages_.clear();
    const Layer& here = layers_[layer].layer;
    const size_t under_way = missing_ + (cache.reads_under_way() + here.slices - 1) / here.slices;
    for (size_t ahead = 1; asks_ && ahead <= RouterGuess::kMostLayersAhead && layer + ahead < layers_.size(); ++ahead) {
        const size_t most_pages = most_pages_ahead(ahead, under_way);
        if (pages_.size() >= most_pages) break;
        Forecasts& target = layers_[layer + ahead];
        if (!is_worth_asking(layer + ahead, ahead, cache)) continue;
        HYPURA_TRY(guess_.make(compute, here.router, target.layer.router, input, top_k,
                               target.by_distance[ahead - 1].correction));
        note_absent(target, ahead, input == nullptr ? 0 : static_cast<uint32_t>(ggml_nrows(input)), cache);
        choose_trusted(target, ahead, most_pages);
    }
    if (asks_ && names_nearly_all_)
        choose_whole_layers(layer, most_pages_ahead(RouterGuess::kMostLayersAhead + 1, under_way), cache);
    return std::span<const residency::PageId>(pages_);
}

// Behind as many reads as this layer needs the next one's; of many tokens, and of layers behind that, as many as keep
// the disk at work.
size_t ExpertLookahead::most_pages_ahead(size_t layers_ahead, size_t under_way) const {
    const size_t wanted_under_way = kind_ == kManyTokens ? kPagesUnderWayOfMany : kPagesUnderWay;
    const size_t lacking = wanted_under_way - std::min(wanted_under_way, under_way);
    if (layers_ahead > 1) return lacking;
    const size_t as_this_one = missing_ + foreseen_ + kPagesBehindDemand;
    return kind_ == kManyTokens ? std::max(as_this_one, lacking) : as_this_one;
}

void ExpertLookahead::choose_whole_layers(size_t layer, size_t most_pages, const residency::SlotCache& cache) {
    for (size_t later = layer + RouterGuess::kMostLayersAhead + 1; later < layers_.size(); ++later) {
        Forecasts& target = layers_[later];
        for (uint32_t expert = 0; expert < target.layer.experts && !is_narrow(later); ++expert) {
            if (pages_.size() >= most_pages) return;
            if (is_missing(target.layer, expert, cache)) choose_page(target, expert);
        }
    }
}

void ExpertLookahead::choose_page(Forecasts& target, uint32_t expert) {
    const residency::PageId page = target.layer.first_page + expert;
    if (std::ranges::contains(pages_, page)) return;  // another token's guess
    pages_.push_back(page);
    target.chosen.push_back(page);
}

bool ExpertLookahead::is_missing(const Layer& layer, uint32_t expert, const residency::SlotCache& cache) {
    return cache.is_absent(layer.first_page + expert) && (layer.bank == nullptr || layer.bank->slot_of(expert) < 0);
}

bool ExpertLookahead::is_worth_asking(size_t layer, size_t layers_ahead, const residency::SlotCache& cache) const {
    const Layer& target = layers_[layer].layer;
    if (target.router.weight == nullptr || is_narrow(layer)) return false;
    if (!trust().is_worthwhile(layers_ahead) && passes_ % kPassesBetweenTrials != 0) return false;
    for (uint32_t expert = 0; expert < target.experts; ++expert)
        if (is_missing(target, expert, cache)) return true;
    return false;
}

void ExpertLookahead::note_absent(Forecasts& target, size_t layers_ahead, uint32_t tokens,
                                  const residency::SlotCache& cache) {
    Forecast& forecast = target.by_distance[layers_ahead - 1];
    forecast.tokens = tokens;
    forecast.sample.assign_range(guess_.sample());
    forecast.absent.clear();
    for (const ExpertGuess& guess : guess_.guesses())
        if (is_missing(target.layer, guess.expert, cache)) forecast.absent.push_back(guess);
}

void ExpertLookahead::choose_trusted(Forecasts& target, size_t layers_ahead, size_t most_pages) {
    trusted_.clear();
    for (const ExpertGuess& guess : target.by_distance[layers_ahead - 1].absent)
        if (trust().is_trusted(layers_ahead, guess.margin)) trusted_.push_back(guess);
    std::ranges::sort(trusted_, std::greater{}, &ExpertGuess::margin);
    for (const ExpertGuess& guess : trusted_) {
        if (pages_.size() >= most_pages) return;
        choose_page(target, guess.expert);
    }
}

}  // namespace hypura::engine
