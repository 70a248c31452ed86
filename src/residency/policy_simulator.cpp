#include "residency/policy_simulator.h"

#include "base/check.h"
#include "residency/use_forecast.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>

namespace hypura::residency {
namespace {

// Half-lives of a use, in passes.
constexpr double kLongHalfLife = 64;
constexpr double kShortHalfLife = 8;
constexpr uint64_t kNever = UINT64_MAX;

// A page as policies see it.
struct PageView {
    PageId id = 0;
    uint64_t last_use = 0;  // as an index of acquires; 0: never
    uint64_t second_last_use = 0;
    uint64_t next_use = kNever;  // Belady's knowledge
    double uses = 0;             // decayed as the policy says
    double uses_at = 0;          // in passes: when `uses` was right
};

struct Now {
    uint64_t acquire = 0;
    double pass = 0;
    int32_t layer = 0;
    int32_t layers = 1;
};

double half_life_of(Policy policy) { return policy == Policy::kLfuDecay ? kLongHalfLife : kShortHalfLife; }

double decayed(const PageView& page, double pass, double half_life) {
    return page.uses * std::exp2((page.uses_at - pass) / half_life);
}

// Uses per pass: what a page that is used in every pass converges to is 1.
double use_rate(const PageView& page, double pass, double half_life) {
    return decayed(page, pass, half_life) * (1 - std::exp2(-1 / half_life));
}

// Passes until the page is expected: the part of a round until its layer comes again, then rounds without it.
double expected_wait(double rate, const TracePage& place, const Now& now) {
    const int32_t layers_ahead = (place.layer - now.layer - 1 + now.layers) % now.layers + 1;
    return static_cast<double>(layers_ahead) / now.layers + 1 / std::clamp(rate, 1e-6, 1.0) - 1;
}

// The page with the least worth leaves. Worth is compared among the pages of one class only.
double worth(Policy policy, const PageView& page, const TracePage& place, const Now& now) {
    switch (policy) {
        case Policy::kBelady:
            return -static_cast<double>(page.next_use);
        case Policy::kLru2:  // pages used once have no second-last use: oldest of them first
            return static_cast<double>(page.second_last_use) + static_cast<double>(page.last_use) * 1e-9;
        case Policy::kLfuDecay:
        case Policy::kLrfu:
            return decayed(page, now.pass, half_life_of(policy));
        case Policy::kNextUse:
            return -expected_wait(use_rate(page, now.pass, kShortHalfLife), place, now);
        default:
            return static_cast<double>(page.last_use);
    }
}

std::vector<UseForecast::PagePlace> places_of(const DemandTrace& trace) {
    std::vector<UseForecast::PagePlace> places;
    places.reserve(trace.pages.size());
    for (const TracePage& page : trace.pages)
        places.push_back({page.slot_class, static_cast<uint32_t>(page.layer), page.expert >= 0});
    return places;
}

struct SimulatedPage {
    PageView view;
    bool present = false;
    bool pinned = false;
    bool promised = false;
    uint64_t promised_at = 0;
};

class Simulator {
public:
    Simulator(const DemandTrace& trace, Policy policy, std::span<const uint32_t> class_slots,
              const SimulationOptions& options)
        : trace_(trace),
          policy_(policy),
          options_(options),
          free_(class_slots.begin(), class_slots.end()),
          members_(class_slots.size()),
          pages_(trace.pages.size()),
          forecast_(places_of(trace)) {
        for (PageId id = 0; id < pages_.size(); ++id) pages_[id].view.id = id;
        for (const TracePage& page : trace.pages) now_.layers = std::max(now_.layers, page.layer + 1);
        if (policy == Policy::kBelady) find_next_uses();
    }

    Result<Simulation> run() {
        size_t at = 0;
        size_t standings_at = 0;
        for (const TraceEvent& event : trace_.events) {
            if (event.step == TraceStep::kPass) begin_pass(event.count);
            if (event.step == TraceStep::kPrefetch && policy_ == Policy::kShipped) prefetch(event.count);
            if (event.step == TraceStep::kWithdraw) withdraw(event.count);
            if (event.step != TraceStep::kAcquire) continue;
            HYPURA_TRY(acquire(at, event.count, std::span(trace_.standings).subspan(standings_at, event.standings)));
            at += event.count;
            standings_at += event.standings;
        }
        return result_;
    }

private:
    // For each demand, the acquire that demands the same page next; scanned from the end.
    void find_next_uses() {
        next_use_.resize(trace_.demands.size(), kNever);
        std::vector<uint64_t> next(trace_.pages.size(), kNever);
        uint64_t acquire =
            static_cast<uint64_t>(std::ranges::count(trace_.events, TraceStep::kAcquire, &TraceEvent::step));
        size_t at = trace_.demands.size();
        for (auto event = trace_.events.rbegin(); event != trace_.events.rend(); ++event) {
            if (event->step != TraceStep::kAcquire) continue;
            for (uint32_t i = 1; i <= event->count; ++i) next_use_[at - i] = next[trace_.demands[at - i]];
            for (uint32_t i = 1; i <= event->count; ++i) next[trace_.demands[at - i]] = acquire;
            at -= event->count;
            --acquire;
        }
    }

    void begin_pass(uint32_t tokens) {
        now_.pass += 1;
        single_token_ = tokens == 1;
        single_passes_ += single_token_ ? 1 : 0;
        forecast_.begin_pass(tokens);
    }

    Status acquire(size_t begin, uint32_t count, std::span<const Standing> standings) {
        const std::span<const PageId> demands = std::span(trace_.demands).subspan(begin, count);
        ++now_.acquire;
        if (count > 0) {
            now_.layer = trace_.pages[demands[0]].layer;
            forecast_.demand(demands, standings_of_layer(trace_, demands[0], standings));
        }
        missing_.clear();
        for (PageId id : demands) pin(id);
        for (PageId id : missing_) HYPURA_TRY(load(id));
        for (uint32_t i = 0; i < count; ++i) finish(demands[i], begin + i);
        return {};
    }

    void pin(PageId id) {
        SimulatedPage& page = pages_[id];
        const bool hit = page.present;
        count_demand(result_.all, id, hit);
        if (single_token_ && single_passes_ > options_.cold_passes) count_demand(result_.warm, id, hit);
        if (!hit && !page.pinned) missing_.push_back(id);
        page.pinned = true;
        page.promised = false;
        forecast_.set_may_leave(id, false);
    }
    void count_demand(HitCount& count, PageId id, bool hit) const {
        const uint64_t bytes = trace_.pages[id].bytes;
        ++count.demands;
        count.demand_bytes += bytes;
        if (!hit) return;
        ++count.hits;
        count.hit_bytes += bytes;
    }

    Status load(PageId id) {
        if (make_room(id, true)) {
            insert(id);
            return {};
        }
        return fail(ErrorCode::kBudgetTooSmall, "one demand needs more slots of class {} than there are",
                    trace_.pages[id].slot_class);
    }
    void insert(PageId id) {
        const uint32_t slot_class = trace_.pages[id].slot_class;
        --free_[slot_class];
        members_[slot_class].push_back(id);
        pages_[id].present = true;
    }
    bool make_room(PageId id, bool for_demand) {
        const uint32_t slot_class = trace_.pages[id].slot_class;
        if (free_[slot_class] > 0) return true;
        std::vector<PageId>& members = members_[slot_class];
        auto victim = find_victim(members, id, for_demand);
        if (victim == members.end() && for_demand) victim = find_latest_promise(members);
        if (victim == members.end()) return false;
        pages_[*victim].present = pages_[*victim].promised = false;
        forecast_.set_may_leave(*victim, false);
        *victim = members.back();
        members.pop_back();
        ++free_[slot_class];
        ++result_.evictions;
        return true;
    }
    std::vector<PageId>::iterator find_victim(std::vector<PageId>& members, PageId wanted, bool for_demand) {
        const uint32_t slot_class = trace_.pages[wanted].slot_class;
        if (policy_ != Policy::kShipped || !forecast_.has_class(slot_class)) return find_least_worth(members);
        const std::optional<PageId> last =
            for_demand ? forecast_.last_expected(slot_class) : forecast_.last_expected_after(wanted);
        return last ? std::ranges::find(members, *last) : members.end();
    }
    std::vector<PageId>::iterator find_least_worth(std::vector<PageId>& members) {
        double least = std::numeric_limits<double>::infinity();
        auto victim = members.end();
        for (auto at = members.begin(); at != members.end(); ++at) {
            const SimulatedPage& page = pages_[*at];
            if (page.pinned || page.promised) continue;
            const double value = worth(policy_, page.view, trace_.pages[*at], now_);
            if (victim != members.end() && value >= least) continue;
            least = value;
            victim = at;
        }
        return victim;
    }
    std::vector<PageId>::iterator find_latest_promise(std::vector<PageId>& members) {
        auto victim = members.end();
        for (auto at = members.begin(); at != members.end(); ++at) {
            const SimulatedPage& page = pages_[*at];
            if (page.pinned || !page.promised) continue;
            if (victim == members.end() || page.promised_at > pages_[*victim].promised_at) victim = at;
        }
        return victim;
    }

    // The page was used: policies learn it after the whole demand was served.
    void finish(PageId id, size_t demand) {
        SimulatedPage& page = pages_[id];
        PageView& view = page.view;
        if (page.pinned) {  // named once more in the same demand: one use
            view.uses = decayed(view, now_.pass, half_life_of(policy_)) + 1;
            view.uses_at = now_.pass;
            view.second_last_use = view.last_use;
        }
        page.pinned = false;
        forecast_.set_may_leave(id, true);
        view.last_use = ++uses_;
        if (!next_use_.empty()) view.next_use = next_use_[demand];
    }

    void prefetch(PageId id) {
        SimulatedPage& page = pages_[id];
        if (page.present || !make_room(id, false)) return;
        insert(id);
        page.promised = true;
        page.promised_at = ++promises_;
        page.view.last_use = ++uses_;
    }
    void withdraw(PageId id) {
        if (std::exchange(pages_[id].promised, false)) forecast_.set_may_leave(id, true);
    }

    const DemandTrace& trace_;
    const Policy policy_;
    const SimulationOptions& options_;
    std::vector<uint32_t> free_;                // slots, by class
    std::vector<std::vector<PageId>> members_;  // present pages, by class
    std::vector<SimulatedPage> pages_;
    UseForecast forecast_;            // asked by kShipped alone
    std::vector<uint64_t> next_use_;  // by demand; Belady only
    std::vector<PageId> missing_;     // scratch of acquire
    Now now_;
    uint64_t uses_ = 0;
    uint64_t promises_ = 0;
    uint32_t single_passes_ = 0;
    bool single_token_ = false;
    Simulation result_;
};

struct PolicyName {
    Policy policy;
    std::string_view name;
};
constexpr std::array kPolicies = {Policy::kLru,      Policy::kShipped, Policy::kBelady, Policy::kLru2,
                                  Policy::kLfuDecay, Policy::kLrfu,    Policy::kNextUse};
constexpr std::array kPolicyNames = {PolicyName{Policy::kLru, "lru"},
                                     PolicyName{Policy::kShipped, "shipped"},
                                     PolicyName{Policy::kBelady, "belady"},
                                     PolicyName{Policy::kLru2, "lru2"},
                                     PolicyName{Policy::kLfuDecay, "lfu-decay"},
                                     PolicyName{Policy::kLrfu, "lrfu"},
                                     PolicyName{Policy::kNextUse, "next-use"}};

// The most slots of each class that one demand needs.
std::vector<uint32_t> largest_demands(const DemandTrace& trace) {
    std::vector<uint32_t> largest(trace.class_slots.size());
    size_t at = 0;
    for (const TraceEvent& event : trace.events) {
        if (event.step != TraceStep::kAcquire) continue;
        std::vector<uint32_t> needed(largest.size());
        for (uint32_t i = 0; i < event.count; ++i) ++needed[trace.pages[trace.demands[at + i]].slot_class];
        for (size_t c = 0; c < largest.size(); ++c) largest[c] = std::max(largest[c], needed[c]);
        at += event.count;
    }
    return largest;
}

}  // namespace

std::string_view to_string(Policy policy) { return std::ranges::find(kPolicyNames, policy, &PolicyName::policy)->name; }

std::span<const Policy> all_policies() { return kPolicies; }

Result<Simulation> simulate(const DemandTrace& trace, Policy policy, std::span<const uint32_t> class_slots,
                            const SimulationOptions& options) {
    HYPURA_CHECK(class_slots.size() == trace.class_slots.size());
    return Simulator(trace, policy, class_slots, options).run();
}

std::vector<uint32_t> slots_for_share(const DemandTrace& trace, double share) {
    std::vector<uint32_t> slots = largest_demands(trace);
    std::vector<uint32_t> pages(slots.size());
    for (const TracePage& page : trace.pages) ++pages[page.slot_class];
    for (size_t c = 0; c < slots.size(); ++c)
        if (slots[c] > 0) slots[c] = std::max(slots[c], static_cast<uint32_t>(std::lround(share * pages[c])));
    return slots;
}

DemandTrace filtered(const DemandTrace& trace, const TraceFilter& filter) {
    DemandTrace part = trace;
    part.events.clear();
    part.demands.clear();
    part.found.clear();
    part.standings.clear();
    const auto wanted = [&](PageId page) { return !filter.experts_only || trace.pages[page].expert >= 0; };
    bool pass_wanted = true;
    size_t at = 0;
    size_t standings_at = 0;
    for (const TraceEvent& event : trace.events) {
        if (event.step == TraceStep::kPass) pass_wanted = !filter.decode_only || event.count == 1;
        const size_t end = at + (event.step == TraceStep::kAcquire ? event.count : 0);
        const auto standings = std::span(trace.standings).subspan(standings_at, event.standings);
        standings_at += event.standings;
        uint32_t kept = 0;
        for (; at < end; ++at) {
            if (!pass_wanted || !wanted(trace.demands[at])) continue;
            part.demands.push_back(trace.demands[at]);
            part.found.push_back(trace.found[at]);
            ++kept;
        }
        const bool ahead = event.step == TraceStep::kPrefetch || event.step == TraceStep::kWithdraw;
        const bool kept_ahead = ahead && !filter.demands_only && wanted(event.count);
        if (event.step == TraceStep::kAcquire && kept > 0) {
            part.events.push_back({TraceStep::kAcquire, kept, event.standings});
            part.standings.insert(part.standings.end(), standings.begin(), standings.end());
        }
        if (pass_wanted && (kept_ahead || event.step == TraceStep::kPass)) part.events.push_back(event);
    }
    return part;
}

}  // namespace hypura::residency
