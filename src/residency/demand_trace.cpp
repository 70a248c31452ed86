#include "residency/demand_trace.h"

#include <utility>

namespace hypura::residency {
namespace {

TracePage describe(const PageSpec& spec) {
    TracePage page{static_cast<int32_t>(spec.group), spec.expert, spec.slot_class, 0};
    for (const SliceSpec& slice : spec.slices) page.bytes += slice.bytes;
    return page;
}

}  // namespace

TraceRecorder::TraceRecorder(const SlotCache& cache) : cache_(cache) {
    for (uint32_t slot_class = 0; slot_class < cache.class_count(); ++slot_class)
        trace_.class_slots.push_back(cache.class_spec(slot_class).slots);
    for (PageId page = 0; page < cache.page_count(); ++page) trace_.pages.push_back(describe(cache.page_spec(page)));
}

void TraceRecorder::pass_begins(uint32_t tokens) { trace_.events.push_back({TraceStep::kPass, tokens}); }

void TraceRecorder::acquired(std::span<const PageId> pages, std::span<const Found> found) {
    trace_.events.push_back({TraceStep::kAcquire, static_cast<uint32_t>(pages.size())});
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
