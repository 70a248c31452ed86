#include "placement/device_plan.h"

#include "base/bytes.h"

#include <gtest/gtest.h>

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

// The last layers are gone with all that they have; nothing is counted twice or lost.
TEST(DevicePlan, TheHostKeepsTheFirstLayers) {
    const ModelDemand demand = lab_model();
    DeviceRequest request = request_of(4 * kGiB);
    request.with_experts = true;
    const DevicePlan plan = plan_devices(demand, request);
    const ModelDemand left = left_with_host(demand, plan.gpu_layers);
    EXPECT_EQ(left.shape.layers, demand.shape.layers - (plan.gpu_layers - 1));
    EXPECT_EQ(left.experts.size(), left.shape.layers);
    EXPECT_EQ(left.experts.back().layer, static_cast<int>(left.shape.layers) - 1);
    const uint64_t gone_bytes = demand.tensor_bytes - left.tensor_bytes;
    EXPECT_EQ(gone_bytes, demand.dense_bytes() + demand.expert_bytes() - left.dense_bytes() - left.expert_bytes());
    EXPECT_LE(gone_bytes, plan.weights_bytes);
    EXPECT_EQ(left_with_host(demand, 0).tensor_bytes, demand.tensor_bytes);
    EXPECT_EQ(left_with_host(demand, plan_devices(demand, request_of(64 * kGiB)).gpu_layers).dense_bytes(), 0u);
}

}  // namespace
}  // namespace hypura::placement
