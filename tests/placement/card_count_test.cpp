#include "placement/card_count.h"

#include "base/bytes.h"

#include <gtest/gtest.h>

#include <vector>

namespace hypura::placement {
namespace {

// 8.4 GB on cards behind a fast bus, as in docs/devices.md.
class CardCount : public testing::Test {
protected:
    static ModelDemand model(const char* name) {
        return model_demand(directory_of(gguf::synthesize(gguf::synthetic_preset(name).value()).value()));
    }
    size_t of(const std::vector<uint64_t>& usable_bytes) const {
        return cards_to_use(demand_, request_, usable_bytes, limits_, rates_);
    }

    ModelDemand demand_ = model("lab-moe-8g");
    DeviceRequest request_{.context_tokens = 1024, .batch_tokens = 512};
    CardLimits limits_;
    BankRates rates_{.upload_bytes_per_second = 45e9, .uploads_ahead = true};
};

TEST_F(CardCount, OneWhereItHoldsTheModel) {
    EXPECT_EQ(of({}), 0u);
    EXPECT_EQ(of({24 * kGiB}), 1u);
    EXPECT_EQ(of({24 * kGiB, 24 * kGiB}), 1u);
}

// Measured: 203 tok/s with three quarters of the experts on one card, 126 with half, 164 with all of them on two.
TEST_F(CardCount, AnotherOneOnlyForMuchMoreOfTheModel) {
    EXPECT_EQ(of({6700 * kMiB, 6700 * kMiB}), 1u);
    EXPECT_EQ(of({4600 * kMiB, 4600 * kMiB}), 2u);
    EXPECT_EQ(of({4000 * kMiB, 4000 * kMiB, 4000 * kMiB}), 2u);  // two hold 95 %
    rates_ = {.upload_bytes_per_second = 6e9};                   // a slow bus, and nothing ahead
    EXPECT_EQ(of({6700 * kMiB, 6700 * kMiB}), 2u);
}

TEST_F(CardCount, AnotherOneRatherThanTheDisk) {
    limits_.ram_bytes = kGiB;
    EXPECT_EQ(of({6 * kGiB, 6 * kGiB}), 2u);
}

TEST_F(CardCount, NeverMoreThanTheLimitTakes) {
    limits_.device_bytes = 4 * kGiB;
    EXPECT_EQ(of({16 * kGiB, 16 * kGiB}), 1u);
    rates_ = {.upload_bytes_per_second = 6e9};
    EXPECT_EQ(of({2 * kGiB, 2 * kGiB, 2 * kGiB}), 2u);
}

// What cards lack of it, the processor computes.
TEST_F(CardCount, ADenseModelTakesAllThatHoldMore) {
    demand_ = model("lab-dense-5g");
    EXPECT_EQ(of({4 * kGiB, 4 * kGiB, 4 * kGiB}), 2u);
    EXPECT_EQ(of({kGiB, kGiB}), 2u);
    EXPECT_EQ(of({8 * kGiB, 8 * kGiB}), 1u);
}

TEST_F(CardCount, ExpertsThatGoWithTheirLayersAreNoneThatCanBeUploaded) {
    request_.with_experts = true;
    EXPECT_EQ(of({6700 * kMiB, 6700 * kMiB}), 2u);
}

TEST_F(CardCount, LayersThatWereAskedForAreAllThatIsWanted) {
    request_.gpu_layers = 12;
    EXPECT_EQ(of({6 * kGiB, 6 * kGiB}), 1u);
    request_.gpu_layers = 25;
    EXPECT_EQ(of({6 * kGiB, 6 * kGiB}), 2u);
}

}  // namespace
}  // namespace hypura::placement
