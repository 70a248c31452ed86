#include "placement/pass_size.h"

#include "base/bytes.h"

#include <gtest/gtest.h>

namespace hypura::placement {
namespace {

// 8.4 GB on a card behind a fast bus, as in docs/devices.md.
class PassSize : public testing::Test {
protected:
    uint32_t of(uint64_t room_bytes) {
        request_.room_bytes = room_bytes;
        return pass_tokens_beside_cards(demand_, request_, ram_bytes_, rates_);
    }

    ModelDemand demand_ =
        model_demand(directory_of(gguf::synthesize(gguf::synthetic_preset("lab-moe-8g").value()).value()));
    DeviceRequest request_{.context_tokens = 4096};
    uint64_t ram_bytes_ = 16 * kGiB;
    BankRates rates_{.upload_bytes_per_second = 45e9, .uploads_ahead = true};
};

// Measured with half of the experts on the card: prompts of 4096 at 2921 tok/s in passes of 512, at 7118 in passes of
// 2048.
TEST_F(PassSize, LargeWhereEachPassUploads) {
    EXPECT_EQ(of(4600 * kMiB), 2048u);
    EXPECT_EQ(of(2700 * kMiB), 2048u);
    ram_bytes_ = 3 * kGiB;  // and reads
    EXPECT_EQ(of(2700 * kMiB), 2048u);
}

TEST_F(PassSize, SmallWhereBuffersWouldTakeWhatLittleExpertsHave) {
    EXPECT_EQ(of(800 * kMiB), 512u);
    EXPECT_EQ(of(0), 512u);
}

// A layer that is no longer whole costs every token of an answer a cut.
TEST_F(PassSize, SmallWhereTheCardLacksLittle) {
    EXPECT_EQ(of(6700 * kMiB), 1024u);
    EXPECT_EQ(of(7500 * kMiB), 512u);
}

TEST_F(PassSize, NeverMoreThanTheContext) {
    request_.context_tokens = 1024;
    EXPECT_EQ(of(4600 * kMiB), 1024u);
    request_.context_tokens = 300;
    EXPECT_EQ(of(4600 * kMiB), 512u);
}

}  // namespace
}  // namespace hypura::placement
