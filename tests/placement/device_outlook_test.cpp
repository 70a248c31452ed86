#include "placement/device_outlook.h"

#include "base/bytes.h"
#include "placement/card_count.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>

namespace hypura::placement {
namespace {

constexpr double kNetwork = 100e6;  // bytes a second

struct Scene {
    explicit Scene(std::string_view model)
        : demand(model_demand(directory_of(gguf::synthesize(gguf::synthetic_preset(model).value()).value()))) {}

    ComputeDevice& add(std::string_view kind, uint64_t free_bytes) {
        ComputeDevice device = machine.devices.front();
        device.name = kind;
        device.kind = kind;
        device.free_bytes = free_bytes;
        device.upload_bytes_per_second = kind == "remote" ? kNetwork : 20e9;
        return machine.devices.emplace_back(device);
    }

    // Ten times as fast as the processor, behind 20 GB/s.
    static Scene with_card() {
        Scene scene("lab-moe-8g");
        scene.disk = assumed_disk(2e9, 80);
        ComputeDevice& card = scene.add("gpu", 6 * kGiB);
        card.name = "Vulkan0";
        for (MatmulRate& rate : card.rates) rate.weight_bytes_per_second *= 10;
        return scene;
    }

    std::optional<DeviceOutlook> outlook(uint64_t room_bytes = 0) const {
        return device_outlook(demand, machine, disk, request, base(), room_bytes, std::nullopt);
    }
    Plan base() const { return make_plan(demand, machine, disk, request).value(); }

    ModelDemand demand;
    Machine machine = assumed_machine(8, 64 * kGiB);
    DiskProfile disk = assumed_disk(3e9, 80);
    PlanRequest request{.ram_bytes = 4 * kGiB};
};

TEST(DeviceOutlook, MoreOfTheCardIsNeverSlowerAndAllOfTheModelIsFastest) {
    const Scene scene = Scene::with_card();
    double slowest = INFINITY;
    for (const uint64_t gib : {2, 4, 6, 16}) {
        const auto outlook = scene.outlook(gib * kGiB);
        ASSERT_TRUE(outlook);
        EXPECT_LE(outlook->plan.used_bytes() + outlook->bank_bytes + outlook->staging_bytes, gib * kGiB);
        EXPECT_LE(outlook->prediction.token_s, slowest) << gib;
        slowest = outlook->prediction.token_s;
    }
    EXPECT_EQ(scene.outlook(16 * kGiB)->mode, PlanMode::kResident);
    EXPECT_EQ(scene.outlook(4 * kGiB)->mode, PlanMode::kStream);
    EXPECT_LT(slowest, scene.base().prediction.token_s / 4);
}

TEST(DeviceOutlook, PromptsAreFasterWithMoreOfTheCardAndArePredictedWhereItComputesAll) {
    Scene scene = Scene::with_card();
    scene.request.prompt_tokens = 4096;
    double slowest = 0;
    for (const uint64_t gib : {2, 4, 6, 16}) {
        const auto outlook = scene.outlook(gib * kGiB);
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
    EXPECT_GT(some_layers->prediction.token_s, scene.outlook(6 * kGiB)->prediction.token_s);
}

TEST(DeviceOutlook, ASecondCardIsUsedWhereTheFirstIsTooSmall) {
    Scene scene = Scene::with_card();
    const auto alone = scene.outlook();
    ASSERT_TRUE(alone);
    EXPECT_EQ(alone->mode, PlanMode::kStream);
    scene.machine.devices.push_back(scene.machine.devices.back());
    scene.machine.devices.back().name = "Vulkan1";
    const auto both = scene.outlook();
    ASSERT_TRUE(both);
    EXPECT_EQ(both->device, "Vulkan0, Vulkan1");
    EXPECT_EQ(both->room_bytes, 12 * kGiB);
    EXPECT_EQ(both->mode, PlanMode::kResident);
    EXPECT_LT(both->prediction.token_s, alone->prediction.token_s);
    EXPECT_GT(both->prediction.token_s, kNextCardSeconds);
    EXPECT_EQ(scene.outlook(5 * kGiB)->device, "Vulkan0");  // what was named, one card has
    scene.machine.devices.back().free_bytes = 16 * kGiB;
    EXPECT_EQ(scene.outlook()->device, "Vulkan1");  // the larger one has room for all of it
}

TEST(DeviceOutlook, NothingWithoutACardOrWithoutRoom) {
    Scene scene = Scene::with_card();
    EXPECT_FALSE(scene.outlook(kMiB));
    scene.machine.devices.back().rates.clear();
    EXPECT_FALSE(scene.outlook(8 * kGiB));
    scene.machine.devices.pop_back();
    EXPECT_FALSE(scene.outlook(8 * kGiB));
}

TEST(DeviceOutlook, ATokenPaysTheWayToAnotherMachine) {
    Scene scene("lab-dense-5g");
    ComputeDevice& server = scene.add("remote", 16 * kGiB);
    const double near_s = scene.outlook()->prediction.token_s;
    server.trip_us = 700;
    EXPECT_NEAR(scene.outlook()->prediction.token_s - near_s, 700e-6, 1e-9);
    server.trip_us = 0;
    server.upload_bytes_per_second = kNetwork / 2;
    const auto& shape = scene.demand.shape;
    const double row_and_logits = static_cast<double>(shape.embedding + shape.vocabulary) * sizeof(float);
    EXPECT_NEAR(scene.outlook()->prediction.token_s - near_s, row_and_logits / kNetwork, 1e-9);
}

TEST(DeviceOutlook, APromptPaysItForEachOfItsTokens) {
    Scene scene("lab-dense-5g");
    ComputeDevice& server = scene.add("remote", 16 * kGiB);
    scene.request.prompt_tokens = 512;
    const double near_s = scene.outlook()->prediction.first_token_s;
    server.upload_bytes_per_second = kNetwork / 2;
    const double rows = 512.0 * static_cast<double>(scene.demand.shape.embedding) * sizeof(float);
    EXPECT_GT(scene.outlook()->prediction.first_token_s - near_s, rows / kNetwork);
}

// Four layers' dense weights with the card, whose experts the processor multiplies; the others stay there whole.
TEST(DeviceOutlook, LayersThatStayWithTheProcessorCountOnce) {
    Scene scene = Scene::with_card();
    scene.request.ram_bytes = 16 * kGiB;
    const auto some_layers =
        device_outlook(scene.demand, scene.machine, scene.disk, scene.request, scene.base(), 640 * kMiB, 5);
    ASSERT_TRUE(some_layers);
    EXPECT_EQ(some_layers->bank_experts, 4 * 64u);
    const double without_s = scene.base().prediction.token_s;
    EXPECT_GT(some_layers->prediction.token_s, without_s * 20 / 24);
    EXPECT_LT(some_layers->prediction.token_s, without_s * 20 / 24 + 4 * 5e-3);
}

// The output, and with it the logits, which are larger than a row, stay with the card.
TEST(DeviceOutlook, LogitsOfACardDoNotCrossTheNetwork) {
    Scene scene("lab-dense-5g");
    scene.add("remote", 4 * kGiB);
    scene.add("gpu", 4 * kGiB);
    const auto before = scene.outlook();
    EXPECT_EQ(before->device, "remote, gpu");
    scene.demand.shape.vocabulary *= 4;
    EXPECT_DOUBLE_EQ(scene.outlook()->prediction.token_s, before->prediction.token_s);
}

TEST(DeviceOutlook, ExpertsGoToOtherMachinesWithTheirLayers) {
    Scene scene("lab-moe-8g");
    scene.add("remote", 4 * kGiB);
    const auto outlook = scene.outlook();
    EXPECT_EQ(outlook->mode, PlanMode::kStream);
    EXPECT_EQ(outlook->bank_slots, 0u);
    EXPECT_FALSE(outlook->plan.holds_all);
    EXPECT_GT(outlook->plan.weights_bytes, 3 * kGiB);
    EXPECT_EQ(outlook->prediction.first_token_s, 0);
    // The other layers have the memory for themselves.
    EXPECT_LT(outlook->prediction.read_bytes_per_token, scene.base().prediction.read_bytes_per_token / 2);
}

TEST(DeviceOutlook, ADenseModelsRestIsReadNoMoreWhereMemoryHoldsIt) {
    Scene scene("lab-dense-5g");
    scene.request.ram_bytes = 3 * kGiB;
    ASSERT_GT(scene.base().prediction.read_bytes_per_token, 0);
    scene.add("gpu", 4 * kGiB);
    const auto outlook = scene.outlook();
    EXPECT_FALSE(outlook->plan.holds_all);
    EXPECT_EQ(outlook->prediction.read_bytes_per_token, 0);
}

TEST(DeviceOutlook, ExpertsOnCardsAndOtherMachinesAreNotPredicted) {
    Scene scene("lab-moe-8g");
    scene.add("gpu", 2 * kGiB);
    ASSERT_TRUE(scene.outlook()->is_predicted());
    scene.add("remote", 2 * kGiB);
    EXPECT_FALSE(scene.outlook()->is_predicted());
    scene.machine.devices.back().free_bytes = 16 * kGiB;  // all of them fit
    EXPECT_TRUE(scene.outlook()->is_predicted());
}

}  // namespace
}  // namespace hypura::placement
