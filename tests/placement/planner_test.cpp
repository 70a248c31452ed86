#include "placement/planner.h"

#include "base/bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hypura::placement {
namespace {

using testing::HasSubstr;

ModelDemand preset(std::string_view name) {
    const auto spec = gguf::synthetic_preset(name);
    return model_demand(directory_of(gguf::synthesize(spec.value()).value()));
}

struct Scene {
    ModelDemand demand = preset("qwen3-30b-a3b");
    Machine machine = assumed_machine(8, 64 * kGiB);
    DiskProfile disk = assumed_disk(3e9, 80);
    PlanRequest request{.ram_bytes = 8 * kGiB};

    Plan plan() const { return make_plan(demand, machine, disk, request).value(); }
};

TEST(ModelDemand, CountsEveryByteOnce) {
    for (const gguf::SyntheticPreset& known : gguf::synthetic_presets()) {
        const ModelDemand demand = preset(known.name);
        EXPECT_EQ(demand.fixed_bytes + demand.dense_bytes() + demand.expert_bytes(), demand.tensor_bytes) << known.name;
        EXPECT_EQ(demand.experts.size(), known.spec.experts > 0 ? known.spec.layers : 0) << known.name;
    }
}

TEST(ModelDemand, OutputComesLastAndTiedEmbeddingsAreReadWhole) {
    const ModelDemand demand = preset("qwen3-30b-a3b");
    EXPECT_EQ(demand.dense.back().role, gguf::TensorRole::kOutput);
    EXPECT_EQ(demand.tied_output_bytes, 0u);
    ASSERT_EQ(demand.tables.size(), 1u);
    EXPECT_EQ(demand.tables[0].bytes, demand.tables[0].row_bytes * demand.shape.vocabulary);
    gguf::ModelFile tied = directory_of(gguf::synthesize(gguf::synthetic_preset("lab-moe-8g").value()).value());
    std::erase_if(tied.tensors, [](const gguf::TensorInfo& tensor) { return tensor.name == "output.weight"; });
    EXPECT_GT(model_demand(tied).tied_output_bytes, 0u);
    EXPECT_TRUE(model_demand(tied).tables.empty());
}

TEST(Planner, ChoosesResidentWhereTheModelFits) {
    Scene scene;
    scene.request.ram_bytes = 32 * kGiB;
    const Plan plan = scene.plan();
    EXPECT_EQ(plan.mode, PlanMode::kResident);
    EXPECT_EQ(plan.disk_bytes, 0u);
    EXPECT_EQ(plan.prediction.read_bytes_per_token, 0);
    EXPECT_THAT(plan.reason, HasSubstr("mmap would give"));
}

// The page cache has more room than slots, but brings experts in a fault at a time.
TEST(Planner, StreamsAMixtureThatThePageCacheNearlyHolds) {
    Scene scene;
    scene.disk = assumed_disk(2.3e9, 90);
    scene.request.page_cache_bytes = scene.demand.tensor_bytes / 100 * 88;
    scene.request.ram_bytes = scene.demand.tensor_bytes / 100 * 70;
    EXPECT_EQ(scene.plan().mode, PlanMode::kStream);
}

TEST(Planner, StreamsWhatDoesNotFitWithinTheBudget) {
    Scene scene;
    const Plan plan = scene.plan();
    EXPECT_EQ(plan.mode, PlanMode::kStream);
    EXPECT_LE(plan.memory_bytes(), scene.request.ram_bytes);
    EXPECT_GE(plan.pool_slots, scene.demand.shape.layers * scene.demand.shape.experts_used);
    EXPECT_GT(plan.prediction.read_bytes_per_token, 0);
    EXPECT_THAT(plan.reason, HasSubstr("8.00 GiB"));
    EXPECT_THAT(plan.reason, HasSubstr("was not measured"));
    uint64_t resident = 0, dense = 0, experts = 0;
    for (const LayerPlace& place : plan.layers) {
        resident += place.resident_bytes;
        dense += place.streamed_dense_bytes;
        experts += place.expert_bytes;
    }
    EXPECT_EQ(resident, plan.resident_bytes);
    EXPECT_EQ(resident + dense + experts, scene.demand.tensor_bytes);
}

TEST(Planner, MoreMemoryIsNeverSlower) {
    Scene scene;
    double before = INFINITY;
    for (uint64_t gib = 3; gib <= 30; ++gib) {
        scene.request.ram_bytes = gib * kGiB;
        const double token_s = scene.plan().prediction.token_s;
        EXPECT_LE(token_s, before * 1.03) << gib;  // rounding to whole slots and batches
        before = token_s;
    }
}

TEST(Planner, NoLayoutBeatsTheBound) {
    Scene scene;
    for (const char* name : {"qwen3-30b-a3b", "lab-dense-5g", "gpt-oss-120b"}) {
        scene.demand = preset(name);
        for (const uint64_t gib : {4, 6, 10}) {
            scene.request.ram_bytes = gib * kGiB;
            scene.request.mode = PlanMode::kStream;
            scene.request.with_bound = true;
            const auto plan = make_plan(scene.demand, scene.machine, scene.disk, scene.request);
            if (!plan) continue;
            EXPECT_GT(plan->bound_token_s, 0) << name << gib;
            EXPECT_GE(plan->prediction.token_s, plan->bound_token_s * 0.97) << name << gib;
        }
    }
}

TEST(Planner, MapsOnlyWhatFitsUnlessAsked) {
    Scene scene;
    scene.request.mode = PlanMode::kMmap;
    const Plan mapped = scene.plan();
    EXPECT_EQ(mapped.mode, PlanMode::kMmap);
    scene.request.mode.reset();
    const Plan chosen = scene.plan();
    EXPECT_NE(chosen.mode, PlanMode::kMmap);
    EXPECT_LT(chosen.prediction.token_s, mapped.prediction.token_s);
}

TEST(Planner, NamesTheLeastMemoryThatWorks) {
    Scene scene;
    scene.request.ram_bytes = 300 * kMiB;
    const auto plan = make_plan(scene.demand, scene.machine, scene.disk, scene.request);
    ASSERT_FALSE(plan);
    EXPECT_EQ(plan.error().code, ErrorCode::kBudgetTooSmall);
    EXPECT_THAT(plan.error().message, HasSubstr("the smallest that works is"));
}

TEST(Planner, KeepsAContextThatWasAskedFor) {
    Scene scene;
    scene.request.context_tokens = 32768;
    EXPECT_EQ(scene.plan().context_tokens, 32768u);
    scene.request.context_tokens = 0;
    EXPECT_EQ(scene.plan().context_tokens, 4096u);
}

TEST(Planner, HalvesTheDefaultContextWhereNothingElseWorks) {
    Scene scene;
    scene.demand.cache_values_per_token *= 16;  // as models without grouped attention
    const uint64_t with_full = cache_size_bytes(scene.demand, 4096, CacheType::kF16);
    scene.request.ram_bytes = with_full + kGiB;
    EXPECT_LT(scene.plan().context_tokens, 4096u);
}

TEST(Planner, NeverTakesALossyCacheThatWasNotAllowed) {
    Scene scene;
    scene.demand.cache_values_per_token *= 16;
    scene.request.context_tokens = 4096;
    scene.request.ram_bytes = cache_size_bytes(scene.demand, 4096, CacheType::kF16) + 300 * kMiB;
    EXPECT_FALSE(make_plan(scene.demand, scene.machine, scene.disk, scene.request));
    scene.request.cache_types = {CacheType::kF16, CacheType::kQ8_0, CacheType::kQ4_0};
    EXPECT_NE(scene.plan().cache_type, CacheType::kF16);
    scene.request.ram_bytes = 64 * kGiB;
    EXPECT_EQ(scene.plan().cache_type, CacheType::kF16);
}

TEST(Planner, SaysWhatWouldChangeIt) {
    Scene scene;
    scene.machine = assumed_machine(64, 64 * kGiB);
    const Plan plan = scene.plan();
    const auto answers = what_if(scene.demand, scene.machine, scene.disk, scene.request, plan);
    ASSERT_EQ(answers.size(), 4u);
    EXPECT_GT(answers[0].plan.prediction.decode_tokens_per_second(), plan.prediction.decode_tokens_per_second());
    EXPECT_GT(answers[1].plan.prediction.decode_tokens_per_second(), plan.prediction.decode_tokens_per_second());
    EXPECT_EQ(answers[2].plan.context_tokens, 1024u);
    EXPECT_EQ(answers[3].plan.batch_tokens, 2048u);
    EXPECT_GT(answers[3].plan.prediction.prefill_tokens_per_second, plan.prediction.prefill_tokens_per_second);
    EXPECT_LT(answers[3].plan.pool_slots, plan.pool_slots);
}

TEST(Planner, SaysNothingOfLargerPassesWherePromptsAreBoundByArithmetic) {
    Scene scene;
    scene.machine = assumed_machine(2, 64 * kGiB);
    EXPECT_EQ(what_if(scene.demand, scene.machine, scene.disk, scene.request, scene.plan()).size(), 3u);
}

TEST(Planner, PassesAreLibllamasOwnWhateverTheBudget) {
    Scene scene;
    for (const uint64_t ram_bytes : {3 * kGiB, 8 * kGiB, 32 * kGiB}) {
        scene.request.ram_bytes = ram_bytes;
        EXPECT_EQ(scene.plan().batch_tokens, 512u);
    }
}

// Of a prompt beside sequences that generate.
TEST(Planner, ChunksAreLongerWhereAPassMostlyReads) {
    Scene scene;
    scene.machine = assumed_machine(64, 64 * kGiB);
    EXPECT_EQ(scene.plan().mode, PlanMode::kStream);
    EXPECT_GT(scene.plan().chunk_tokens, 128u);
    scene.machine = assumed_machine(2, 64 * kGiB);
    EXPECT_EQ(scene.plan().chunk_tokens, 128u);
    scene.machine = assumed_machine(64, 64 * kGiB);
    scene.request.ram_bytes = 32 * kGiB;
    EXPECT_EQ(scene.plan().mode, PlanMode::kResident);
    EXPECT_EQ(scene.plan().chunk_tokens, 128u);
}

TEST(CostModel, DenseReadsHideArithmeticOrAreHiddenByIt) {
    Scene scene;
    scene.demand = preset("lab-dense-5g");
    scene.request.ram_bytes = 3 * kGiB;
    scene.request.mode = PlanMode::kStream;
    const Prediction prediction = scene.plan().prediction;
    EXPECT_NEAR(prediction.token_s, std::max(prediction.compute_s, prediction.read_s), 1e-9);
    EXPECT_EQ(prediction.bottleneck(), "disk");
}

TEST(CostModel, ALongerPromptTakesLongerAndCostsLessAToken) {
    Scene scene;
    scene.request.prompt_tokens = 32;
    const Prediction small = scene.plan().prediction;
    scene.request.prompt_tokens = 512;
    const Prediction large = scene.plan().prediction;
    EXPECT_GT(large.first_token_s, small.first_token_s);
    EXPECT_GT(large.prefill_tokens_per_second, small.prefill_tokens_per_second);
}

}  // namespace
}  // namespace hypura::placement
