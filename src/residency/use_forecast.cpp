#include "residency/use_forecast.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

namespace hypura::residency {
namespace {

// Half-life of a use, in rounds.
constexpr float kHalfLife = 48;
// Rounds that a rate is taken to have been watched for before it was: early rates are cautious.
constexpr float kUnseenRounds = 2;
// What the first guess weighs, in pages seen.
constexpr float kPriorSeen = 8;
// Likewise for what other frequencies of the same age tell.
constexpr float kAgeSeen = 8;
// A cell forgets half of what it saw whenever it has seen so many pages, so that it follows the run.
constexpr float kMostSeen = 8192;

// No share is taken to be less, so that every wait is finite.
constexpr float kLeastShare = 1e-6F;

// First ages of the cells: exact at first, then half octaves.
constexpr std::array<uint32_t, UseTable::kAges> kFirstAges = {1,  2,  3,  4,  5,  7,  9,   13,
                                                              17, 25, 33, 49, 65, 97, 129, 193};

// Falls with age by so much that another round outweighs every part of a cycle.
float first_guess(size_t age_cell) { return 1 / (1 + 2 * static_cast<float>(kFirstAges[age_cell])); }

// By age; what was never used is taken to be as old as can be.
constexpr auto kAgeCells = [] {
    std::array<uint8_t, kFirstAges.back() + 1> cells{};
    for (uint32_t age = 1; age < cells.size(); ++age)
        cells[age] = static_cast<uint8_t>(std::ranges::upper_bound(kFirstAges, age) - kFirstAges.begin() - 1);
    cells[0] = cells.back();
    return cells;
}();

}  // namespace

// ---- the table -----------------------------------------------------------------------------------------------------

UseTable::UseTable() { update(); }

// Rates by half octaves below 1: the exponent, and whether the fraction is above the root of two.
uint8_t UseTable::cell_of(uint32_t age, float rate) {
    constexpr uint32_t kFractionBits = 23, kRootOfTwo = 0x3504f3;
    const auto bits = std::bit_cast<uint32_t>(std::clamp(rate, 1e-6F, 1.0F));
    const int octaves = 127 - static_cast<int>(bits >> kFractionBits);  // 0 for 1
    const int halves = 2 * octaves - ((bits & ((1U << kFractionBits) - 1)) >= kRootOfTwo ? 1 : 0);
    const size_t rate_cell = kRates - 1 - static_cast<size_t>(std::clamp<int>(halves, 0, kRates - 1));
    return static_cast<uint8_t>(rate_cell * kAges + kAgeCells[std::min(age, kFirstAges.back())]);
}

void UseTable::add(uint8_t cell, bool used) {
    Count& count = counts_[cell];
    count.seen += 1;
    count.used += used ? 1 : 0;
    if (count.seen < kMostSeen) return;
    count.seen /= 2;
    count.used /= 2;
}

// What is seen of an age at any frequency fills in for what was not seen of it at one; and an age that was not seen is
// taken to follow on the one before it, so that a page does not gain by growing older than any that was watched.
void UseTable::update() {
    std::array<float, kAges> shares{};
    for (size_t age = 0; age < kAges; ++age) {
        const float guess = age == 0 ? first_guess(0) : shares[age - 1] * first_guess(age) / first_guess(age - 1);
        Count all = {kPriorSeen, kPriorSeen * guess};
        for (size_t rate = 0; rate < kRates; ++rate) {
            all.seen += counts_[rate * kAges + age].seen;
            all.used += counts_[rate * kAges + age].used;
        }
        shares[age] = all.used / all.seen;
    }
    for (size_t rate = 0; rate < kRates; ++rate) update_rate(rate, shares);
}

// A page that is not used when it is awaited can still leave then. So what counts is the best that can be had of it:
// the most uses for the rounds in memory that any patience gives. Where the share used falls with age, that is the
// next round's; a page that is used every third round gives its one in three.
void UseTable::update_rate(size_t rate, std::span<const float, kAges> shares_by_age) {
    std::array<float, kAges> used_within{}, rounds_within{}, unused{};
    for (size_t age = 0; age < kAges; ++age) {
        const Count& count = counts_[rate * kAges + age];
        const float seen_share = (count.used + kAgeSeen * shares_by_age[age]) / (count.seen + kAgeSeen);
        const float share = std::max(seen_share, kLeastShare);
        const auto width = static_cast<float>(age + 1 < kAges ? kFirstAges[age + 1] - kFirstAges[age] : 64);
        const float log_unused = width * std::log1p(-share);
        unused[age] = std::exp(log_unused);
        used_within[age] = -std::expm1(log_unused);
        rounds_within[age] = used_within[age] / share;
    }
    for (size_t age = 0; age < kAges; ++age) {
        float best = 0, left = 1, used = 0, rounds = 0;
        for (size_t later = age; later < kAges; ++later) {
            used += left * used_within[later];
            rounds += left * rounds_within[later];
            left *= unused[later];
            best = std::max(best, used / rounds);
        }
        rounds_[rate * kAges + age] = std::max(1 / best - 1, 0.0F);
    }
}

// ---- the pages -----------------------------------------------------------------------------------------------------

UseForecast::UseForecast(std::span<const PagePlace> pages) : place_(pages.size(), kNowhere) {
    for (const PagePlace& page : pages) {
        if (page.slot_class >= class_is_forecast_.size()) class_is_forecast_.resize(page.slot_class + 1, 1);
        if (!page.is_expert) class_is_forecast_[page.slot_class] = 0;
        layers_ = std::max(layers_, page.layer + 1);
    }
    place_pages(pages);
    history_.resize(page_.size());
    rounds_.assign(page_.size(), table_.rounds(UseTable::cell_of(0, 0)));
    leaving_rounds_.assign(page_.size(), -1);
    may_leave_.resize(page_.size());
    is_protected_.resize(page_.size());
}

void UseForecast::place_pages(std::span<const PagePlace> pages) {
    for (PageId page = 0; page < pages.size(); ++page)
        if (has_class(pages[page].slot_class)) page_.push_back(page);
    std::ranges::stable_sort(page_, {},
                             [&](PageId page) { return std::pair(pages[page].slot_class, pages[page].layer); });
    for (uint32_t place = 0; place < page_.size(); ++place) {
        const PagePlace& page = pages[page_[place]];
        if (rows_.empty() || rows_.back().slot_class != page.slot_class || rows_.back().layer != page.layer)
            rows_.push_back({.slot_class = page.slot_class, .layer = page.layer, .begin = place});
        rows_.back().end = place + 1;
        row_of_.push_back(static_cast<uint32_t>(rows_.size() - 1));
        place_[page_[place]] = place;
    }
}

bool UseForecast::has_class(uint32_t slot_class) const {
    return slot_class < class_is_forecast_.size() && class_is_forecast_[slot_class] != 0;
}

void UseForecast::begin_pass(uint32_t tokens) {
    learns_ = tokens <= kMostTokensToLearnFrom;
    table_.update();
}

void UseForecast::demand(std::span<const PageId> pages) {
    if (std::ranges::all_of(pages, [&](PageId page) { return place_[page] == kNowhere; })) return;
    protect(pages);
    layer_now_ = rows_[row_of_[protected_.front()]].layer;
    if (!learns_) return;
    routed_.clear();
    for (const uint32_t place : protected_)
        if (!std::ranges::contains(routed_, row_of_[place])) routed_.push_back(row_of_[place]);
    for (const uint32_t row : routed_) finish_round(rows_[row]);
}

void UseForecast::protect(std::span<const PageId> pages) {
    for (const uint32_t place : protected_) {
        is_protected_[place] = 0;
        refresh(place);
    }
    protected_.clear();
    for (const PageId page : pages) {
        if (place_[page] == kNowhere) continue;
        protected_.push_back(place_[page]);
        is_protected_[place_[page]] = 1;
        refresh(place_[page]);
    }
}

// The pages that are protected now are those that were used.
void UseForecast::finish_round(Row& row) {
    static const float kDecay = std::exp2(-1 / kHalfLife);
    row.weight = row.weight * kDecay + 1;
    const float rate_of_a_use = 1 / (row.weight + kUnseenRounds);
    for (uint32_t place = row.begin; place < row.end; ++place) {
        History& page = history_[place];
        const bool used = is_protected_[place] != 0;
        if (page.age > 0) table_.add(page.cell, used);
        page.uses = page.uses * kDecay + (used ? 1 : 0);
        page.age = used ? 1 : page.age + (page.age > 0 ? 1 : 0);
        page.cell = UseTable::cell_of(page.age, page.uses * rate_of_a_use);
        rounds_[place] = table_.rounds(page.cell);
        refresh(place);
    }
}

void UseForecast::set_may_leave(PageId page, bool may_leave) {
    const uint32_t place = place_[page];
    if (place == kNowhere) return;
    may_leave_[place] = may_leave ? 1 : 0;
    refresh(place);
}

void UseForecast::refresh(uint32_t place) {
    leaving_rounds_[place] = may_leave_[place] != 0 && is_protected_[place] == 0 ? rounds_[place] : -1;
    rows_[row_of_[place]].last_known = false;
}

std::optional<PageId> UseForecast::last_expected(uint32_t slot_class) {
    float longest = -1;
    uint32_t last = kNowhere;
    for (Row& row : rows_) {
        if (row.slot_class != slot_class) continue;
        if (!row.last_known) find_last(row);
        const float rounds = leaving_rounds_[row.last];
        const float wait = rounds < 0 ? -1 : rounds + cycle_part(row.layer);
        if (wait <= longest) continue;
        longest = wait;
        last = row.last;
    }
    return last == kNowhere ? std::nullopt : std::optional(page_[last]);
}

void UseForecast::find_last(Row& row) const {
    const auto begin = leaving_rounds_.begin();
    row.last = static_cast<uint32_t>(std::max_element(begin + row.begin, begin + row.end) - begin);
    row.last_known = true;
}

float UseForecast::expected_wait(PageId page) const {
    const uint32_t place = place_[page];
    return rounds_[place] + cycle_part(rows_[row_of_[place]].layer);
}

// From now until that layer is routed again.
float UseForecast::cycle_part(uint32_t layer) const {
    const uint32_t ahead = (layer + layers_ - layer_now_ - 1) % layers_ + 1;
    return static_cast<float>(ahead) / static_cast<float>(layers_);
}

}  // namespace hypura::residency
