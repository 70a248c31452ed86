#include "residency/use_forecast.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <span>

namespace hypura::residency {
namespace {

using testing::ElementsAre;

// One class; page = layer * experts + expert. Every page may leave.
class UseForecastTest : public testing::Test {
protected:
    static constexpr uint32_t kLayers = 3, kExperts = 8;

    UseForecastTest() : forecast_(places()) {
        for (PageId page = 0; page < kLayers * kExperts; ++page) forecast_.set_may_leave(page, true);
    }
    static std::vector<UseForecast::PagePlace> places() {
        std::vector<UseForecast::PagePlace> all;
        for (uint32_t layer = 0; layer < kLayers; ++layer)
            for (uint32_t expert = 0; expert < kExperts; ++expert) all.push_back({0, layer, true});
        return all;
    }
    static PageId page_of(uint32_t layer, uint32_t expert) { return layer * kExperts + expert; }

    // A pass in which every layer names these experts.
    void pass(const std::vector<uint32_t>& experts, uint32_t tokens = 1) {
        forecast_.begin_pass(tokens);
        for (uint32_t layer = 0; layer < kLayers; ++layer) {
            std::vector<PageId> pages;
            for (const uint32_t expert : experts) pages.push_back(page_of(layer, expert));
            forecast_.demand(pages);
        }
    }
    // A pass in which the router of every layer ranks its experts like that and takes two.
    void stand(const std::vector<int32_t>& ranking) {
        forecast_.begin_pass(1);
        for (uint32_t layer = 0; layer < kLayers; ++layer) stand_at_layer(layer, ranking);
    }
    void stand_at_layer(uint32_t layer, const std::vector<int32_t>& ranking) {
        StandingTable table;
        table.begin(kExperts, 2);
        table.add_ranking(ranking);
        const std::vector<PageId> pages = {page_of(layer, static_cast<uint32_t>(ranking[0])),
                                           page_of(layer, static_cast<uint32_t>(ranking[1]))};
        forecast_.demand(pages, {page_of(layer, 0), table.standings()});
    }
    // Takes the pages that leave, one after the other.
    std::vector<uint32_t> next_to_leave(size_t count) {
        std::vector<uint32_t> experts;
        for (; count > 0; --count) {
            const auto page = forecast_.last_expected(0);
            if (!page) break;
            experts.push_back(*page % kExperts);
            forecast_.set_may_leave(*page, false);
        }
        return experts;
    }
    float wait(uint32_t expert) const { return forecast_.expected_wait(page_of(0, expert)); }

    UseForecast forecast_;
};

// By the choice alone, as all tests that call pass().
TEST_F(UseForecastTest, UntrainedWhatWasNeverUsedLeavesFirstAndThenWhatWasUsedBefore) {
    pass({0});
    pass({1});
    EXPECT_THAT(next_to_leave(18), testing::Each(testing::Ge(2u)));
    EXPECT_THAT(next_to_leave(3), ElementsAre(0, 0, 0));
}

// Neither expert 6 nor 7 was ever chosen.
TEST_F(UseForecastTest, WhatNearlyGotChosenStays) {
    for (int i = 0; i < 40; ++i) stand({5, 4, 6, 3, 2, 1, 0, 7});
    EXPECT_LT(wait(6), wait(7));
    EXPECT_LT(wait(5), wait(6));
}

TEST_F(UseForecastTest, LearnsWhatStandingsAreWorth) {
    std::mt19937 random(5);
    for (int i = 0; i < 200; ++i) {
        std::vector<int32_t> ranking = {0, 1, 2, 3, 4, 5, 6, 7};  // two of the first four are chosen
        std::ranges::shuffle(ranking.begin(), ranking.begin() + 4, random);
        stand(ranking);
    }
    for (uint32_t expert = 0; expert < 4; ++expert) EXPECT_NEAR(wait(expert), 2, 1.1);
    for (uint32_t expert = 4; expert < 8; ++expert) EXPECT_GT(wait(expert), 20);
}

TEST_F(UseForecastTest, StandingsOfOtherLayersAreLeftAlone) {
    for (int i = 0; i < 5; ++i) stand({0, 1, 2, 3, 4, 5, 6, 7});
    const float before = forecast_.expected_wait(page_of(1, 0));
    StandingTable table;
    table.begin(kExperts, 2);
    table.add_ranking(std::vector<int32_t>{7, 6, 5, 4, 3, 2, 1, 0});
    forecast_.demand(std::vector<PageId>{page_of(0, 7)}, {page_of(0, 0), table.standings()});
    EXPECT_GT(wait(0), before);
    stand_at_layer(2, {7, 6, 5, 4, 3, 2, 1, 0});
    EXPECT_NEAR(forecast_.expected_wait(page_of(1, 0)), before, 1);
}

// As a router chose it and a device had it: the wait is that of a demand, but the page is free to leave.
TEST_F(UseForecastTest, WhatWasUsedElsewhereIsLearnedFromAndMayLeave) {
    UseForecast demanded(places());
    for (uint32_t i = 0; i < 20; ++i) {
        forecast_.begin_pass(1);
        demanded.begin_pass(1);
        for (uint32_t layer = 0; layer < kLayers; ++layer) {
            const PageId hot = page_of(layer, 0), other = page_of(layer, 2 + i % 6);
            forecast_.demand(std::vector{other}, {.used_elsewhere = std::vector{hot}});
            demanded.demand(std::vector{hot, other});
        }
    }
    EXPECT_FLOAT_EQ(wait(0), demanded.expected_wait(page_of(0, 0)));
    EXPECT_LT(wait(0), wait(1));
    for (PageId page = 0; page < kLayers * kExperts; ++page) forecast_.set_may_leave(page, page == page_of(0, 0));
    forecast_.demand({}, {.used_elsewhere = std::vector{page_of(0, 0)}});
    EXPECT_EQ(forecast_.last_expected(0), page_of(0, 0));
    forecast_.demand(std::vector{page_of(0, 0)});
    EXPECT_EQ(forecast_.last_expected(0), std::nullopt);
}

// Of pages that are alike, the one whose layer was routed last comes again last.
TEST_F(UseForecastTest, AmongEqualsTheLayerFurthestAheadLeaves) {
    pass({0});
    pass({1});
    std::vector<PageId> left;
    for (uint32_t layer = 0; layer < kLayers; ++layer)
        for (uint32_t expert = 2; expert < kExperts; ++expert) forecast_.set_may_leave(page_of(layer, expert), false);
    for (int i = 0; i < 3; ++i) {
        left.push_back(*forecast_.last_expected(0));
        forecast_.set_may_leave(left.back(), false);
    }
    EXPECT_THAT(left, ElementsAre(page_of(2, 0), page_of(1, 0), page_of(0, 0)));
}

TEST_F(UseForecastTest, LearnsThatSomeAreUsedMoreOften) {
    std::mt19937 random(5);
    for (int i = 0; i < 300; ++i) {
        const auto other = static_cast<uint32_t>(2 + random() % 6);
        pass({random() % 2 == 0 ? 0 : other});
    }
    pass({0});
    pass({7});
    for (uint32_t i = 0; i < 6; ++i) pass({1});  // by now page 0 is older than page 7
    EXPECT_LT(wait(0), wait(7));
}

// Every page is used in each fourth pass: what was used first of the four is needed next.
TEST_F(UseForecastTest, LearnsACycle) {
    for (uint32_t i = 0; i < 200; ++i) pass({i % 4});
    for (uint32_t later = 1; later < 4; ++later) EXPECT_GT(wait(later), 4 * wait(0));
    EXPECT_LT(wait(0), 2);
}

TEST_F(UseForecastTest, PassesOfManyTokensTeachNothing) {
    for (uint32_t expert = 0; expert < 6; ++expert) pass({expert});
    const std::vector<float> before = {wait(0), wait(2), wait(5), wait(6)};
    for (int i = 0; i < 50; ++i) pass({0, 1, 2, 3, 4, 5, 6, 7}, UseForecast::kMostTokensToLearnFrom + 1);
    EXPECT_EQ((std::vector<float>{wait(0), wait(2), wait(5), wait(6)}), before);
    pass({0, 1, 2, 3, 4, 5, 6, 7}, UseForecast::kMostTokensToLearnFrom);
    EXPECT_NE(wait(0), before[0]);
}

// Expert 0 is every token's, the others hardly anybody's; a prompt needs all of the layers that are still to come.
TEST_F(UseForecastTest, PassesOfManyTokensKeepTheirLaterLayers) {
    for (int i = 0; i < 50; ++i) pass({0});
    forecast_.begin_pass(UseForecast::kMostTokensToLearnFrom + 1);
    forecast_.demand(std::vector<PageId>{page_of(0, 0), page_of(0, 1)});
    EXPECT_EQ(*forecast_.last_expected(0) / kExperts, 0u);  // what this layer holds and did not name
    forecast_.demand(std::vector<PageId>{page_of(1, 0)});
    std::vector<PageId> left;
    while (const auto page = forecast_.last_expected(0)) {
        left.push_back(*page);
        forecast_.set_may_leave(*page, false);
    }
    const auto of_layer_2 = [](PageId page) { return page / kExperts == 2; };
    ASSERT_EQ(left.size(), kLayers * kExperts - 1);
    EXPECT_TRUE(std::ranges::all_of(std::span(left).last(kExperts), of_layer_2));
    EXPECT_EQ(left[left.size() - kExperts - 1], page_of(0, 0));
}

TEST_F(UseForecastTest, NoGuessTakesThePlaceOfWhatIsNeededBeforeIt) {
    pass({0, 1, 2, 3, 4, 5, 6, 7});
    forecast_.begin_pass(UseForecast::kMostTokensToLearnFrom + 1);
    std::vector<PageId> first_layer(kExperts);
    std::ranges::iota(first_layer, 0);
    forecast_.demand(first_layer);
    EXPECT_EQ(*forecast_.last_expected_after(page_of(1, 0)) / kExperts, 2u);
    EXPECT_FALSE(forecast_.last_expected_after(page_of(2, 0)));
    forecast_.demand(std::vector<PageId>{page_of(1, 0)});
    EXPECT_EQ(*forecast_.last_expected_after(page_of(2, 0)) / kExperts, 1u);
}

TEST_F(UseForecastTest, WhatWasDemandedLastDoesNotLeave) {
    pass({0, 1, 2, 3, 4, 5, 6, 7});
    const auto left = next_to_leave(100);
    EXPECT_EQ(left.size(), (kLayers - 1) * kExperts);
    forecast_.demand(std::vector<PageId>{page_of(0, 0)});
    EXPECT_EQ(next_to_leave(100).size(), kExperts);
}

TEST(UseForecast, LeavesDenseClassesAlone) {
    const std::vector<UseForecast::PagePlace> places = {{0, 0, true}, {1, 0, false}, {1, 1, true}};
    UseForecast forecast(places);
    EXPECT_TRUE(forecast.has_class(0));
    EXPECT_FALSE(forecast.has_class(1));
    EXPECT_FALSE(forecast.has_class(2));
    forecast.demand(std::vector<PageId>{1, 2});
    forecast.set_may_leave(2, true);
    EXPECT_FALSE(forecast.last_expected(1));
    EXPECT_FALSE(forecast.last_expected(0));
}

}  // namespace
}  // namespace hypura::residency
