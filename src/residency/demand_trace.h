// What a run asked of its slot cache, in memory: the pages, and every pass, demand, prefetch and withdrawal in order.
// `hypura trace` writes it to a file (cli/trace_file.h has the format), policy_simulator.h replays it.
#pragma once

#include "residency/slot_cache.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace hypura::residency {

struct TracePage {
    int32_t layer = 0;
    int32_t expert = -1;  // -1: a dense weight
    uint32_t slot_class = 0;
    uint64_t bytes = 0;  // of its slices

    bool operator==(const TracePage&) const = default;
};

enum class TraceStep : uint8_t {
    kPass,      // `count` tokens go through the model
    kAcquire,   // the next `count` demands belong together: all are pinned before one of them is loaded
    kPrefetch,  // `count` is the page whose read was started ahead of demand
    kWithdraw,  // `count` is the page that was prefetched, is in memory, and may leave like any other from now on
};

struct TraceEvent {
    TraceStep step = TraceStep::kPass;
    uint32_t count = 0;
    uint32_t standings = 0;  // kAcquire: the next so many standings are those of the layer's experts, if known

    bool operator==(const TraceEvent&) const = default;
};

struct DemandTrace {
    std::string model;
    std::vector<uint32_t> class_slots;  // of the run
    std::vector<TracePage> pages;       // by PageId
    std::vector<TraceEvent> events;
    std::vector<PageId> demands;      // of all acquires, one after the other
    std::vector<Found> found;         // parallel to demands: what the run found
    std::vector<Standing> standings;  // of all acquires, one after the other
    CacheCounters counters;           // of the run, at its end

    bool operator==(const DemandTrace&) const = default;
};

// `of_experts` as of the layer that `page`, a page of an expert, belongs to.
LayerStandings standings_of_layer(const DemandTrace& trace, PageId page, std::span<const Standing> of_experts);

// Fills a trace while it observes a cache; the cache outlives it or loses its observer first.
class TraceRecorder final : public CacheObserver {
public:
    explicit TraceRecorder(const SlotCache& cache);

    void pass_begins(uint32_t tokens) override;
    void acquired(std::span<const PageId> pages, std::span<const Found> found,
                  const LayerStandings& standings) override;
    void prefetched(PageId page) override;
    void withdrawn(PageId page) override;

    // The trace so far, with the cache's counters as of now.
    DemandTrace take();

private:
    const SlotCache& cache_;
    DemandTrace trace_;
};

}  // namespace hypura::residency
