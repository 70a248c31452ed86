#include "placement/pass_size.h"

#include "base/bytes.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace hypura::placement {
namespace {

// 8.4 GB on a card behind a fast bus, as in docs/devices.md.
class PassSize : public testing::Test {
protected:
    uint32_t of(uint64_t room_bytes) {
        request_.room_bytes = room_bytes;
        return pass_tokens_with_cards(demand_, request_, ram_bytes_, rates_);
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
    EXPECT_EQ(of(8000 * kMiB), 512u);
}

// Stock llama.cpp with all of it on the card: 16096 and 24399 tok/s with 512 and 2048.
TEST_F(PassSize, LargeWhereTheCardHoldsAllTheSame) {
    EXPECT_EQ(of(8300 * kMiB), 512u);
    EXPECT_EQ(of(8400 * kMiB), 1024u);
    EXPECT_EQ(of(80 * kGiB), 2048u);
}

TEST_F(PassSize, NeverMoreThanTheContext) {
    request_.context_tokens = 1024;
    EXPECT_EQ(of(4600 * kMiB), 1024u);
    request_.context_tokens = 300;
    EXPECT_EQ(of(4600 * kMiB), 512u);
}

// 4 ms of arithmetic a token beside 2 s of reading, and the other way round.
TEST(ChunkTokens, AsManyAsBarelyLengthenAPassThatReads) {
    EXPECT_EQ(chunk_tokens(2048, [](uint32_t tokens) { return 2 + 4e-3 * tokens; }), 256u);
    EXPECT_EQ(chunk_tokens(2048, [](uint32_t tokens) { return std::max(2.0, 4e-3 * tokens); }), 512u);
    EXPECT_EQ(chunk_tokens(512, [](uint32_t) { return 1; }), 512u);
    EXPECT_EQ(chunk_tokens(512, [](uint32_t tokens) { return 1e-2 + 2e-2 * tokens; }), 128u);
    EXPECT_EQ(chunk_tokens(16, [](uint32_t) { return 1; }), 16u);
}

}  // namespace
}  // namespace hypura::placement
