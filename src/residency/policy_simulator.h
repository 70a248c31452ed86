// What other replacement policies, and other pool sizes, would have done with a recorded run: pure arithmetic over a
// DemandTrace, without a file, a clock or a model.
//
// All policies obey the cache's rules: a demand's pages are pinned together before one of them is loaded; no bypass; a
// page may only displace one of its own class. Prefetches of the trace are replayed by kShipped alone, since what
// another policy would have prefetched is not known.
//
// Hit rates are byte-weighted, h = bytes demanded and present / bytes demanded, and first demands of a page count as
// misses (h_P and h_MIN of the usual definitions). `warm` leaves out passes of several tokens and the first single
// ones, where an empty pool says nothing about the policy.
#pragma once

#include "base/status.h"
#include "residency/demand_trace.h"

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace hypura::residency {

enum class Policy {
    kLru,       // least recently used
    kShipped,   // what SlotCache does: use_forecast.h for experts, LRU for the others, and promises to prefetched pages
    kBelady,    // furthest next use, knowing the future: no policy of equal-sized pages has fewer misses
    kLru2,      // oldest second-last use; pages used once go first
    kLfuDecay,  // fewest uses, halved every 64 passes
    kLrfu,      // uses halved every 8 passes, so that both recency and frequency count
    kNextUse,   // latest expected next use: until the page's layer comes, then passes at its rate of use
};
std::string_view to_string(Policy policy);
std::span<const Policy> all_policies();

struct HitCount {
    uint64_t demands = 0;
    uint64_t hits = 0;
    uint64_t demand_bytes = 0;
    uint64_t hit_bytes = 0;

    double hit_rate() const {
        return demand_bytes == 0 ? 0 : static_cast<double>(hit_bytes) / static_cast<double>(demand_bytes);
    }
    bool operator==(const HitCount&) const = default;
};

struct Simulation {
    HitCount all;
    HitCount warm;
    uint64_t evictions = 0;
};

struct SimulationOptions {
    uint32_t cold_passes = 64;  // single-token passes that `warm` leaves out
};

// kBudgetTooSmall when a demand needs more slots of a class than `class_slots` has.
Result<Simulation> simulate(const DemandTrace& trace, Policy policy, std::span<const uint32_t> class_slots,
                            const SimulationOptions& options = {});

// Slots of each class that hold `share` (0 to 1) of its pages, and at least its largest demand (that of a prompt pass
// may be larger than the share); none for a class that is never demanded.
std::vector<uint32_t> slots_for_share(const DemandTrace& trace, double share);

// A part of a trace; classes and pages keep their numbers.
struct TraceFilter {
    bool experts_only = false;  // leave out dense weights, whose cyclic scan no policy changes
    bool decode_only = false;   // leave out passes of several tokens, whose demands are large
    bool demands_only = false;  // leave out prefetches, which only kShipped replays: policies alone are compared
};
DemandTrace filtered(const DemandTrace& trace, const TraceFilter& filter);

}  // namespace hypura::residency
