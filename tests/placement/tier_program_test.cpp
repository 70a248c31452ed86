#include "placement/tier_program.h"

#include "base/bytes.h"
#include "base/clock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>

namespace hypura::placement {
namespace {

constexpr double kGib = static_cast<double>(kGiB);

Tier device(double gib) { return {"device", gib * kGib, 1 / 1000e9, 0}; }
Tier memory(double gib) { return {"memory", gib * kGib, 1 / 20e9, 0}; }
Tier disk() { return {"disk", 0, 1 / 20e9, 1 / 2e9}; }

// ---- exhaustive search ---------------------------------------------------------------------------------------------

// All ways to spread the items over the tiers; `visit` gets each with pools empty.
void spread(const TierProblem& problem, TierAnswer& answer, size_t item, const std::function<void()>& visit) {
    if (item == problem.items.size()) return visit();
    const size_t tiers = problem.tiers.size();
    const std::function<void(size_t, int)> deal = [&](size_t tier, int left) {
        if (tier + 1 == tiers) {
            answer.items[item][tier] = left;
            return spread(problem, answer, item + 1, visit);
        }
        for (int here = 0; here <= left; ++here) {
            answer.items[item][tier] = here;
            deal(tier + 1, left - here);
        }
    };
    deal(0, problem.items[item].count);
}

// One pool: more of it in an earlier tier is never worse, but a first tier below one token's demand hits nothing. So
// each tier is either filled or left empty.
double best_with_pool(const TierProblem& problem, TierAnswer& answer) {
    const size_t memories = problem.tiers.size() - 1;
    std::vector<double> room;
    for (size_t t = 0; t < memories; ++t) {
        double used = 0;
        for (size_t i = 0; i < problem.items.size(); ++i) used += problem.items[i].bytes * answer.items[i][t];
        if (used > problem.tiers[t].capacity_bytes * (1 + 1e-9)) return INFINITY;
        room.push_back(problem.tiers[t].capacity_bytes - used);
    }
    if (problem.pools.empty()) return seconds_of(problem, answer);
    double best = INFINITY;
    for (unsigned mask = 0; mask < (1U << memories); ++mask) {
        double left = problem.pools[0].bytes;
        for (size_t t = 0; t < memories; ++t) {
            answer.pools[0][t] = (mask >> t) & 1 ? std::min(left, room[t]) : 0;
            left -= answer.pools[0][t];
        }
        if (problem.pools[0].bytes - left < problem.pools[0].bytes * problem.pools[0].curve.cliff()) continue;
        best = std::min(best, seconds_of(problem, answer));
    }
    return best;
}

double exhaustive_seconds(const TierProblem& problem) {
    TierAnswer answer;
    answer.items.assign(problem.items.size(), std::vector<int>(problem.tiers.size()));
    answer.pools.assign(problem.pools.size(), std::vector<double>(problem.tiers.size() - 1));
    double best = INFINITY;
    spread(problem, answer, 0, [&] { best = std::min(best, best_with_pool(problem, answer)); });
    return best;
}

// ---- instances -----------------------------------------------------------------------------------------------------

TierProblem random_problem(uint32_t seed, bool three_tiers, bool with_pool) {
    std::mt19937 random(seed);
    const auto between = [&](double low, double high) { return std::uniform_real_distribution(low, high)(random); };
    TierProblem problem;
    const int kinds = three_tiers ? 3 : 4;
    double total = 0;
    for (int kind = 0; kind < kinds; ++kind) {
        problem.items.push_back({between(0.05, 0.6) * kGib, static_cast<int>(between(2, 6.99))});
        total += problem.items.back().bytes * problem.items.back().count;
    }
    if (with_pool) {
        const double used = std::floor(between(1, 8.99));
        const uint64_t experts = 16u << random() % 4;
        const double bytes = between(2, 12) * kGib;
        problem.pools.push_back(
            {bytes, bytes * used / static_cast<double>(experts),
             MissCurve::expected(experts, static_cast<uint64_t>(used), {between(0, 1.2), between(0, 0.5)})});
        total += bytes;
    }
    const double cliff = with_pool ? problem.pools[0].bytes * problem.pools[0].curve.cliff() / kGib : 0;
    if (three_tiers) problem.tiers.push_back(device(between(0.1, 0.4) * total / kGib));
    problem.tiers.push_back(memory(cliff * 1.05 + between(0.1, 0.6) * total / kGib));
    problem.tiers.push_back(disk());
    return problem;
}

void expect_feasible(const TierProblem& problem, const TierAnswer& answer) {
    for (size_t t = 0; t + 1 < problem.tiers.size(); ++t) {
        double used = 0;
        for (size_t i = 0; i < problem.items.size(); ++i) used += problem.items[i].bytes * answer.items[i][t];
        for (const auto& held : answer.pools) used += held[t];
        EXPECT_LE(used, problem.tiers[t].capacity_bytes * (1 + 1e-6));
    }
    for (size_t i = 0; i < problem.items.size(); ++i)
        EXPECT_EQ(std::accumulate(answer.items[i].begin(), answer.items[i].end(), 0), problem.items[i].count);
    for (size_t p = 0; p < problem.pools.size(); ++p)
        EXPECT_GE(std::accumulate(answer.pools[p].begin(), answer.pools[p].end(), 0.0),
                  problem.pools[p].bytes * problem.pools[p].curve.cliff() * (1 - 1e-6));
}

// However busy the machine is: that the program is solved is tested, and how fast is printed.
constexpr double kPatienceSeconds = 60;

TEST(TierProgram, IsWithinOnePercentOfExhaustiveSearch) {
    for (uint32_t seed = 1; seed <= 40; ++seed) {
        const TierProblem problem = random_problem(seed, seed % 2 == 0, seed % 4 < 2);
        const auto answer = solve_tiers(problem, kPatienceSeconds);
        ASSERT_TRUE(answer) << answer.error().message;
        expect_feasible(problem, *answer);
        EXPECT_LE(answer->seconds, exhaustive_seconds(problem) * 1.01) << "seed " << seed;
    }
}

// Layers as models have them: a dense matrix and a pool each.
TierProblem layered(int layers, double device_gib, double memory_gib, uint64_t experts) {
    TierProblem problem;
    for (int layer = 0; layer < layers; ++layer) {
        problem.items.push_back({0.04 * kGib, 1});
        problem.pools.push_back(
            {0.33 * kGib, 0.33 * kGib * 8 / static_cast<double>(experts), MissCurve::expected(experts, 8, {})});
    }
    problem.tiers = {device(device_gib), memory(memory_gib), disk()};
    return problem;
}

TEST(TierProgram, BeatsFillingLayersInOrderOnThreeTiers) {
    for (const auto& [device_gib, memory_gib] : std::vector<std::pair<double, double>>{{2, 4}, {4, 4}, {3, 6}}) {
        const TierProblem problem = layered(32, device_gib, memory_gib, 128);
        const auto answer = solve_tiers(problem, kPatienceSeconds);
        ASSERT_TRUE(answer) << answer.error().message;
        expect_feasible(problem, *answer);
        EXPECT_GE(fill_in_order(problem).seconds / answer->seconds, 1.3) << device_gib << " " << memory_gib;
    }
}

TEST(TierProgram, SolvesLargeModels) {
    const TierProblem problem = layered(128, 12, 16, 512);
    const int64_t begin_us = now_us();
    const auto answer = solve_tiers(problem, kPatienceSeconds);
    ASSERT_TRUE(answer) << answer.error().message;
    expect_feasible(problem, *answer);
    EXPECT_LE(answer->seconds, fill_in_order(problem).seconds);
    RecordProperty("milliseconds", static_cast<int>((now_us() - begin_us) / 1000));
}

TEST(TierProgram, DenseWeightsComeBeforeThePoolAndThePoolKeepsOneToken) {
    TierProblem problem;
    problem.items = {{1 * kGib, 4}};
    problem.pools = {{8 * kGib, 0.5 * kGib, MissCurve::expected(64, 4, {})}};
    problem.tiers = {memory(5), disk()};
    const auto roomy = solve_tiers(problem, kPatienceSeconds);
    ASSERT_TRUE(roomy);
    EXPECT_EQ(roomy->items[0][0], 4);
    problem.tiers[0].capacity_bytes = 0.9 * kGib;  // not one matrix beside one token's experts
    const auto tight = solve_tiers(problem, kPatienceSeconds);
    ASSERT_TRUE(tight);
    EXPECT_EQ(tight->items[0][0], 0);
    EXPECT_GE(tight->pools[0][0], 0.5 * kGib * (1 - 1e-6));
}

TEST(TierProgram, RefusesAPoolThatCannotHoldOneToken) {
    TierProblem problem;
    problem.pools = {{8 * kGib, 0.5 * kGib, MissCurve::expected(64, 4, {})}};
    problem.tiers = {memory(0.4), disk()};
    EXPECT_EQ(solve_tiers(problem).error().code, ErrorCode::kBudgetTooSmall);
}

TEST(TierProgram, OverlapsDenseReadsWithArithmeticAndNotExperts) {
    TierProblem problem;
    problem.items = {{2 * kGib, 1}};
    problem.tiers = {memory(0), disk()};
    TierAnswer all_on_disk{{{0, 1}}, {}, 0};
    EXPECT_DOUBLE_EQ(seconds_of(problem, all_on_disk),
                     2 * kGib / 2e9);  // the disk's time alone: it hides the arithmetic
    problem.pools = {{1 * kGib, 0.1 * kGib, MissCurve::through({{0.1, 1.0}})}};
    problem.tiers[1].compute_seconds_per_byte = 1 / 1e9;  // now the arithmetic takes longest
    all_on_disk.pools = {{0}};
    EXPECT_DOUBLE_EQ(seconds_of(problem, all_on_disk), 2.1 * kGib / 1e9 + 0.1 * kGib / 2e9);
}

}  // namespace
}  // namespace hypura::placement
