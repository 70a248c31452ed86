#include "placement/stream_plan.h"

#include "base/bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace hypura::placement {
namespace {

using testing::Each;
using testing::HasSubstr;

// `layers` layers of one attention and one feed-forward matrix each, 16 and 64 KiB.
StreamProblem dense_model(uint32_t layers, uint64_t weights_bytes) {
    StreamProblem problem{.weights_bytes = weights_bytes, .fixed_bytes = 10 * kKiB};
    for (uint32_t layer = 0; layer < layers; ++layer) {
        problem.dense.push_back({16 * kKiB, 16 * kKiB, false});
        problem.dense.push_back({64 * kKiB, 64 * kKiB, true});
    }
    return problem;
}

ExpertGroup group_of(uint64_t slot_bytes, uint32_t experts, uint32_t pass_experts, int layer) {
    return {slot_bytes, slot_bytes, experts, pass_experts, layer};
}

StreamPlan plan(StreamProblem problem, uint64_t weights_bytes) {
    problem.weights_bytes = weights_bytes;
    return plan_streaming(problem).value();
}

uint64_t total_bytes(const StreamPlan& plan) { return plan.resident_bytes + plan.slot_bytes; }

uint32_t streamed(const StreamProblem& problem, const StreamPlan& plan, bool feed_forward) {
    uint32_t count = 0;
    for (size_t i = 0; i < problem.dense.size(); ++i)
        if (problem.dense[i].feed_forward == feed_forward && plan.dense_streamed[i]) ++count;
    return count;
}

TEST(StreamPlan, KeepsEverythingThatFits) {
    StreamProblem problem = dense_model(4, 10 * kMiB);
    problem.experts = {group_of(kKiB, 8, 2, 0), group_of(kKiB, 8, 2, 1)};
    const StreamPlan plan = plan_streaming(problem).value();
    EXPECT_THAT(plan.dense_streamed, Each(false));
    ASSERT_EQ(plan.classes.size(), 1u);
    EXPECT_EQ(plan.classes[0].slots, 16u);
    EXPECT_EQ(plan.resident_bytes, (10 + 4 * 80) * kKiB);
    EXPECT_EQ(plan.slot_bytes, 16 * kKiB);
}

TEST(StreamPlan, AnEmptyProblemNeedsNothing) {
    EXPECT_EQ(smallest_weights_bytes({}), 0u);
    EXPECT_EQ(total_bytes(plan_streaming({}).value()), 0u);
}

TEST(StreamPlan, TheSmallestBudgetWorksAndOneByteLessIsRefusedByNumber) {
    StreamProblem problem = dense_model(8, 0);
    problem.experts = {group_of(3 * kKiB, 8, 2, 0)};
    const uint64_t smallest = smallest_weights_bytes(problem);
    EXPECT_EQ(smallest, (10 + 3 * 16 + 3 * 64 + 2 * 3) * kKiB);
    EXPECT_EQ(total_bytes(plan(problem, smallest)), smallest);

    problem.weights_bytes = smallest - 1;
    const auto refused = plan_streaming(problem);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kBudgetTooSmall);
    EXPECT_THAT(refused.error().message, HasSubstr("the smallest that works is " + format_bytes_up(smallest)));
}

TEST(StreamPlan, AModelSmallerThanItsRingStaysInMemory) {
    const StreamProblem problem = dense_model(1, 0);
    const uint64_t smallest = smallest_weights_bytes(problem);
    EXPECT_EQ(smallest, 90 * kKiB);
    EXPECT_THAT(plan(problem, smallest).dense_streamed, Each(false));
}

TEST(StreamPlan, StreamsFeedForwardWeightsFirst) {
    const StreamProblem problem = dense_model(32, 0);
    const uint64_t least_with_attention = (10 + 32 * 16 + 3 * 64) * kKiB;
    const StreamPlan tight = plan(problem, least_with_attention);
    EXPECT_EQ(streamed(problem, tight, true), 32u);
    EXPECT_EQ(streamed(problem, tight, false), 0u);
    EXPECT_GT(streamed(problem, plan(problem, least_with_attention - 1), false), 0u);
}

TEST(StreamPlan, SpreadsStreamedMatricesEvenly) {
    const StreamProblem problem = dense_model(40, 0);
    for (uint64_t kept = 5; kept < 35; kept += 5) {
        const StreamPlan spread = plan(problem, (10 + 40 * 16 + (kept + 3) * 64) * kKiB);
        const uint32_t count = streamed(problem, spread, true);
        ASSERT_EQ(count, 40 - kept);
        // Up to any layer, as many are streamed as its share of the layers says, give or take one.
        uint32_t seen = 0;
        for (uint32_t layer = 0; layer < 40; ++layer) {
            seen += spread.dense_streamed[2 * layer + 1] ? 1 : 0;
            EXPECT_NEAR(seen, (layer + 1) * count / 40.0, 1.01) << layer << " with " << kept << " kept";
        }
    }
}

TEST(StreamPlan, AMoreGenerousBudgetStreamsNoMore) {
    const StreamProblem problem = dense_model(24, 0);
    uint32_t before = 48;
    for (uint64_t bytes = smallest_weights_bytes(problem); bytes < 3 * kMiB; bytes += 16 * kKiB) {
        const auto count = static_cast<uint32_t>(std::ranges::count(plan(problem, bytes).dense_streamed, true));
        EXPECT_LE(count, before);
        before = count;
    }
    EXPECT_EQ(before, 0u);
}

TEST(StreamPlan, SharesSlotsByTheBytesThatClassesServe) {
    StreamProblem problem;
    for (int layer = 0; layer < 10; ++layer) problem.experts.push_back(group_of(kKiB, 100, 4, layer));
    for (int layer = 10; layer < 30; ++layer) problem.experts.push_back(group_of(2 * kKiB, 100, 4, layer));
    const StreamPlan half = plan(problem, (1000 + 2 * 2000) * kKiB / 2);
    ASSERT_EQ(half.classes.size(), 2u);
    EXPECT_NEAR(half.classes[0].slots, 500, 1);
    EXPECT_NEAR(half.classes[1].slots, 1000, 1);
    EXPECT_EQ(half.expert_class.front(), 0u);
    EXPECT_EQ(half.expert_class.back(), 1u);
}

TEST(StreamPlan, GroupsOfOneLayerAddUp) {
    StreamProblem problem;
    problem.experts = {group_of(kKiB, 8, 3, 0), group_of(kKiB, 8, 2, 0), group_of(kKiB, 8, 4, 1)};
    EXPECT_EQ(smallest_weights_bytes(problem), 5 * kKiB);
    problem.experts[1].layer = 2;
    EXPECT_EQ(smallest_weights_bytes(problem), 4 * kKiB);
}

TEST(StreamPlan, DenseWeightsHaveTheFirstClaim) {
    StreamProblem problem = dense_model(4, 0);
    problem.experts = {group_of(kKiB, 64, 4, 0)};
    const StreamPlan tight = plan(problem, (10 + 4 * 80 + 4) * kKiB);
    EXPECT_THAT(tight.dense_streamed, Each(false));
    EXPECT_EQ(tight.classes[tight.expert_class[0]].slots, 4u);
}

// ---- random problems -----------------------------------------------------------------------------------------------

class RandomProblems : public testing::Test {
protected:
    uint64_t up_to(uint64_t most) { return random_() % (most + 1); }

    StreamProblem make_problem() {
        StreamProblem problem{.fixed_bytes = up_to(kMiB), .ring_slots = static_cast<uint32_t>(1 + up_to(4))};
        const uint64_t strides[] = {4 * kKiB + up_to(kMiB), 4 * kKiB + up_to(64 * kKiB), 4 * kKiB + up_to(16 * kMiB)};
        for (uint64_t count = up_to(60); count > 0; --count) {
            const uint64_t stride = strides[up_to(2)];
            problem.dense.push_back({stride - up_to(4 * kKiB - 1), stride, up_to(1) == 1});
        }
        for (uint64_t layer = up_to(40); layer > 0; --layer) {
            const uint64_t stride = strides[up_to(2)];
            const auto experts = static_cast<uint32_t>(1 + up_to(127));
            const auto pass_experts = static_cast<uint32_t>(1 + up_to(experts - 1));
            problem.experts.push_back(
                {stride, stride - up_to(4 * kKiB - 1), experts, pass_experts, static_cast<int>(layer / 2)});
        }
        return problem;
    }

    static void expect_sound(const StreamProblem& problem, const StreamPlan& plan) {
        ASSERT_LE(total_bytes(plan), problem.weights_bytes);
        expect_sums(problem, plan);
        expect_experts_fit(problem, plan);
        expect_rings(problem, plan);
    }
    static void expect_sums(const StreamProblem& problem, const StreamPlan& plan) {
        uint64_t resident = problem.fixed_bytes, slots = 0;
        for (size_t i = 0; i < problem.dense.size(); ++i)
            if (!plan.dense_streamed[i]) resident += problem.dense[i].bytes;
        for (const PlannedClass& planned : plan.classes) slots += planned.slot_bytes * planned.slots;
        ASSERT_EQ(plan.resident_bytes, resident);
        ASSERT_EQ(plan.slot_bytes, slots);
    }
    // Every layer's pass fits its class, and no class has more slots than experts.
    static void expect_experts_fit(const StreamProblem& problem, const StreamPlan& plan) {
        std::map<std::pair<uint32_t, int>, uint32_t> needed;
        std::map<uint32_t, uint32_t> served;
        for (size_t g = 0; g < problem.experts.size(); ++g) {
            const ExpertGroup& group = problem.experts[g];
            ASSERT_EQ(plan.classes[plan.expert_class[g]].slot_bytes, group.slot_bytes);
            needed[{plan.expert_class[g], group.layer}] += group.pass_experts;
            served[plan.expert_class[g]] += group.experts;
        }
        for (const auto& [where, experts] : needed) ASSERT_GE(plan.classes[where.first].slots, experts);
        for (const auto& [slot_class, experts] : served) ASSERT_LE(plan.classes[slot_class].slots, experts);
    }
    static void expect_rings(const StreamProblem& problem, const StreamPlan& plan) {
        std::map<uint32_t, uint32_t> tensors;
        for (size_t i = 0; i < problem.dense.size(); ++i)
            if (plan.dense_streamed[i]) {
                ASSERT_EQ(plan.classes[plan.dense_class[i]].slot_bytes, problem.dense[i].slot_bytes);
                ++tensors[plan.dense_class[i]];
            }
        for (const auto& [slot_class, count] : tensors)
            ASSERT_EQ(plan.classes[slot_class].slots, std::min(count, std::max(2u, problem.ring_slots)));
    }

    std::mt19937_64 random_{1};
};

TEST_F(RandomProblems, EveryWorkableBudgetGivesASoundPlan) {
    for (int round = 0; round < 2000; ++round) {
        SCOPED_TRACE(round);
        StreamProblem problem = make_problem();
        const uint64_t smallest = smallest_weights_bytes(problem);
        for (const uint64_t extra : {uint64_t{0}, uint64_t{1}, up_to(kMiB), up_to(smallest), up_to(kGiB)}) {
            problem.weights_bytes = smallest + extra;
            const auto plan = plan_streaming(problem);
            ASSERT_TRUE(plan) << plan.error().message;
            expect_sound(problem, *plan);
            ASSERT_FALSE(HasFatalFailure());
        }
        if (smallest == 0) continue;
        problem.weights_bytes = smallest - 1;
        ASSERT_FALSE(plan_streaming(problem));
    }
}

TEST(StreamPlan, RowsOfTablesAreStreamedWhereSlotsAreShort) {
    StreamProblem problem = dense_model(0, 0);
    problem.experts = {group_of(kKiB, 64, 2, 0)};
    problem.tables = {{40 * kKiB, 4 * kKiB}, {20 * kKiB, 2 * kKiB}};
    EXPECT_EQ(smallest_weights_bytes(problem), (10 + 6 + 2) * kKiB);

    const StreamPlan short_of_slots = plan(problem, (10 + 60 + 63) * kKiB);
    EXPECT_TRUE(short_of_slots.rows_streamed);
    EXPECT_EQ(short_of_slots.resident_bytes, (10 + 6) * kKiB);
    EXPECT_EQ(short_of_slots.classes[0].slots, 64u);

    const StreamPlan with_room = plan(problem, (10 + 60 + 64) * kKiB);
    EXPECT_FALSE(with_room.rows_streamed);
    EXPECT_EQ(with_room.resident_bytes, (10 + 60) * kKiB);
}

TEST(StreamPlan, WithoutTablesNoRowsAreStreamed) {
    const StreamProblem problem = dense_model(8, 0);
    EXPECT_FALSE(plan(problem, smallest_weights_bytes(problem)).rows_streamed);
}

TEST(StreamPlan, RowsTakeTwiceThePagesOfAPassUnlessTheTableIsSmall) {
    // Rows of 2176 bytes lie in two pages at most: 32000 of them, and passes of 512 and of 1.
    EXPECT_EQ(kept_row_bytes(32000 * 2176, 2176, 512), 2 * 512 * 2 * 4096u);
    EXPECT_EQ(kept_row_bytes(32000 * 2176, 2176, 1), 4 * kMiB);
    // A row of a page that begins anywhere lies in two, one of two bytes more than a page in three at most.
    EXPECT_EQ(kept_row_bytes(kGiB, 4096, 2048), 2 * 2048 * 2 * 4096u);
    EXPECT_EQ(kept_row_bytes(kGiB, 4098, 2048), 2 * 2048 * 3 * 4096u);
    EXPECT_EQ(kept_row_bytes(8 * kMiB, 2176, 1), 4 * kMiB);
    EXPECT_EQ(kept_row_bytes(7 * kMiB, 2176, 1), 7 * kMiB);
}

}  // namespace
}  // namespace hypura::placement
