#include "residency/standing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace hypura::residency {
namespace {

using testing::ElementsAre;

std::vector<int32_t> in_order(int32_t experts) {
    std::vector<int32_t> ranking(static_cast<size_t>(experts));
    std::iota(ranking.begin(), ranking.end(), 0);
    return ranking;
}

TEST(StandingTable, TheLastStandsLowestAndTheLastChosenAtTheBorder) {
    StandingTable table;
    table.begin(64, 4);
    table.add_ranking(in_order(64));
    const auto standings = table.standings();
    EXPECT_EQ(standings[3], kLastChosen);
    EXPECT_EQ(standings[63], 0);
    EXPECT_EQ(standings[15], 16);  // half of the octaves between the two
    EXPECT_EQ(standings[0], 48);
    EXPECT_TRUE(std::ranges::is_sorted(standings, std::greater{}));
}

TEST(StandingTable, FollowsTheRanking) {
    StandingTable table;
    table.begin(4, 2);
    table.add_ranking(std::vector<int32_t>{2, 0, 3, 1});
    EXPECT_THAT(table.standings(), ElementsAre(32, 0, kHighestStanding, 13));
    table.begin(4, 2);
    table.add_ranking(std::vector<int32_t>{2, -1, 4, 1});
    EXPECT_THAT(table.standings(), ElementsAre(0, 0, kHighestStanding, 0));
}

TEST(StandingTable, OfSeveralTokensTheBestCounts) {
    StandingTable table;
    table.begin(4, 2);
    table.add_ranking(std::vector<int32_t>{2, 0, 3, 1});
    table.add_ranking(std::vector<int32_t>{1, 3, 0, 2});
    EXPECT_THAT(table.standings(), ElementsAre(32, kHighestStanding, kHighestStanding, 32));
    table.set_aside(1);
    EXPECT_EQ(table.standings()[1], 0);
    table.begin(4, 2);
    EXPECT_THAT(table.standings(), testing::Each(0));
    table.clear();
    EXPECT_TRUE(table.standings().empty());
}

TEST(StandingTable, OtherLayersMayHaveOtherNumbers) {
    StandingTable table;
    for (const auto& [experts, chosen] : {std::pair(8, 2), std::pair(128, 8), std::pair(8, 1)}) {
        table.begin(static_cast<size_t>(experts), static_cast<size_t>(chosen));
        table.add_ranking(in_order(experts));
        EXPECT_EQ(table.standings()[static_cast<size_t>(chosen - 1)], kLastChosen);
        EXPECT_EQ(table.standings().back(), 0);
    }
    table.begin(4, 4);
    table.add_ranking(in_order(4));
    EXPECT_THAT(table.standings(), testing::Each(kHighestStanding));
}

}  // namespace
}  // namespace hypura::residency
