#include "placement/device_choice.h"

#include "base/bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hypura::placement {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

ModelDemand preset(std::string_view name) {
    const auto spec = gguf::synthetic_preset(name);
    return model_demand(directory_of(gguf::synthesize(spec.value()).value()));
}

// A processor of eight cores, and a card whose products are `tokens_times` as fast with one column and `prompts_times`
// as fast with many.
struct Scene {
    Scene(std::string_view model, double tokens_times, double prompts_times) : demand(preset(model)) {
        ComputeDevice card = machine.devices.front();
        card.name = "Vulkan0";
        card.kind = "gpu";
        card.free_bytes = card.total_bytes = 8 * kGiB;
        card.upload_bytes_per_second = 20e9;
        card.rates.clear();
        for (const double batch_tokens : {1.0, 512.0}) {
            const double times = batch_tokens == 1 ? tokens_times : prompts_times;
            const double rate = weight_rate(machine.devices.front(), "q4_K", {}, batch_tokens) * times;
            card.rates.push_back({.format = "q4_K",
                                  .batch_tokens = static_cast<uint32_t>(batch_tokens),
                                  .weight_bytes_per_second = rate,
                                  .flops = rate * batch_tokens});
        }
        machine.devices.push_back(card);
    }

    DeviceChoice choice() const {
        const Plan without = make_plan(demand, machine, disk, request).value();
        const auto outlook = device_outlook(demand, machine, disk, request, without, 0, std::nullopt);
        return choose_cards(outlook.value(), without, request.prompt_tokens);
    }

    ModelDemand demand;
    Machine machine = assumed_machine(8, 64 * kGiB);
    DiskProfile disk = assumed_disk(3e9, 80);
    PlanRequest request{.ram_bytes = 32 * kGiB};
};

TEST(DeviceChoice, ACardOfTenTimesTheRateIsUsed) {
    for (const char* model : {"lab-dense-5g", "lab-moe-8g"}) {
        const DeviceChoice choice = Scene(model, 10, 10).choice();
        EXPECT_TRUE(choice.use_cards) << model;
        EXPECT_LT(choice.with_cards_s, choice.without_s) << model;
        EXPECT_THAT(choice.reason, AllOf(HasSubstr("s with Vulkan0 and"), Not(HasSubstr("left out")))) << model;
    }
}

TEST(DeviceChoice, ACardOfATenthOfTheRateIsLeftOut) {
    for (const char* model : {"lab-dense-5g", "lab-moe-8g"}) {
        const DeviceChoice choice = Scene(model, 0.1, 0.1).choice();
        EXPECT_FALSE(choice.use_cards) << model;
        EXPECT_GT(choice.with_cards_s, choice.without_s) << model;
        EXPECT_THAT(choice.reason, AllOf(HasSubstr("Vulkan0 left out: "), HasSubstr("an answer of 256"))) << model;
    }
}

// Experts on their way over a slow bus.
TEST(DeviceChoice, ACardBehindASlowBusIsLeftOutWhereItHoldsLittle) {
    Scene scene("lab-moe-8g", 10, 10);
    EXPECT_TRUE(scene.choice().use_cards);
    scene.machine.devices.back().upload_bytes_per_second = 0.3e9;
    scene.machine.devices.back().free_bytes = 2 * kGiB;
    EXPECT_FALSE(scene.choice().use_cards);
}

// What memory lacks is read from the disk at a hundredth of the card's speed.
TEST(DeviceChoice, ASlowCardIsUsedWhereItsMemoryIsWhatCounts) {
    Scene scene("lab-dense-5g", 0.5, 0.5);
    EXPECT_FALSE(scene.choice().use_cards);
    scene.request.ram_bytes = 3 * kGiB;
    EXPECT_TRUE(scene.choice().use_cards);
}

TEST(DeviceChoice, LongPromptsSpeakForACardThatIsSlowAtTokens) {
    Scene scene("lab-dense-5g", 0.7, 20);
    scene.request.prompt_tokens = 8;
    EXPECT_FALSE(scene.choice().use_cards);
    scene.request.prompt_tokens = 4096;
    EXPECT_TRUE(scene.choice().use_cards);
}

// An H100 beside 16 cores, 8.4 GB of a mixture in RAM. A token took 17.9 ms without the card, 8.4 ms with half of the
// experts in its slots, and 30 and 38 ms where it had slots for no layer's and for some layers' experts.
TEST(DeviceChoice, ACardWithoutSlotsForEveryLayerIsLeftOutBesideAFastProcessor) {
    Scene scene("lab-moe-8g", 1, 1);
    const auto set_rates = [](ComputeDevice& device, double dense, double routed) {
        device.rates = {{.format = "q4_K", .batch_tokens = 1, .weight_bytes_per_second = dense},
                        {.format = "q4_K", .kind = {.routed = true}, .weight_bytes_per_second = routed}};
    };
    scene.machine.memory_bytes_per_second = 72e9;
    set_rates(scene.machine.devices.front(), 134e9, 89e9);
    set_rates(scene.machine.devices.back(), 976e9, 539e9);
    scene.machine.devices.back().upload_bytes_per_second = 45e9;
    scene.machine.devices.back().writes_directly = true;
    scene.request.context_tokens = 2048;
    scene.request.ram_bytes = 16 * kGiB;
    const auto is_used = [&](uint64_t room_bytes) {
        scene.machine.devices.back().free_bytes = room_bytes;
        return scene.choice().use_cards;
    };
    EXPECT_FALSE(is_used(440 * kMiB));
    EXPECT_FALSE(is_used(800 * kMiB));
    EXPECT_TRUE(is_used(4600 * kMiB));
}

TEST(DeviceChoice, WithinATenthTheCardIsUsed) {
    DeviceOutlook with_cards{.device = "Vulkan0"};
    Plan without;
    with_cards.prediction.token_s = 0.0109;
    without.prediction.token_s = 0.01;
    EXPECT_TRUE(choose_cards(with_cards, without, 512).use_cards);
    with_cards.prediction.token_s = 0.0111;
    EXPECT_FALSE(choose_cards(with_cards, without, 512).use_cards);
}

// A few layers of a model on a card: their prompts are not predicted.
TEST(DeviceChoice, PromptsCountOnlyWhereTheyArePredictedWithCards) {
    DeviceOutlook with_cards{.device = "Vulkan0"};
    Plan without;
    with_cards.prediction.token_s = without.prediction.token_s = 0.01;
    without.prediction.first_token_s = 10;
    const DeviceChoice choice = choose_cards(with_cards, without, 512);
    EXPECT_DOUBLE_EQ(choice.with_cards_s, choice.without_s);
    EXPECT_THAT(choice.reason, HasSubstr("predicted for an answer of 256 tokens"));
    with_cards.prediction.first_token_s = 1;
    EXPECT_THAT(choose_cards(with_cards, without, 512).reason, HasSubstr("a prompt of 512 tokens and an answer"));
}

}  // namespace
}  // namespace hypura::placement
