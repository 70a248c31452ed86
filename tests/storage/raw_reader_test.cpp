#include "base/clock.h"
#include "storage_test_support.h"

#include <fcntl.h>
#include <unistd.h>

#include <map>

namespace hypura::storage {
namespace {

constexpr uint32_t kBlock = 4096;

class RawReaders : public BothReaders {
protected:
    void SetUp() override {
        BothReaders::SetUp();
        content_ = random_content(64 * kBlock);
        file_.emplace(DirectFile::open(dir_.write("model", content_)).value());
        memory_.emplace(MemoryRegion::reserve(content_.size()).value());
    }
    RawRead block_read(uint64_t index) const {
        return {file_->fd(), index * kBlock, memory_->data() + index * kBlock, kBlock, index};
    }
    std::vector<RawRead> all_reads() const {
        std::vector<RawRead> reads;
        for (uint64_t i = 0; i < 64; ++i) reads.push_back(block_read(i));
        return reads;
    }
    // Submits all_reads() and collects them, blocking.
    void expect_all_read(RawReader& reader) {
        ASSERT_TRUE(reader.submit(all_reads()));
        EXPECT_EQ(reader.in_flight(), 64u);
        std::map<uint64_t, int64_t> results;
        while (reader.in_flight() > 0) {
            std::vector<RawCompletion> completions;
            ASSERT_TRUE(reader.collect(completions, true));
            ASSERT_FALSE(completions.empty());
            for (const auto& completion : completions) results[completion.tag] = completion.result;
        }
        EXPECT_EQ(results.size(), 64u);
        for (const auto& [tag, result] : results) EXPECT_EQ(result, kBlock) << tag;
        EXPECT_TRUE(memory_matches());
    }
    bool memory_matches() const { return std::memcmp(memory_->data(), content_.data(), content_.size()) == 0; }

    std::string content_;
    std::optional<DirectFile> file_;
    std::optional<MemoryRegion> memory_;
};

TEST_P(RawReaders, ReadsMoreThanTheQueueHolds) { expect_all_read(*make_reader(GetParam(), 4)); }

// As long as it takes, and far shorter than that.
TEST_P(RawReaders, PollingCollectsTheSame) {
    for (const uint32_t poll_us : {60'000'000U, 1U}) {
        std::memset(memory_->data(), 0, memory_->size_bytes());
        expect_all_read(*make_raw_reader({.kind = GetParam(), .queue_depth = 4, .poll_us = poll_us}).value());
    }
}

TEST_P(RawReaders, AReadBehindOthersBeginsWhenTheyAreDone) {
    auto reader = make_reader(GetParam());
    std::vector<RawRead> reads = all_reads();
    reads[60].behind = true;
    ASSERT_TRUE(reader->submit(reads));
    std::vector<RawCompletion> completions;
    while (reader->in_flight() > 0) ASSERT_TRUE(reader->collect(completions, true));
    ASSERT_EQ(completions.size(), 64u);
    EXPECT_TRUE(memory_matches());
    if (GetParam() == ReaderKind::kPread) return;  // its threads take reads in order, and finish them in any
    std::vector<uint64_t> last;
    for (size_t i = 60; i < 64; ++i) last.push_back(completions[i].tag);
    std::ranges::sort(last);
    EXPECT_EQ(last, (std::vector<uint64_t>{60, 61, 62, 63}));
}

TEST_P(RawReaders, CollectsNothingWhenIdle) {
    auto reader = make_reader(GetParam());
    std::vector<RawCompletion> completions;
    ASSERT_TRUE(reader->collect(completions, true));
    ASSERT_TRUE(reader->collect(completions, false));
    EXPECT_TRUE(completions.empty());
}

TEST_P(RawReaders, ReturnsErrnoAndEndOfFileAsResults) {
    auto reader = make_reader(GetParam());
    RawRead past_end = block_read(0), bad_fd = block_read(1);
    past_end.offset = 1000 * kBlock;
    bad_fd.fd = 1'000'000;
    ASSERT_TRUE(reader->submit(std::vector{past_end, bad_fd}));
    std::vector<RawCompletion> completions;
    while (reader->in_flight() > 0) ASSERT_TRUE(reader->collect(completions, true));
    ASSERT_EQ(completions.size(), 2u);
    for (const auto& completion : completions) EXPECT_EQ(completion.result, completion.tag == 0 ? 0 : -EBADF);
}

// The owner computes, without any system call, between submit and collect: the reads must not wait for it.
TEST_P(RawReaders, MakesProgressWhileTheOwnerComputes) {
    auto reader = make_reader(GetParam(), 64);
    std::fill_n(memory_->data(), memory_->size_bytes(), std::byte{0});
    ASSERT_TRUE(reader->submit(all_reads()));
    const int64_t deadline = now_us() + 1'000'000;
    while (now_us() < deadline) {
    }
    std::vector<RawCompletion> completions;
    ASSERT_TRUE(reader->collect(completions, false));
    EXPECT_EQ(completions.size(), 64u);
    EXPECT_TRUE(memory_matches());
}

TEST_P(RawReaders, WritesNothingAfterDestruction) {
    for (int round = 0; round < 50; ++round) {
        auto reader = make_reader(GetParam(), 4);
        ASSERT_TRUE(reader->submit(all_reads()));
        reader.reset();
        std::fill_n(memory_->data(), memory_->size_bytes(), std::byte{7});
    }
    ::usleep(20'000);
    EXPECT_TRUE(std::all_of(memory_->data(), memory_->data() + memory_->size_bytes(),
                            [](std::byte b) { return b == std::byte{7}; }));
}

INSTANTIATE_TEST_SUITE_P(, RawReaders, testing::Values(ReaderKind::kUring, ReaderKind::kPread), reader_name);

TEST(MakeRawReader, ChecksItsOptions) {
    EXPECT_EQ(make_raw_reader({.queue_depth = 0}).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(make_raw_reader({.threads = 0}).error().code, ErrorCode::kInvalidArgument);
}

TEST(MakeRawReader, AutoAlwaysFindsOne) {
    auto reader = make_raw_reader({});
    ASSERT_TRUE(reader) << reader.error().message;
    EXPECT_EQ((*reader)->name(), have_uring() ? "io_uring" : "pread");
}

TEST(MakeRawReader, SurvivesAHugeQueueDepth) {
    if (!have_uring()) GTEST_SKIP() << "io_uring is not available here";
    EXPECT_TRUE(make_raw_reader({.kind = ReaderKind::kUring, .queue_depth = 1u << 20}));
}

}  // namespace
}  // namespace hypura::storage
