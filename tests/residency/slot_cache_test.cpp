#include "residency/slot_cache.h"

#include "residency/cache_fixture.h"

namespace hypura::residency {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsSupersetOf;

using SlotCacheTest = CacheFixture;

// ---- demands -------------------------------------------------------------------------------------------------------

TEST_F(SlotCacheTest, ReadsWhatIsAbsentAndKeepsWhatIsThere) {
    open_manual(4, {3});
    use({0, 1});
    use({1, 2});
    EXPECT_EQ(counters().demands, 4u);
    EXPECT_EQ(counters().hits, 1u);
    EXPECT_EQ(counters().evictions, 0u);
    EXPECT_THAT(present_pages(), ElementsAre(0, 1, 2));
}

TEST_F(SlotCacheTest, EvictsTheLeastRecentlyUsedPage) {
    open_manual(4, {3});
    use({0});
    use({1});
    use({2});
    use({0});
    use({3});
    EXPECT_THAT(present_pages(), ElementsAre(0, 2, 3));
    EXPECT_EQ(counters().evictions, 1u);
    EXPECT_THAT(cache_->evictions_by_group(), ElementsAre(0, 1, 0, 0));
}

TEST_F(SlotCacheTest, NeverEvictsAPageForAnotherOfTheSameDemand) {
    open_manual(3, {2});
    use({0});
    use({1});
    use({2, 0});
    EXPECT_EQ(counters().hits, 1u);
    EXPECT_EQ(counters().evictions, 1u);
    EXPECT_THAT(present_pages(), ElementsAre(0, 2));
}

TEST_F(SlotCacheTest, APageMayBeNamedTwice) {
    open_manual(2, {1});
    use({0, 0});
    use({1, 1});
    EXPECT_THAT(present_pages(), ElementsAre(1));
}

TEST_F(SlotCacheTest, PinnedPagesStay) {
    open_manual(6, {2});
    ASSERT_TRUE(bring({0}));
    const SlotIndex slot = cache_->slot_of(0);
    for (const PageId page : {1u, 2u, 3u, 4u, 5u}) use({page});
    EXPECT_EQ(cache_->slot_of(0), slot);
    EXPECT_TRUE(bytes_right(0));
    release({0});
}

TEST_F(SlotCacheTest, AClassDoesNotTakeFromAnother) {
    open_manual(6, {2, 1});  // even pages, odd pages
    use({0});
    for (const PageId page : {1u, 3u, 5u}) use({page});
    EXPECT_THAT(present_pages(), ElementsAre(0, 5));
    EXPECT_GE(cache_->memory_bytes(), 3 * kSlotStride);
}

TEST_F(SlotCacheTest, RefusesMoreThanItsSlotsAndPinsNothing) {
    open_manual(4, {2});
    const Status refused = acquire({0, 1, 2});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kBudgetTooSmall);
    EXPECT_THAT(refused.error().message, HasSubstr("page.2"));
    use({2, 3});  // needs both slots
    use({0, 1});
}

TEST_F(SlotCacheTest, RefusesWhenOthersHoldEverySlot) {
    open_manual(4, {2});
    ASSERT_TRUE(bring({0}));
    ASSERT_TRUE(bring({1}));
    EXPECT_EQ(acquire({1, 2}).error().code, ErrorCode::kBudgetTooSmall);
    release({1});
    use({2});
    EXPECT_TRUE(bytes_right(0));
    release({0});
}

// ---- promises ------------------------------------------------------------------------------------------------------

TEST_F(SlotCacheTest, APrefetchedPageIsThereOnDemand) {
    open_manual(3, {2});
    EXPECT_TRUE(prefetch(0));
    EXPECT_TRUE(prefetch(0));
    use({0});
    EXPECT_EQ(counters().prefetches, 1u);
    EXPECT_EQ(counters().hits, 1u);
    EXPECT_EQ(counters().prefetch_wasted, 0u);
}

TEST_F(SlotCacheTest, ADemandJoinsAReadUnderWay) {
    open_manual(3, {2});
    manual_->held = true;
    EXPECT_TRUE(prefetch(0));
    use({0});
    EXPECT_EQ(counters().joined, 1u);
    EXPECT_EQ(counters().hits, 0u);
}

TEST_F(SlotCacheTest, APrefetchTakesTheOldestPageButNoPromise) {
    open_manual(6, {3});
    use({0});
    use({1});
    use({2});
    EXPECT_TRUE(prefetch(3));
    EXPECT_TRUE(prefetch(4));
    EXPECT_THAT(present_pages(), ElementsAre(2, 3, 4));
    EXPECT_TRUE(prefetch(5));
    EXPECT_FALSE(prefetch(0));
    EXPECT_THAT(present_pages(), ElementsAre(3, 4, 5));
    EXPECT_EQ(counters().prefetch_wasted, 0u);
}

TEST_F(SlotCacheTest, APrefetchTakesNoPinnedPage) {
    open_manual(3, {1});
    ASSERT_TRUE(bring({0}));
    EXPECT_FALSE(prefetch(1));
    release({0});
    EXPECT_TRUE(prefetch(1));
}

TEST_F(SlotCacheTest, ADemandTakesTheLatestPromiseWhenNothingElseIsLeft) {
    open_manual(5, {3});
    for (const PageId page : {0u, 1u, 2u}) EXPECT_TRUE(prefetch(page));
    use({3});
    EXPECT_THAT(present_pages(), ElementsAre(0, 1, 3));
    EXPECT_EQ(counters().prefetch_wasted, 1u);
    use({4});  // page 3 is no promise any more
    EXPECT_THAT(present_pages(), ElementsAre(0, 1, 4));
}

TEST_F(SlotCacheTest, ADemandWaitsForPromisesThatAreStillBeingRead) {
    open_manual(3, {2});
    manual_->held = true;
    EXPECT_TRUE(prefetch(0));
    EXPECT_TRUE(prefetch(1));
    use({2});
    EXPECT_EQ(counters().evictions, 1u);
    EXPECT_EQ(counters().prefetch_wasted, 1u);
    EXPECT_EQ(present_pages().size(), 2u);
}

TEST_F(SlotCacheTest, ACyclicScanRunsAheadOfItself) {
    open_manual(7, {3});
    for (PageId step = 0; step < 70; ++step) {
        use({step % 7});
        EXPECT_TRUE(prefetch((step + 1) % 7));
        EXPECT_TRUE(prefetch((step + 2) % 7));
    }
    EXPECT_EQ(counters().hits, 69u);
    EXPECT_EQ(counters().prefetch_wasted, 0u);
}

// ---- experts -------------------------------------------------------------------------------------------------------

class ExpertCacheTest : public CacheFixture {
protected:
    ExpertCacheTest() {
        experts_ = true;
        pages_a_layer_ = 4;
    }
};

// Two layers of 4 experts, slots for all but two.
TEST_F(ExpertCacheTest, WhatIsNotUsedAnyMoreLeaves) {
    open_manual(8, {6});
    use({4, 5});
    for (PageId token = 0; token < 40; ++token) {
        cache_->begin_pass(1);
        use({0, 1 + token % 3});
        use({6, 7});
    }
    EXPECT_THAT(present_pages(), ElementsAre(0, 1, 2, 3, 6, 7));
    EXPECT_LE(counters().evictions, 6u);
}

TEST_F(ExpertCacheTest, AWithdrawnGuessLeavesBeforeWhatWasUsed) {
    open_manual(8, {3});
    cache_->begin_pass(1);
    use({0, 4});
    EXPECT_TRUE(prefetch(1));  // a page without any history
    const std::vector<PageId> wrong = {1};
    cache_->withdraw(wrong);
    use({2});
    EXPECT_THAT(present_pages(), ElementsAre(0, 2, 4));
    EXPECT_EQ(counters().prefetch_wasted, 1u);
}

TEST_F(ExpertCacheTest, PromisesYieldLastAndTheLatestFirst) {
    open_manual(12, {4});
    use({0});
    EXPECT_TRUE(prefetch(4));
    EXPECT_TRUE(prefetch(8));
    EXPECT_TRUE(prefetch(9));
    use({1});  // page 0 may leave now
    EXPECT_THAT(present_pages(), ElementsAre(1, 4, 8, 9));
    use({2, 3});
    EXPECT_THAT(present_pages(), ElementsAre(2, 3, 4, 8));
    EXPECT_EQ(counters().prefetch_wasted, 1u);
}

// The routing in hand may still compute with them, released or not.
TEST_F(ExpertCacheTest, APrefetchTakesNoPageOfTheLastDemand) {
    open_manual(8, {2});
    use({0, 1});
    EXPECT_FALSE(prefetch(4));
    use({4});
    EXPECT_TRUE(prefetch(2));
    EXPECT_THAT(present_pages(), ElementsAre(2, 4));
}

// Layers of four pages. A prompt is at the first of them, and will need the second before the third.
TEST_F(ExpertCacheTest, APrefetchTakesNoPageThatIsNeededBeforeIt) {
    open_manual(12, {5});
    use({4, 5});
    cache_->begin_pass(100);
    use({0, 1, 2});
    EXPECT_FALSE(prefetch(8));
    EXPECT_THAT(present_pages(), ElementsAre(0, 1, 2, 4, 5));
    use({4, 5});
    EXPECT_TRUE(prefetch(8));
    EXPECT_EQ(present_pages().size(), 5u);
    EXPECT_THAT(present_pages(), IsSupersetOf({4, 5, 8}));
}

// ---- slices and guesses --------------------------------------------------------------------------------------------

TEST_F(SlotCacheTest, FirstSlicesComeBeforeSecondOnes) {
    open_manual(2, {2});
    manual_->held = true;
    ASSERT_TRUE(acquire({0, 1}));
    const auto here = [&](PageId page, size_t slice) { return cache_->has_slice(page, slice).value(); };
    EXPECT_FALSE(here(0, 0));
    ASSERT_TRUE(cache_->wait_for_more());
    EXPECT_TRUE(here(0, 0) && !here(1, 0) && !here(0, 1));
    ASSERT_TRUE(cache_->wait_for_more());
    EXPECT_TRUE(here(1, 0) && !here(0, 1) && !here(1, 1));
    ASSERT_TRUE(wait({0, 1}));
    EXPECT_TRUE(here(0, 1) && here(1, 1));
    release({0, 1});
}

TEST_F(SlotCacheTest, AFailedSliceIsAnErrorOfItsPageAlone) {
    open_manual(2, {2});
    manual_->broken_offset = offset_of(0);
    ASSERT_TRUE(acquire({0, 1}));
    EXPECT_FALSE(wait({0, 1}));
    EXPECT_FALSE(cache_->has_slice(0, 1));
    EXPECT_TRUE(wait({1}) && cache_->has_slice(1, 1).value());
    release({0, 1});
}

TEST_F(SlotCacheTest, GuessesAreReadBehindTheDemandWhereASlotIsFree) {
    open_manual(4, {2});
    manual_->held = true;
    const std::vector<PageId> demand = {0};
    const std::vector<PageId> guesses = {1, 2};
    ASSERT_TRUE(cache_->acquire(demand, guesses));
    EXPECT_THAT(present_pages(), ElementsAre(0, 1));
    ASSERT_TRUE(wait({0}));
    EXPECT_FALSE(cache_->has_slice(1, 0).value());
    EXPECT_EQ(counters().prefetches, 1u);
    release({0});
    use({1});
    EXPECT_EQ(counters().prefetch_used, 1u);
}

TEST_F(SlotCacheTest, FirstSlicesOfGuessesComeBeforeSecondOnes) {
    open_manual(3, {3});
    manual_->held = true;
    const std::vector<PageId> demand = {0};
    const std::vector<PageId> guesses = {1, 2};
    ASSERT_TRUE(cache_->acquire(demand, guesses));
    ASSERT_TRUE(wait({0}));
    ASSERT_TRUE(cache_->wait_for_more());
    ASSERT_TRUE(cache_->wait_for_more());
    EXPECT_TRUE(cache_->has_slice(1, 0).value() && cache_->has_slice(2, 0).value());
    EXPECT_FALSE(cache_->has_slice(1, 1).value());
    release({0});
}

// Two slices a page: nothing is under way, then 16 reads.
TEST_F(SlotCacheTest, GuessesWaitForManyEarlierReadsNotForFew) {
    open_manual(30, {30});
    manual_->held = true;
    const std::vector<PageId> seven = {0, 1, 2, 3, 4, 5, 6}, one = {7}, guess = {20}, another = {21};
    ASSERT_TRUE(cache_->acquire(seven, guess));
    EXPECT_EQ(manual_->submitted_behind(), 0u);
    ASSERT_TRUE(cache_->acquire(one, another));
    EXPECT_EQ(manual_->submitted_behind(), 1u);
    ASSERT_TRUE(wait(seven));
    ASSERT_TRUE(wait(one));
    release(seven);
    release(one);
}

TEST_F(SlotCacheTest, AWithdrawnGuessMayLeaveLikeAnyPage) {
    open_manual(4, {2});
    EXPECT_TRUE(prefetch(0));
    EXPECT_TRUE(prefetch(1));
    EXPECT_FALSE(prefetch(2));  // promises yield to demands only
    const std::vector<PageId> wrong = {0};
    cache_->withdraw(wrong);
    EXPECT_EQ(counters().prefetch_wasted, 1u);
    EXPECT_TRUE(prefetch(2));
    EXPECT_THAT(present_pages(), ElementsAre(1, 2));
}

// ---- failures ------------------------------------------------------------------------------------------------------

TEST_F(SlotCacheTest, AFailedReadFreesTheSlotAndIsReadAfreshByTheNextDemand) {
    open_manual(2, {1});
    manual_->broken_offset = offset_of(0);
    const Status failed = bring({0});
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, ErrorCode::kReadFailed);
    EXPECT_THAT(failed.error().message, HasSubstr("page.0"));
    EXPECT_FALSE(present(0));
    release({0});
    use({1});

    manual_->broken_offset.reset();
    use({0});
}

TEST_F(SlotCacheTest, AFailedPageNamesItsOwnError) {
    open_manual(3, {3});
    manual_->broken_offset = offset_of(0);
    ASSERT_TRUE(acquire({0, 1}));
    EXPECT_FALSE(wait({0}));
    manual_->broken_offset = offset_of(2);
    ASSERT_TRUE(acquire({2}));
    EXPECT_THAT(wait({2}).error().message, HasSubstr("page.2"));
    EXPECT_THAT(wait({0, 1, 2}).error().message, HasSubstr("page.0"));
    EXPECT_TRUE(wait({1}));
    release({0, 1, 2});
    EXPECT_THAT(present_pages(), ElementsAre(1));
}

TEST_F(SlotCacheTest, AFailedPrefetchIsForgottenUntilTheDemand) {
    open_manual(2, {1});
    manual_->broken_offset = offset_of(0);
    EXPECT_TRUE(prefetch(0));
    for (int tries = 0; tries < 10 && !prefetch(1); ++tries) {  // until page 0 is given up
    }
    EXPECT_THAT(present_pages(), ElementsAre(1));
    manual_->broken_offset.reset();
    use({0});
}

TEST_F(SlotCacheTest, EveryFaultOfTheDeviceIsSurvivedOrReported) {
    for (const auto kind : {storage::FaultKind::kIoError, storage::FaultKind::kShortRead,
                            storage::FaultKind::kInterrupted, storage::FaultKind::kEndOfFile}) {
        for (const bool permanent : {false, true}) {
            auto raw = storage::make_raw_reader({.kind = storage::ReaderKind::kPread}).value();
            open(4, {2}, storage::make_fault_reader(std::move(raw), {.nth = 3, .kind = kind, .permanent = permanent}));
            use({0});
            const Status second = bring({1});
            EXPECT_EQ(second.has_value(), !permanent);
            release({1});
            use({2, 3});
            use({0});
        }
    }
}

TEST_F(SlotCacheTest, DestructionWaitsForItsReads) {
    open_manual(2, {2});
    manual_->held = true;
    ASSERT_TRUE(acquire({0}));
    EXPECT_TRUE(prefetch(1));
    cache_.reset();
    EXPECT_EQ(reader_->outstanding(), 0u);
}

// Writes down what it hears: "h3" is a hit on page 3.
class Listener final : public CacheObserver {
public:
    std::string heard;
    void pass_begins(uint32_t tokens) override { heard += std::format("pass{} ", tokens); }
    void acquired(std::span<const PageId> pages, std::span<const Found> found, const LayerStandings&) override {
        for (size_t i = 0; i < pages.size(); ++i)
            heard += std::format("{}{} ", "hpwm"[static_cast<size_t>(found[i])], pages[i]);
    }
    void prefetched(PageId page) override { heard += std::format("ahead{} ", page); }
    void withdrawn(PageId page) override { heard += std::format("free{} ", page); }
};

TEST_F(SlotCacheTest, AnObserverHearsEveryDemandAndWhatItFound) {
    open_manual(4, {3});
    Listener listener;
    cache_->observe(&listener);
    use({0, 1});
    EXPECT_TRUE(prefetch(2));
    use({2, 0});  // the read has come back by now
    manual_->held = true;
    EXPECT_TRUE(prefetch(3));
    EXPECT_TRUE(prefetch(3));  // under way already
    use({3});
    cache_->observe(nullptr);
    use({0});
    EXPECT_EQ(listener.heard, "m0 m1 ahead2 p2 h0 ahead3 w3 ");
}

// While it is being read, nothing may take its slot anyway.
TEST_F(SlotCacheTest, AnObserverHearsOfAWithdrawalWhenThePageMayLeave) {
    open_manual(4, {3});
    Listener listener;
    cache_->observe(&listener);
    cache_->begin_pass(1);
    manual_->held = true;
    const std::vector<PageId> wrong = {0, 1, 2};
    EXPECT_TRUE(prefetch(0));
    EXPECT_TRUE(prefetch(1));
    cache_->withdraw(wrong);
    EXPECT_EQ(listener.heard, "pass1 ahead0 ahead1 ");
    use({1});  // reads come back in order: page 0 first
    cache_->withdraw(wrong);
    EXPECT_EQ(listener.heard, "pass1 ahead0 ahead1 w1 free0 ");
    EXPECT_EQ(counters().prefetch_wasted, 2u);
    EXPECT_TRUE(prefetch(2));
    manual_->held = false;
    ASSERT_TRUE(cache_->poll());
    cache_->withdraw(wrong);
    EXPECT_EQ(listener.heard, "pass1 ahead0 ahead1 w1 free0 ahead2 free2 ");
    cache_->observe(nullptr);
}

}  // namespace
}  // namespace hypura::residency
