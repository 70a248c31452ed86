#include "residency/demand_trace.h"

#include <algorithm>
#include <utility>

namespace hypura::residency {
namespace {

TracePage describe(const PageSpec& spec) {
    TracePage page{static_cast<int32_t>(spec.group), spec.expert, spec.slot_class, 0};
    for (const SliceSpec& slice : spec.slices) page.bytes += slice.bytes;
    return page;
}

}  // namespace

// Pages of a layer's experts follow one another.
LayerStandings standings_of_layer(const DemandTrace& trace, PageId page, std::span<const Standing> of_experts) {
    return {page - static_cast<PageId>(std::max(trace.pages[page].expert, 0)), of_experts};
}

TraceRecorder::TraceRecorder(const SlotCache& cache) : cache_(cache) {
    for (uint32_t slot_class = 0; slot_class < cache.class_count(); ++slot_class)
        trace_.class_slots.push_back(cache.class_spec(slot_class).slots);
    for (PageId page = 0; page < cache.page_count(); ++page) trace_.pages.push_back(describe(cache.page_spec(page)));
}

void TraceRecorder::pass_begins(uint32_t tokens) { trace_.events.push_back({TraceStep::kPass, tokens}); }

void TraceRecorder::acquired(std::span<const PageId> pages, std::span<const Found> found,
                             const LayerStandings& standings) {
    const auto& known = pages.empty() ? std::span<const Standing>() : standings.of_experts;
    trace_.events.push_back(
        {TraceStep::kAcquire, static_cast<uint32_t>(pages.size()), static_cast<uint32_t>(known.size())});
    trace_.standings.insert(trace_.standings.end(), known.begin(), known.end());
    trace_.demands.insert(trace_.demands.end(), pages.begin(), pages.end());
    trace_.found.insert(trace_.found.end(), found.begin(), found.end());
}

void TraceRecorder::prefetched(PageId page) { trace_.events.push_back({TraceStep::kPrefetch, page}); }

void TraceRecorder::withdrawn(PageId page) { trace_.events.push_back({TraceStep::kWithdraw, page}); }

DemandTrace TraceRecorder::take() {
    trace_.counters = cache_.counters();
    return std::move(trace_);
}

}  // namespace hypura::residency
