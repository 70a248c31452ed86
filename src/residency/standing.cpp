#include "residency/standing.h"

#include "base/check.h"

#include <algorithm>
#include <cmath>

namespace hypura::residency {
namespace {

Standing standing_of(size_t rank, size_t experts, size_t chosen) {
    if (chosen >= experts) return kHighestStanding;
    const auto border = static_cast<double>(chosen);
    const double behind_border = std::log(static_cast<double>(rank + 1) / border);
    const double last = std::log(static_cast<double>(experts) / border);
    const double standing = std::round(kLastChosen * (1 - behind_border / last));
    return static_cast<Standing>(std::clamp<double>(standing, 0, kHighestStanding));
}

}  // namespace

void StandingTable::begin(size_t experts, size_t chosen) {
    standings_.assign(experts, 0);
    if (by_rank_.size() == experts && chosen_ == chosen) return;
    chosen_ = chosen;
    by_rank_.resize(experts);
    for (size_t rank = 0; rank < experts; ++rank) by_rank_[rank] = standing_of(rank, experts, chosen);
}

void StandingTable::add_ranking(std::span<const int32_t> ranking) {
    HYPURA_CHECK(ranking.size() == by_rank_.size());
    for (size_t rank = 0; rank < ranking.size(); ++rank) {
        if (static_cast<size_t>(ranking[rank]) >= standings_.size()) continue;
        Standing& standing = standings_[static_cast<size_t>(ranking[rank])];
        standing = std::max(standing, by_rank_[rank]);
    }
}

}  // namespace hypura::residency
