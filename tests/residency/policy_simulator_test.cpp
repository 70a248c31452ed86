// Policies on traces small enough to work out by hand, and against one another on random ones.
#include "residency/policy_simulator.h"

#include "residency/cache_fixture.h"

namespace hypura::residency {
namespace {

using testing::ElementsAre;

// One class; a pass of one token for each inner list, whose pages are demanded together.
DemandTrace trace_of(const std::vector<std::vector<PageId>>& passes, uint32_t pages, uint32_t slots) {
    DemandTrace trace;
    trace.class_slots = {slots};
    for (PageId id = 0; id < pages; ++id) trace.pages.push_back({0, -1, 0, 100});
    for (const auto& demands : passes) {
        trace.events.push_back({TraceStep::kPass, 1});
        trace.events.push_back({TraceStep::kAcquire, static_cast<uint32_t>(demands.size())});
        trace.demands.insert(trace.demands.end(), demands.begin(), demands.end());
    }
    trace.found.resize(trace.demands.size());
    return trace;
}

DemandTrace one_by_one(const std::vector<PageId>& demands, uint32_t pages, uint32_t slots) {
    std::vector<std::vector<PageId>> passes;
    for (const PageId id : demands) passes.push_back({id});
    return trace_of(passes, pages, slots);
}

uint64_t hits(const DemandTrace& trace, Policy policy) {
    const auto simulated = simulate(trace, policy, trace.class_slots);
    EXPECT_TRUE(simulated) << simulated.error().message;
    return simulated ? simulated->all.hits : 0;
}

// The reference string of operating system textbooks, three frames: the optimum misses 9 times, LRU 12 times.
TEST(PolicySimulator, TheTextbookString) {
    const auto trace = one_by_one({7, 0, 1, 2, 0, 3, 0, 4, 2, 3, 0, 3, 2, 1, 2, 0, 1, 7, 0, 1}, 8, 3);
    EXPECT_EQ(hits(trace, Policy::kBelady), 20u - 9u);
    EXPECT_EQ(hits(trace, Policy::kLru), 20u - 12u);
    EXPECT_EQ(hits(trace, Policy::kShipped), 20u - 12u);
}

// A cycle of 4 pages through 3 slots. LRU evicts exactly what comes next. The optimum keeps two pages and lets the
// others pass through the third slot: 0 1 2 miss; 3 takes 2's slot (furthest); 0 1 hit; 2 takes 1's... by hand:
//   demand 0 1 2 3 0 1 2 3 0 1 2 3
//   slots  012 -> 3 for 2 -> 0,1 hit -> 2 for 1 (next at 9; 0 at 8, 3 at 7) -> 3,0 hit -> 1 for 0 (never again) -> 2,3
//   hit
TEST(PolicySimulator, ACycleOneLongerThanTheSlots) {
    const auto trace = one_by_one({0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3}, 4, 3);
    EXPECT_EQ(hits(trace, Policy::kLru), 0u);
    EXPECT_EQ(hits(trace, Policy::kBelady), 6u);
}

// {0,1} {2,0} with two slots: page 1 leaves, since page 0 is pinned by the same demand, although it was demanded first.
TEST(PolicySimulator, ADemandNeverEvictsItsOwnPages) {
    const auto trace = trace_of({{0, 1}, {2, 0}, {0, 2}}, 3, 2);
    for (const Policy policy : all_policies()) EXPECT_EQ(hits(trace, policy), 3u) << to_string(policy);
}

TEST(PolicySimulator, FrequencyKeepsWhatRecencyLoses) {
    // Page 0 is used often, then a scan of two pages passes through: LRU loses page 0, frequency does not.
    const auto trace = one_by_one({0, 0, 0, 1, 2, 0, 3, 4, 0}, 5, 2);
    EXPECT_EQ(hits(trace, Policy::kLru), 2u);
    EXPECT_EQ(hits(trace, Policy::kLfuDecay), 4u);
    EXPECT_EQ(hits(trace, Policy::kLru2), 4u);
}

TEST(PolicySimulator, RefusesADemandThatCannotFit) {
    const auto trace = trace_of({{0, 1, 2}}, 3, 2);
    const auto simulated = simulate(trace, Policy::kLru, trace.class_slots);
    ASSERT_FALSE(simulated);
    EXPECT_EQ(simulated.error().code, ErrorCode::kBudgetTooSmall);
    EXPECT_THAT(slots_for_share(trace, 0.1), ElementsAre(3));
    EXPECT_THAT(slots_for_share(trace, 1.0), ElementsAre(3));
}

TEST(PolicySimulator, WarmLeavesOutBatchesAndTheFirstPasses) {
    DemandTrace trace = one_by_one({0, 0, 0, 0}, 1, 1);
    trace.events[4].count = 7;  // the third pass is a batch
    const auto simulated = simulate(trace, Policy::kLru, trace.class_slots, {.cold_passes = 1});
    ASSERT_TRUE(simulated);
    EXPECT_EQ(simulated->all, (HitCount{4, 3, 400, 300}));
    EXPECT_EQ(simulated->warm, (HitCount{2, 2, 200, 200}));
}

TEST(PolicySimulator, PrefetchesCanBeLeftOut) {
    DemandTrace trace = trace_of({{0, 1}, {1}}, 2, 2);
    trace.events.push_back({TraceStep::kPrefetch, 0});
    trace.events.push_back({TraceStep::kWithdraw, 0});
    EXPECT_EQ(filtered(trace, {.demands_only = true}), trace_of({{0, 1}, {1}}, 2, 2));
    EXPECT_EQ(filtered(trace, {}), trace);
}

TEST(PolicySimulator, DenseWeightsAndBatchesCanBeLeftOut) {
    DemandTrace trace = trace_of({{0, 1}, {1}, {0}}, 2, 2);
    trace.pages[0].expert = 0;
    const DemandTrace experts = filtered(trace, {.experts_only = true});
    EXPECT_THAT(experts.demands, ElementsAre(0, 0));
    EXPECT_EQ(experts.events.size(), 5u);  // three passes, two demands
    trace.events[0].count = 7;
    const DemandTrace decode = filtered(trace, {.decode_only = true});
    EXPECT_THAT(decode.demands, ElementsAre(1, 0));
    EXPECT_EQ(decode.events.size(), 4u);
    EXPECT_EQ(filtered(trace, {}), trace);
}

// No policy beats the optimum, and nothing misses when everything fits but what is demanded for the first time.
TEST(PolicySimulator, BeladyBoundsEveryPolicy) {
    std::mt19937 random(3);
    std::vector<std::vector<PageId>> passes(400);
    for (auto& demands : passes)
        for (int i = 0; i < 3; ++i) {
            const auto id = static_cast<PageId>(std::min(random() % 40, random() % 40));
            if (std::ranges::find(demands, id) == demands.end()) demands.push_back(id);
        }
    for (const uint32_t slots : {3u, 8u, 16u, 30u, 40u}) {
        const auto trace = trace_of(passes, 40, slots);
        const uint64_t best = hits(trace, Policy::kBelady);
        for (const Policy policy : all_policies()) {
            EXPECT_LE(hits(trace, policy), best) << to_string(policy) << " in " << slots;
            if (slots < 40) continue;
            EXPECT_EQ(hits(trace, policy), trace.demands.size() - 40) << to_string(policy);
        }
    }
}

// The cache itself, recorded and replayed: the counters agree whatever was asked of it.
class ReplayTest : public CacheFixture {
protected:
    struct Asks {
        bool prefetches = false;
        bool withdrawals = false;
    };
    PageId some_page() { return static_cast<PageId>(std::min(random_() % 30, random_() % 30)); }

    void run(const Asks& asks) {
        for (int step = 0; step < 3000; ++step) {
            if (step % 3 == 0) cache_->begin_pass(step % 50 == 0 ? 200 : 1);
            if (asks.prefetches && random_() % 3 == 0) prefetch(some_page());
            if (asks.withdrawals && random_() % 3 == 0) withdraw_some();
            std::vector<PageId> pages = {some_page()};
            if (const PageId other = some_page(); other != pages[0]) pages.push_back(other);
            use(pages);
        }
    }
    // Reads of prefetches are under way now and then when they are taken back.
    void withdraw_some() {
        for (int i = 0; i < 10; ++i) {
            const PageId page = some_page();
            cache_->withdraw({&page, 1});
        }
    }
    void expect_agreement(const Asks& asks) {
        open_manual(30, {7, 5});
        TraceRecorder recorder(*cache_);
        cache_->observe(&recorder);
        run(asks);
        cache_->observe(nullptr);
        const DemandTrace trace = recorder.take();
        const auto replayed = simulate(trace, Policy::kShipped, trace.class_slots);
        ASSERT_TRUE(replayed) << replayed.error().message;
        EXPECT_EQ(replayed->all.demands, trace.counters.demands);
        EXPECT_EQ(replayed->all.hits, trace.counters.hits + trace.counters.joined);
        EXPECT_EQ(replayed->evictions, trace.counters.evictions);
        EXPECT_GT(replayed->evictions, 500u);
        const auto withdrawals = std::ranges::count(trace.events, TraceStep::kWithdraw, &TraceEvent::step);
        EXPECT_EQ(withdrawals > 100, asks.withdrawals);
    }
    std::mt19937 random_{11};
};

class ExpertReplayTest : public ReplayTest {
protected:
    ExpertReplayTest() {
        experts_ = true;
        pages_a_layer_ = 5;
    }
};

TEST_F(ReplayTest, DemandsAlone) { expect_agreement({}); }
TEST_F(ReplayTest, WithPrefetches) { expect_agreement({.prefetches = true}); }
TEST_F(ReplayTest, WithWithdrawals) { expect_agreement({true, true}); }
TEST_F(ExpertReplayTest, DemandsAlone) { expect_agreement({}); }
TEST_F(ExpertReplayTest, WithPrefetches) { expect_agreement({.prefetches = true}); }
TEST_F(ExpertReplayTest, WithWithdrawals) { expect_agreement({true, true}); }

}  // namespace
}  // namespace hypura::residency
