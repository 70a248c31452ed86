#include "placement/device_plan.h"

#include "base/bytes.h"
#include "placement/card_count.h"
#include "placement/device_outlook.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>

namespace hypura::placement {
namespace {

ModelDemand lab_model() {
    const auto spec = gguf::synthetic_preset("lab-moe-8g");
    return model_demand(directory_of(gguf::synthesize(spec.value()).value()));
}

DeviceRequest request_of(uint64_t room_bytes) {
    return {.room_bytes = room_bytes, .context_tokens = 1024, .batch_tokens = 512};
}

TEST(DevicePlan, TakesEverythingWhereItFits) {
    const ModelDemand demand = lab_model();
    DeviceRequest request = request_of(64 * kGiB);
    request.with_experts = true;
    const DevicePlan plan = plan_devices(demand, request);
    EXPECT_TRUE(plan.holds_all);
    EXPECT_EQ(plan.gpu_layers, demand.shape.layers + 1);
    EXPECT_GE(plan.weights_bytes, demand.dense_bytes() + demand.expert_bytes());
    EXPECT_EQ(plan.expert_room_bytes, 64 * kGiB - plan.used_bytes());
}

TEST(DevicePlan, NeverPromisesMoreThanTheRoom) {
    const ModelDemand demand = lab_model();
    uint32_t most_layers = 0;
    for (uint64_t room_bytes = 0; room_bytes <= 4 * kGiB; room_bytes += 64 * kMiB) {
        const DevicePlan plan = plan_devices(demand, request_of(room_bytes));
        EXPECT_TRUE(plan.gpu_layers == 0 || plan.used_bytes() <= room_bytes) << room_bytes;
        EXPECT_GE(plan.gpu_layers, most_layers) << room_bytes;
        most_layers = plan.gpu_layers;
    }
    EXPECT_EQ(most_layers, demand.shape.layers + 1);
}

TEST(DevicePlan, ACountThatWasAskedForIsKept) {
    DeviceRequest request = request_of(kGiB / 4);
    request.gpu_layers = 7;
    EXPECT_EQ(plan_devices(lab_model(), request).gpu_layers, 7u);
    request.gpu_layers = 0;
    EXPECT_EQ(plan_devices(lab_model(), request).gpu_layers, 0u);
}

// A card ten times as fast as the processor, behind 20 GB/s.
struct CardScene {
    ModelDemand demand = lab_model();
    Machine machine = assumed_machine(8, 64 * kGiB);
    DiskProfile disk = assumed_disk(2e9, 80);
    PlanRequest request{.ram_bytes = 4 * kGiB};

    CardScene() {
        ComputeDevice card = machine.devices.front();
        card.name = "Vulkan0";
        card.kind = "gpu";
        card.free_bytes = 6 * kGiB;
        card.upload_bytes_per_second = 20e9;
        for (MatmulRate& rate : card.rates) rate.weight_bytes_per_second *= 10;
        machine.devices.push_back(card);
    }
    Plan base() const { return make_plan(demand, machine, disk, request).value(); }
    std::optional<DeviceOutlook> with(uint64_t room_bytes) const {
        return device_outlook(demand, machine, disk, request, base(), room_bytes, std::nullopt);
    }
};

TEST(DeviceOutlook, MoreOfTheCardIsNeverSlowerAndAllOfTheModelIsFastest) {
    const CardScene scene;
    double slowest = INFINITY;
    for (const uint64_t gib : {2, 4, 6, 16}) {
        const auto outlook = scene.with(gib * kGiB);
        ASSERT_TRUE(outlook);
        EXPECT_LE(outlook->plan.used_bytes() + outlook->bank_bytes + outlook->staging_bytes, gib * kGiB);
        EXPECT_LE(outlook->prediction.token_s, slowest) << gib;
        slowest = outlook->prediction.token_s;
    }
    EXPECT_EQ(scene.with(16 * kGiB)->mode, PlanMode::kResident);
    EXPECT_EQ(scene.with(4 * kGiB)->mode, PlanMode::kStream);
    EXPECT_LT(slowest, scene.base().prediction.token_s / 4);
}

TEST(DeviceOutlook, PromptsAreFasterWithMoreOfTheCardAndArePredictedWhereItComputesAll) {
    CardScene scene;
    scene.request.prompt_tokens = 4096;
    double slowest = 0;
    for (const uint64_t gib : {2, 4, 6, 16}) {
        const auto outlook = scene.with(gib * kGiB);
        ASSERT_TRUE(outlook);
        // A larger pass, or one in whole parts, outweighs a few more slots.
        EXPECT_GE(outlook->prediction.prefill_tokens_per_second, 0.95 * slowest) << gib;
        EXPECT_NEAR(outlook->prediction.first_token_s, 4096 / outlook->prediction.prefill_tokens_per_second, 1e-9);
        slowest = outlook->prediction.prefill_tokens_per_second;
    }
    EXPECT_GT(slowest, 4 * scene.base().prediction.prefill_tokens_per_second);
    const auto some_layers = device_outlook(scene.demand, scene.machine, scene.disk, scene.request, scene.base(),
                                            6 * kGiB, scene.demand.shape.layers / 2);
    ASSERT_TRUE(some_layers);
    EXPECT_EQ(some_layers->prediction.prefill_tokens_per_second, 0);
    EXPECT_GT(some_layers->prediction.token_s, scene.with(6 * kGiB)->prediction.token_s);
}

TEST(DeviceOutlook, ASecondCardIsUsedWhereTheFirstIsTooSmall) {
    CardScene scene;
    const auto alone = scene.with(0);
    ASSERT_TRUE(alone);
    EXPECT_EQ(alone->mode, PlanMode::kStream);
    scene.machine.devices.push_back(scene.machine.devices.back());
    scene.machine.devices.back().name = "Vulkan1";
    const auto both = scene.with(0);
    ASSERT_TRUE(both);
    EXPECT_EQ(both->device, "Vulkan0, Vulkan1");
    EXPECT_EQ(both->room_bytes, 12 * kGiB);
    EXPECT_EQ(both->mode, PlanMode::kResident);
    EXPECT_LT(both->prediction.token_s, alone->prediction.token_s);
    EXPECT_GT(both->prediction.token_s, kNextCardSeconds);
    EXPECT_EQ(scene.with(5 * kGiB)->device, "Vulkan0");  // what was named, one card has
    scene.machine.devices.back().free_bytes = 16 * kGiB;
    EXPECT_EQ(scene.with(0)->device, "Vulkan1");  // the larger one has room for all of it
}

TEST(DeviceOutlook, NothingWithoutACardOrWithoutRoom) {
    CardScene scene;
    EXPECT_FALSE(scene.with(kMiB));
    scene.machine.devices.pop_back();
    EXPECT_FALSE(scene.with(8 * kGiB));
}

}  // namespace
}  // namespace hypura::placement
