#include "placement/miss_curve.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace hypura::placement {
namespace {

TEST(MissCurve, FallsConvexlyToNothing) {
    const MissCurve curve = MissCurve::expected(128, 8, {});
    EXPECT_NEAR(curve.cliff(), 8.0 / 128, 1e-9);
    EXPECT_DOUBLE_EQ(curve.miss(0), 1);
    EXPECT_NEAR(curve.miss(1), 0, 1e-9);
    double before = 1, slope_before = -1e9;
    for (double share = 0.01; share <= 1; share += 0.01) {
        const double miss = curve.miss(share), slope = miss - before;
        EXPECT_LE(miss, before);
        EXPECT_GE(slope, slope_before - 1e-9);
        before = miss;
        slope_before = slope;
    }
}

TEST(MissCurve, UniformChoiceMissesWhatIsNotHeld) {
    const MissCurve curve = MissCurve::expected(64, 4, {.skew = 0, .reuse = 0});
    for (const double share : {0.1, 0.25, 0.5, 0.75, 0.9}) EXPECT_NEAR(curve.miss(share), 1 - share, 0.01) << share;
}

TEST(MissCurve, PopularExpertsAndReuseHelp) {
    const double plain = MissCurve::expected(64, 4, {.skew = 0, .reuse = 0}).miss(0.3);
    EXPECT_LT(MissCurve::expected(64, 4, {.skew = 1, .reuse = 0}).miss(0.3), plain - 0.1);
    EXPECT_NEAR(MissCurve::expected(64, 4, {.skew = 0, .reuse = 0.5}).miss(0.3), plain / 2, 0.02);
}

// A layer's experts drawn without replacement by popularity, through a pool that drops whatever was used least so far.
double simulated_miss(uint32_t experts, uint32_t used, double skew, uint32_t slots) {
    std::vector<double> weights;
    for (uint32_t rank = 0; rank < experts; ++rank) weights.push_back(std::pow(rank + 1.0, -skew));
    std::mt19937 random(7);
    std::discrete_distribution<uint32_t> draw(weights.begin(), weights.end());
    std::vector<uint64_t> uses(experts);
    std::vector<uint32_t> pool;
    uint64_t misses = 0, demands = 0;
    for (int token = 0; token < 6000; ++token) {
        std::vector<uint32_t> chosen;
        while (chosen.size() < used)
            if (const uint32_t expert = draw(random); std::ranges::find(chosen, expert) == chosen.end())
                chosen.push_back(expert);
        for (const uint32_t expert : chosen) {
            const bool held = std::ranges::contains(pool, expert);
            const bool warm = token > 500;
            demands += warm;
            misses += warm && !held;
            ++uses[expert];
            if (!held) pool.push_back(expert);
            if (pool.size() > slots)
                pool.erase(std::ranges::min_element(pool, {}, [&](uint32_t e) { return uses[e]; }));
        }
    }
    return static_cast<double>(misses) / static_cast<double>(demands);
}

TEST(MissCurve, AgreesWithASimulatedPool) {
    for (const double skew : {0.0, 0.5, 1.0}) {
        const MissCurve curve = MissCurve::expected(64, 4, {.skew = skew, .reuse = 0});
        for (const uint32_t slots : {3U, 12U, 24U, 40U}) {
            EXPECT_NEAR(curve.miss(slots / 64.0), simulated_miss(64, 4, skew, slots), 0.04) << skew << " " << slots;
        }
    }
}

TEST(MissCurve, ThroughPointsIsTheirConvexHull) {
    const MissCurve curve = MissCurve::through({{0.5, 0.5}, {0.1, 0.8}, {0.3, 0.75}, {0.7, 0.6}});
    EXPECT_DOUBLE_EQ(curve.miss(0.1), 0.8);
    EXPECT_DOUBLE_EQ(curve.miss(0.5), 0.8 * 5 / 9);  // on the chord to (1, 0), below the point that was given
    EXPECT_DOUBLE_EQ(curve.miss(1), 0);
}

TEST(MissCurve, WhereEveryExpertIsUsedThePoolMustHoldAll) {
    const MissCurve curve = MissCurve::expected(4, 4, {});
    EXPECT_DOUBLE_EQ(curve.cliff(), 1);
    EXPECT_DOUBLE_EQ(curve.miss(0.99), 1);
    EXPECT_DOUBLE_EQ(curve.miss(1), 0);
}

TEST(ExpectedUnion, GrowsFromOneTokensToAll) {
    EXPECT_NEAR(expected_union(128, 8, {}, 1), 8, 0.01);
    EXPECT_GT(expected_union(128, 8, {}, 16), 40);
    EXPECT_NEAR(expected_union(128, 8, {}, 1e6), 128, 0.01);
}

}  // namespace
}  // namespace hypura::placement
