// What is read ahead of the layers that will need it, over a real slot cache.
#include "engine/expert_lookahead.h"

#include "engine/router_fixture.h"
#include "residency/cache_fixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hypura::engine {
namespace {

using residency::PageId;
using testing::ElementsAre;
using testing::IsEmpty;

// Experts 0 to 3 of layers 0 to 4: page 4 * layer + expert. Every router names experts 0 and 1 for the input (3, 2).
class Cache : public residency::CacheFixture {
public:
    void TestBody() override {}
    using CacheFixture::cache_;
    using CacheFixture::manual_;
    using CacheFixture::open_manual;
    using CacheFixture::use;
};

class ExpertLookaheadTest : public RouterFixture {
protected:
    static constexpr size_t kLayers = 5, kExperts = 4, kTopK = 2;

    ExpertLookaheadTest() {
        pages_.open_manual(kLayers * kExperts, {12});
        weight_ = matrix(2, kExperts, {1, 0, 0, 1, -1, -1, -1, 0});
        input_ = matrix(2, 1, {3, 2});
        for (size_t layer = 0; layer < kLayers; ++layer)
            lookahead_.add_layer({page(layer, 0), kExperts, 2, {weight_, nullptr, nullptr}});
    }
    static PageId page(size_t layer, uint32_t expert) { return static_cast<PageId>(layer * kExperts + expert); }

    std::vector<PageId> choose(size_t layer) {
        const auto chosen = lookahead_.choose(layer, input_, kTopK, *pages_.cache_, compute_);
        EXPECT_TRUE(chosen);
        return {chosen->begin(), chosen->end()};
    }
    void judge(size_t layer, std::vector<int32_t> ids, std::vector<int32_t> ranking = {}) {
        std::vector<PageId> demanded;
        for (const int32_t id : ids) demanded.push_back(page(layer, static_cast<uint32_t>(id)));
        lookahead_.judge(layer, {ids, kTopK, ranking}, demanded, *pages_.cache_);
    }
    // Layer 1 names what the routers say, pass after pass.
    void prove_right(int passes = 6) {
        for (int pass = 0; pass < passes; ++pass) {
            lookahead_.begin_pass();
            choose(0);
            judge(1, {0, 1});
        }
        lookahead_.begin_pass();
    }

    Cache pages_;
    ggml_tensor *weight_, *input_;
    ExpertLookahead lookahead_;
};

TEST_F(ExpertLookaheadTest, NothingIsReadBeforeGuessesProvedRight) {
    lookahead_.begin_pass();
    EXPECT_THAT(choose(0), IsEmpty());
    prove_right();
    EXPECT_THAT(choose(0), ElementsAre(page(1, 0), page(1, 1)));
}

TEST_F(ExpertLookaheadTest, WrongGuessesAreNotReadAgain) {
    prove_right();
    for (int pass = 0; pass < 30; ++pass) {
        lookahead_.begin_pass();
        choose(0);
        judge(1, {2, 3});
    }
    lookahead_.begin_pass();
    EXPECT_THAT(choose(0), IsEmpty());
}

TEST_F(ExpertLookaheadTest, GuessesThatAreAlwaysWrongInTheSameWayAreCorrected) {
    for (int pass = 0; pass < 400; ++pass) {
        lookahead_.begin_pass();
        choose(0);
        judge(1, {3, 2}, {3, 2, 1, 0});
    }
    lookahead_.begin_pass();
    EXPECT_THAT(choose(0), ElementsAre(page(1, 3), page(1, 2)));
}

TEST_F(ExpertLookaheadTest, WhatIsInMemoryIsNotGuessed) {
    prove_right();
    pages_.use({page(1, 0)});
    EXPECT_THAT(choose(0), ElementsAre(page(1, 1)));
}

TEST_F(ExpertLookaheadTest, ALayerNeedsWhatItsRoutingNamed) {
    prove_right();
    const std::vector<PageId> guesses = choose(0);
    ASSERT_TRUE(pages_.cache_->acquire({}, guesses));
    ASSERT_TRUE(pages_.cache_->poll());
    judge(1, {0, 3});  // expert 1 was wrong
    EXPECT_EQ(pages_.cache_->counters().prefetches, 2U);
    EXPECT_EQ(pages_.cache_->counters().prefetch_wasted, 1U);
}

TEST_F(ExpertLookaheadTest, LayersFurtherAheadAreAskedWhileTheDiskIsIdle) {
    pages_.use({page(0, 0), page(0, 1)});
    for (int pass = 0; pass < 6; ++pass) {
        lookahead_.begin_pass();
        judge(0, {0, 1});
        choose(0);
        judge(1, {0, 1});
        judge(2, {0, 1});
    }
    lookahead_.begin_pass();
    pages_.use({page(1, 0), page(1, 1)});
    judge(0, {0, 1});
    EXPECT_THAT(choose(0), ElementsAre(page(2, 0), page(2, 1)));
    // Two pages under way are enough.
    pages_.manual_->held = true;
    const std::vector<PageId> others = {page(4, 0), page(4, 1)};
    ASSERT_TRUE(pages_.cache_->acquire(others));
    EXPECT_THAT(choose(0), IsEmpty());
    pages_.manual_->held = false;
    ASSERT_TRUE(pages_.cache_->wait(others));
    pages_.cache_->release(others);
}

// Experts 2 and 3 of layer 0 had to be read, so that four of the next layer may be, not two.
TEST_F(ExpertLookaheadTest, AsManyAreReadAheadAsTheLayerLacked) {
    const std::vector<int32_t> both = {0, 1, 2, 3};  // of two tokens
    ggml_tensor* const two = matrix(2, 2, {3, 2, -3, -2});
    for (int pass = 0; pass < 6; ++pass) {
        lookahead_.begin_pass();
        judge(0, both);
        ASSERT_TRUE(lookahead_.choose(0, two, kTopK, *pages_.cache_, compute_));
        judge(1, both);
    }
    lookahead_.begin_pass();
    judge(0, both);
    const auto chosen = lookahead_.choose(0, two, kTopK, *pages_.cache_, compute_);
    ASSERT_TRUE(chosen);
    EXPECT_THAT(*chosen, testing::UnorderedElementsAre(page(1, 0), page(1, 1), page(1, 2), page(1, 3)));
}

// Both tokens are guessed to name experts 0 and 1; the second one names none of them, the first one both.
TEST_F(ExpertLookaheadTest, RightIsWhatAnyTokenOfThePassNames) {
    ggml_tensor* const two = matrix(2, 2, {3, 2, 3, 2});
    for (int pass = 0; pass < 6; ++pass) {
        lookahead_.begin_pass();
        ASSERT_TRUE(lookahead_.choose(0, two, kTopK, *pages_.cache_, compute_));
        judge(1, {0, 1, 2, 3});
    }
    lookahead_.begin_pass();
    const auto chosen = lookahead_.choose(0, two, kTopK, *pages_.cache_, compute_);
    ASSERT_TRUE(chosen);
    EXPECT_THAT(*chosen, ElementsAre(page(1, 0), page(1, 1)));
}

TEST_F(ExpertLookaheadTest, PassesOfOneTokenAndOfSeveralAreTrustedSeparately) {
    prove_right();
    EXPECT_THAT(choose(0), ElementsAre(page(1, 0), page(1, 1)));
    judge(0, {0, 1, 2, 3});
    EXPECT_THAT(choose(0), IsEmpty());
    judge(0, {0, 1});
    EXPECT_THAT(choose(0), ElementsAre(page(1, 0), page(1, 1)));
}

// A prompt that needs all experts of every layer; layers 0 and 1 are here. A single token would ask for two pages.
TEST_F(ExpertLookaheadTest, PassesOfManyTokensLookPastLayersThatLackNothing) {
    constexpr int64_t kTokens = 40;
    ggml_tensor* const many = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, 2, kTokens);
    std::vector<int32_t> ids;
    for (int64_t token = 0; token < kTokens; ++token) {
        const float sign = token % 2 == 0 ? 1 : -1;
        static_cast<float*>(many->data)[2 * token] = 3 * sign;
        static_cast<float*>(many->data)[2 * token + 1] = 2 * sign;
        for (const int32_t id : {0, 1}) ids.push_back(token % 2 == 0 ? id : id + 2);
    }
    pages_.use({page(0, 0), page(0, 1), page(0, 2), page(0, 3)});
    for (int pass = 0; pass < 6; ++pass) {
        lookahead_.begin_pass();
        judge(0, ids);
        ASSERT_TRUE(lookahead_.choose(0, many, kTopK, *pages_.cache_, compute_));
        for (const size_t layer : {1, 2, 3}) judge(layer, ids);
    }
    pages_.use({page(1, 0), page(1, 1), page(1, 2), page(1, 3)});
    lookahead_.begin_pass();
    judge(0, ids);
    const auto chosen = lookahead_.choose(0, many, kTopK, *pages_.cache_, compute_);
    ASSERT_TRUE(chosen);
    EXPECT_EQ(chosen->size(), 2 * kExperts);  // of layers 2 and 3
}

// Nothing was ever guessed of them. A router that names few is not taken to need the layers behind it.
TEST_F(ExpertLookaheadTest, PassesThatNameAllReadWholeLayersBeyondTheRoutersReach) {
    constexpr size_t kMoreLayers = 7;
    pages_.open_manual(kMoreLayers * kExperts, {static_cast<uint32_t>(kMoreLayers * kExperts)});
    lookahead_ = {};
    for (size_t layer = 0; layer < kMoreLayers; ++layer)
        lookahead_.add_layer({page(layer, 0), kExperts, 2, {weight_, nullptr, nullptr}});
    for (PageId layers = 0; layers < 4; ++layers)
        pages_.use({page(layers, 0), page(layers, 1), page(layers, 2), page(layers, 3)});
    pages_.use({page(4, 2)});
    std::vector<int32_t> all, few;
    for (int32_t token = 0; token < 40; ++token) {
        all.insert(all.end(), {token % 2, 2 + token % 2});
        few.insert(few.end(), {0, 1});
    }
    lookahead_.begin_pass();
    judge(0, few);
    EXPECT_THAT(choose(0), IsEmpty());
    judge(0, all);
    const std::vector<PageId> chosen = choose(0);
    EXPECT_THAT(chosen, ElementsAre(page(4, 0), page(4, 1), page(4, 3), page(5, 0), page(5, 1), page(5, 2),
                                    page(5, 3)));  // the last layer is left alone
    ASSERT_TRUE(pages_.cache_->acquire({}, chosen));
    ASSERT_TRUE(pages_.cache_->poll());
    judge(4, few);
    EXPECT_EQ(pages_.cache_->counters().prefetch_wasted, 1U);  // page(4, 3)
}

TEST_F(ExpertLookaheadTest, NobodyGuessesWhileNothingIsLacking) {
    prove_right();
    pages_.use({page(0, 0), page(0, 1)});
    for (size_t i = 0; i < kLayers; ++i) judge(0, {0, 1});
    EXPECT_TRUE(lookahead_.wants_input(0, *pages_.cache_));
    judge(0, {0, 1});
    EXPECT_FALSE(lookahead_.wants_input(0, *pages_.cache_));
    EXPECT_THAT(choose(0), IsEmpty());
    judge(0, {0, 2});
    EXPECT_TRUE(lookahead_.wants_input(0, *pages_.cache_));
}

// Layer 1 has device slots, one of them with expert 0.
TEST_F(ExpertLookaheadTest, WhatIsOnADeviceIsNotRead) {
    const GgmlContextHandle context(ggml_init({.mem_size = 1 << 16, .mem_buffer = nullptr, .no_alloc = false}));
    ggml_tensor* const experts = ggml_new_tensor_3d(context.get(), GGML_TYPE_F32, 2, 2, kExperts);
    ggml_backend_dev_t const processor = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    const auto stream = DeviceStream::create(processor, 0).value();
    ExpertGroupLayout group{.experts = kExperts};
    group.parts.push_back({.tensor = experts, .bytes = 4 * sizeof(float)});
    const auto bank = DeviceBank::create(*stream, group, 2, 2).value();
    lookahead_ = {};
    for (size_t layer = 0; layer < 2; ++layer)
        lookahead_.add_layer(
            {page(layer, 0), kExperts, 2, {weight_, nullptr, nullptr}, layer == 1 ? bank.get() : nullptr});
    prove_right();
    ASSERT_TRUE(bank->assign(std::vector<uint32_t>{0, 2}));
    EXPECT_TRUE(lookahead_.wants_input(0, *pages_.cache_));
    EXPECT_THAT(choose(0), ElementsAre(page(1, 1)));
    pages_.use({page(1, 1), page(1, 3)});
    EXPECT_FALSE(lookahead_.wants_input(0, *pages_.cache_));
}

TEST_F(ExpertLookaheadTest, TheLastLayerHasNothingAhead) {
    prove_right();
    EXPECT_THAT(choose(kLayers - 1), IsEmpty());
}

}  // namespace
}  // namespace hypura::engine
