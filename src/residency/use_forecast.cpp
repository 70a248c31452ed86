#include "residency/use_forecast.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace hypura::residency {
namespace {

// Of the two means, in rounds. Recent half-lives of 1 and 3 found the same within half a point on synthetic models.
constexpr float kRecentHalfLife = 2;
constexpr float kLastingHalfLife = 48;
// What the first guess weighs, in pages seen.
constexpr float kPriorSeen = 8;
// A cell forgets half of what it saw whenever it has seen so many pages, so that it follows the run.
constexpr float kMostSeen = 8192;

// No share is taken to be less, so that every wait is finite.
constexpr float kLeastShare = 1e-6F;

// The uppermost step holds all means above it: what is nearly always chosen needs no finer distinction.
constexpr float kStep = 2.6F;

size_t step_of(float mean) {
    return static_cast<size_t>(std::clamp(mean / kStep, 0.0F, static_cast<float>(UseTable::kMeans - 1)));
}

// Both means at the border between chosen and passed over: one in three. Those odds are halved every few standings, and
// four times as good for what was just chosen.
float first_guess(float chosen, float recent, float lasting) {
    constexpr float kHalvingStandings = 16.0F / 3;
    const float mean = ((recent + lasting) / 2 + 0.5F) * kStep;
    return 1 / (1 + 2 * std::exp2((kLastChosen - mean) / kHalvingStandings - 2 * chosen));
}

// By cell, in UseTable's order.
template <size_t kCells>
std::array<float, kCells> all_first_guesses() {
    constexpr size_t kMeans = UseTable::kMeans;
    std::array<float, kCells> guesses{};
    for (size_t cell = 0; cell < kCells; ++cell) {
        const size_t chosen = cell / (kMeans * kMeans), recent = cell / kMeans % kMeans, lasting = cell % kMeans;
        guesses[cell] =
            first_guess(static_cast<float>(chosen), static_cast<float>(recent), static_cast<float>(lasting));
    }
    return guesses;
}

// std::lerp, which is exact at both ends, takes several times as long.
float between(float low, float high, float part) { return low + (high - low) * part; }

// What a round changes of a mean that `rounds` of them have made: the plain average at first.
float part_of_round(float half_life, uint32_t rounds) {
    return std::max(1 - std::exp2(-1 / half_life), 1 / static_cast<float>(rounds));
}

}  // namespace

// ---- the table -----------------------------------------------------------------------------------------------------

UseTable::UseTable() { update(); }

void UseTable::add(const UseHistory& history, bool used) {
    Count& count = counts_[cell_of(history.chosen ? 1 : 0, step_of(history.recent), step_of(history.lasting))];
    count.seen += 1;
    count.used += used ? 1 : 0;
    if (count.seen < kMostSeen) return;
    count.seen /= 2;
    count.used /= 2;
}

void UseTable::update() {
    static const auto kGuesses = all_first_guesses<kCells>();
    for (size_t cell = 0; cell < kCells; ++cell) {
        const float share = (counts_[cell].used + kPriorSeen * kGuesses[cell]) / (counts_[cell].seen + kPriorSeen);
        log_share_[cell] = std::log(std::max(share, kLeastShare));
    }
}

// A cell's share is that of its middle.
float UseTable::rounds(const UseHistory& history) const {
    constexpr float kLastMiddle = kMeans - 1.001F;
    const float row = std::clamp(history.recent / kStep - 0.5F, 0.0F, kLastMiddle);
    const float column = std::clamp(history.lasting / kStep - 0.5F, 0.0F, kLastMiddle);
    const auto whole_row = static_cast<size_t>(row), whole_column = static_cast<size_t>(column);
    const float* const cell = &log_share_[cell_of(history.chosen ? 1 : 0, whole_row, whole_column)];
    const float along = column - static_cast<float>(whole_column);
    const float here = between(cell[0], cell[1], along);
    const float above = between(cell[kMeans], cell[kMeans + 1], along);
    return std::exp(-between(here, above, row - static_cast<float>(whole_row))) - 1;
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
    rounds_.assign(page_.size(), table_.rounds({}));
    standing_.resize(page_.size());
    leaving_rounds_.assign(page_.size(), -1);
    may_leave_.resize(page_.size());
    is_protected_.resize(page_.size());
    is_chosen_.resize(page_.size());
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

void UseForecast::demand(std::span<const PageId> pages, const LayerStandings& standings) {
    choose(pages, standings.used_elsewhere);
    if (chosen_.empty()) return;
    protect(pages);
    layer_now_ = rows_[row_of_[chosen_.front()]].layer;
    if (!learns_) return;
    routed_.clear();
    for (const uint32_t place : chosen_)
        if (!std::ranges::contains(routed_, row_of_[place])) routed_.push_back(row_of_[place]);
    for (const uint32_t row : routed_) assume_standings(rows_[row]);
    take_standings(standings);
    for (const uint32_t row : routed_) finish_round(rows_[row]);
}

void UseForecast::choose(std::span<const PageId> pages, std::span<const PageId> elsewhere) {
    for (const uint32_t place : chosen_) is_chosen_[place] = 0;
    chosen_.clear();
    for (const auto& some : {pages, elsewhere})
        for (const PageId page : some)
            if (place_[page] != kNowhere) chosen_.push_back(place_[page]);
    for (const uint32_t place : chosen_) is_chosen_[place] = 1;
}

// Where a router tells nothing but its choice.
void UseForecast::assume_standings(const Row& row) {
    for (uint32_t place = row.begin; place < row.end; ++place)
        standing_[place] = is_chosen_[place] != 0 ? kTypicalChosen : kTypicalPassedOver;
}

void UseForecast::take_standings(const LayerStandings& standings) {
    for (size_t expert = 0; expert < standings.of_experts.size(); ++expert)
        if (const uint32_t place = place_[standings.first_page + expert]; place != kNowhere)
            standing_[place] = standings.of_experts[expert];
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

void UseForecast::finish_round(Row& row) {
    const bool is_first = row.rounds++ == 0;
    const float recent_part = part_of_round(kRecentHalfLife, row.rounds);
    const float lasting_part = part_of_round(kLastingHalfLife, row.rounds);
    for (uint32_t place = row.begin; place < row.end; ++place) {
        UseHistory& page = history_[place];
        if (!is_first) table_.add(page, is_chosen_[place] != 0);
        const auto standing = static_cast<float>(standing_[place]);
        page.recent += (standing - page.recent) * recent_part;
        page.lasting += (standing - page.lasting) * lasting_part;
        page.chosen = is_chosen_[place] != 0;
        rounds_[place] = table_.rounds(page);
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
    const Last last = find_last_of(slot_class);
    return last.place == kNowhere ? std::nullopt : std::optional(page_[last.place]);
}

std::optional<PageId> UseForecast::last_expected_after(PageId guessed) {
    const Row& row = rows_[row_of_[place_[guessed]]];
    const Last last = find_last_of(row.slot_class);
    return last.wait <= cycle_part(row.layer) ? std::nullopt : std::optional(page_[last.place]);
}

UseForecast::Last UseForecast::find_last_of(uint32_t slot_class) {
    Last last;
    for (Row& row : rows_) {
        if (row.slot_class != slot_class) continue;
        if (!row.last_known) find_last(row);
        const float rounds = leaving_rounds_[row.last];
        if (rounds < 0) continue;
        const float wait = cycle_part(row.layer) + (is_sure_of(row) ? 0 : rounds);
        if (wait > last.wait) last = {row.last, wait};
    }
    return last;
}

void UseForecast::find_last(Row& row) const {
    const auto begin = leaving_rounds_.begin();
    row.last = static_cast<uint32_t>(std::max_element(begin + row.begin, begin + row.end) - begin);
    row.last_known = true;
}

float UseForecast::expected_wait(PageId page) const {
    const uint32_t place = place_[page];
    const Row& row = rows_[row_of_[place]];
    return cycle_part(row.layer) + (is_sure_of(row) ? 0 : rounds_[place]);
}

// From now until that layer is routed again.
float UseForecast::cycle_part(uint32_t layer) const {
    const uint32_t ahead = (layer + layers_ - layer_now_ - 1) % layers_ + 1;
    return static_cast<float>(ahead) / static_cast<float>(layers_);
}

}  // namespace hypura::residency
