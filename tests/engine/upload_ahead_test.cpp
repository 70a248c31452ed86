// What is brought to device slots before its layer is routed, on the one device that every machine has: the processor.
// How far the writer's threads come differs from run to run: every expectation holds however far that is.
#include "engine/upload_ahead.h"

#include "engine/router_fixture.h"
#include "residency/cache_fixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace hypura::engine {
namespace {

constexpr uint32_t kExperts = 4;
constexpr int64_t kColumns = 100'000;  // of one row: 400 kB, four pieces

// Pages of two slices: only their specs are looked at.
class Cache : public residency::CacheFixture {
public:
    void TestBody() override {}
    using CacheFixture::cache_;
    using CacheFixture::open_manual;
};

// The router names experts 0 and 1 for the input (3, 2).
class UploadAheadTest : public RouterFixture {
protected:
    UploadAheadTest()
        : stream_(DeviceStream::create(processor(), 1 << 20).value()), ahead_(UploadAhead::create(2).value()) {
        pages_.open_manual(kExperts, {kExperts});
        weight_ = matrix(2, kExperts, {1, 0, 0, 1, -1, -1, -1, 0});
        input_ = matrix(2, 1, {3, 2});
        for (uint32_t expert = 0; expert < kExperts; ++expert) {
            ram_.emplace_back(2 * kColumns * sizeof(float));
            for (size_t i = 0; i < ram_[expert].size(); ++i)
                ram_[expert][i] = static_cast<std::byte>(1 + (i * (expert + 3)) % 253);
        }
    }
    static ggml_backend_dev_t processor() {
        start_llama();
        return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    }

    std::unique_ptr<DeviceBank> make_bank(uint32_t slots) {
        ExpertGroupLayout group;
        group.experts = kExperts;
        for (int part = 0; part < 2; ++part) {
            const GgmlContextHandle& context = contexts_.emplace_back(
                ggml_init({.mem_size = ggml_tensor_overhead() * 2, .mem_buffer = nullptr, .no_alloc = true}));
            group.parts.push_back({.tensor = ggml_new_tensor_3d(context.get(), GGML_TYPE_F32, kColumns, 1, kExperts),
                                   .bytes = kColumns * sizeof(float)});
        }
        return DeviceBank::create(*stream_, group, slots, 16).value();
    }

    UploadAhead::Order order(DeviceBank& bank) {
        UploadAhead::Order made{.bank = &bank,
                                .here = {weight_, nullptr, nullptr},
                                .later = {weight_, nullptr, nullptr},
                                .input = input_,
                                .top_k = 2,
                                .cache = &*pages_.cache_,
                                .first_page = 0};
        for (const std::vector<std::byte>& expert : ram_) made.in_ram.push_back(expert.data());
        return made;
    }
    // One pass: what is guessed comes as far as it comes within `us`, then the layer is routed.
    void pass(DeviceBank& bank, std::vector<uint32_t> named, int64_t us) {
        ahead_->begin_pass();
        ahead_->begin(order(bank));
        ahead_->allow_writes();
        std::this_thread::sleep_for(std::chrono::microseconds(us));
        ASSERT_TRUE(ahead_->settle(&bank, named));
    }
    void upload_rest() {
        for (const DeviceWriter::Matrix& rest : ahead_->rest())
            ggml_backend_tensor_set(rest.tensor, rest.data, rest.offset, rest.bytes);
        ahead_->finish();
    }
    // Until guesses are trusted, and threads have woken up in time to learn that.
    void prove_right() {
        for (int i = 0; i < 5000; ++i) {
            const auto bank = make_bank(3);
            pass(*bank, {0, 1}, 1000);
            const bool came = ahead_->has_brought(bank.get(), 0) && ahead_->has_brought(bank.get(), 1);
            ahead_->finish();
            if (came) return;
        }
        FAIL() << "nothing ever came";
    }
    bool is_right_if_there(const DeviceBank& bank, uint32_t expert) {
        if (bank.slot_of(expert) < 0) return true;
        const auto slot = static_cast<size_t>(bank.slot_of(expert));
        for (size_t part = 0; part < 2; ++part) {
            std::vector<std::byte> bytes(bank.matrix_bytes(part));
            ggml_backend_tensor_get(bank.tensor(part), bytes.data(), slot * bytes.size(), bytes.size());
            const uint64_t offset = pages_.cache_->page_spec(expert).slices[part].slot_offset;
            if (!std::ranges::equal(bytes, std::span(ram_[expert]).subspan(offset, bytes.size()))) return false;
        }
        return true;
    }

    Cache pages_;
    std::vector<std::vector<std::byte>> ram_;  // by expert; parts lie where the pages' specs say
    std::vector<GgmlContextHandle> contexts_;
    std::unique_ptr<DeviceStream> stream_;
    std::unique_ptr<UploadAhead> ahead_;
    ggml_tensor *weight_, *input_;
};

TEST_F(UploadAheadTest, NothingComesBeforeGuessesProvedRight) {
    const auto bank = make_bank(3);
    pass(*bank, {0, 1}, 2000);
    EXPECT_FALSE(ahead_->has_brought(bank.get(), 0));
    EXPECT_EQ(bank->slot_of(0), -1);
}

TEST_F(UploadAheadTest, WhatWasNamedIsThereOnceTheRestIsUploaded) {
    prove_right();
    EXPECT_GT(ahead_->written_bytes(), 0U);
    for (int64_t us = 0; us < 3000; us += 100) {
        const auto bank = make_bank(3);
        pass(*bank, {0, 1}, us);
        for (const uint32_t expert : {0U, 1U})
            EXPECT_EQ(ahead_->has_brought(bank.get(), expert), bank->slot_of(expert) >= 0);
        upload_rest();
        for (const uint32_t expert : {0U, 1U}) {
            EXPECT_TRUE(is_right_if_there(*bank, expert)) << us;
            EXPECT_FALSE(ahead_->has_brought(bank.get(), expert));  // over
        }
    }
}

TEST_F(UploadAheadTest, AWrongGuessIsThereWhollyOrNotAtAll) {
    prove_right();
    for (int64_t us = 0; us < 3000; us += 300) {
        const auto bank = make_bank(2);
        ASSERT_TRUE(bank->assign(std::vector<uint32_t>{2, 3}));
        pass(*bank, {3}, us);
        EXPECT_TRUE(ahead_->rest().empty());
        for (const uint32_t expert : {0U, 1U}) {
            EXPECT_FALSE(ahead_->has_brought(bank.get(), expert));
            EXPECT_TRUE(is_right_if_there(*bank, expert)) << us;
        }
        upload_rest();
        prove_right();  // again
    }
}

TEST_F(UploadAheadTest, AGuessThatIsThereStaysAndIsNotUploadedAgain) {
    prove_right();
    const auto bank = make_bank(2);
    ASSERT_TRUE(bank->assign(std::vector<uint32_t>{1, 2}));
    ASSERT_TRUE(bank->assign(std::vector<uint32_t>{2}));  // expert 1 is the colder one
    const int32_t slot = bank->slot_of(1);
    pass(*bank, {0, 1}, 3000);
    upload_rest();
    EXPECT_EQ(bank->slot_of(1), slot);
}

TEST_F(UploadAheadTest, WhatWasNotFinishedIsForgottenWithItsPass) {
    prove_right();
    for (int64_t us = 0; us < 2000; us += 100) {
        const auto bank = make_bank(3);
        pass(*bank, {0, 1}, us);
        ahead_->abandon();
        for (const uint32_t expert : {0U, 1U}) EXPECT_TRUE(is_right_if_there(*bank, expert)) << us;
    }
    const auto bank = make_bank(3);
    ahead_->begin(order(*bank));
    ahead_->abandon();
    ahead_->begin(order(*bank));  // nothing is in hand any more
    ahead_->abandon();
}

TEST_F(UploadAheadTest, AnotherLayersRoutingDropsTheOrder) {
    prove_right();
    const auto bank = make_bank(3), other = make_bank(3);
    ahead_->begin(order(*bank));
    ahead_->allow_writes();
    ASSERT_TRUE(ahead_->settle(other.get(), std::vector<uint32_t>{0, 1}));
    EXPECT_FALSE(ahead_->has_brought(other.get(), 0));
    EXPECT_FALSE(ahead_->has_brought(bank.get(), 0));
    EXPECT_EQ(other->slot_of(0), -1);
    EXPECT_TRUE(ahead_->rest().empty());
}

}  // namespace
}  // namespace hypura::engine
