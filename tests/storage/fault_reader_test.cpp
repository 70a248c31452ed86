#include "storage_test_support.h"

#include "base/clock.h"

#include <cerrno>

namespace hypura::storage {
namespace {

TEST(ParseFaultPlan, ReadsEveryKind) {
    const auto expect = [](std::string_view text, uint64_t nth, FaultKind kind, bool permanent) {
        auto plan = parse_fault_plan(text);
        ASSERT_TRUE(plan) << plan.error().message;
        EXPECT_EQ(plan->nth, nth);
        EXPECT_EQ(plan->kind, kind);
        EXPECT_EQ(plan->permanent, permanent);
    };
    expect("1:eio", 1, FaultKind::kIoError, false);
    expect("20:short:permanent", 20, FaultKind::kShortRead, true);
    expect("3:eintr", 3, FaultKind::kInterrupted, false);
    expect("0:eof:permanent", 0, FaultKind::kEndOfFile, true);
}

TEST(ParseFaultPlan, ReadsDelays) {
    const auto plan = parse_fault_plan("2:slow:30");
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_EQ(plan->kind, FaultKind::kSlow);
    EXPECT_EQ(plan->delay_us, 30'000);
}

TEST(ParseFaultPlan, RejectsEverythingElse) {
    for (const auto* text : {"", ":", "1", "1:", "x:eio", "-1:eio", "1:EIO", "1:eio:", "1:eio:once",
                             "1:eio:permanent:", "1:eio::permanent", "1:slow", "1:slow:", "1:slow:x",
                             "1:slow:permanent", "1:slow:9999999999", "99999999999999999999:eio", " 1:eio"}) {
        auto plan = parse_fault_plan(text);
        ASSERT_FALSE(plan) << text;
        EXPECT_EQ(plan.error().code, ErrorCode::kInvalidArgument);
    }
}

// Reads one after another, so that the n-th read is a known one.
class FaultReaderTest : public testing::Test {
protected:
    void SetUp() override {
        content_ = random_content(16 * kKiB);
        file_.emplace(DirectFile::open(dir_.write("model", content_)).value());
        memory_.emplace(MemoryRegion::reserve(content_.size()).value());
    }
    void plan(const FaultPlan& plan) { reader_ = make_fault_reader(make_reader(ReaderKind::kPread), plan); }
    int64_t read(uint64_t offset, uint32_t bytes) {
        const RawRead request{file_->fd(), offset, memory_->data(), bytes, 7};
        EXPECT_TRUE(reader_->submit({&request, 1}));
        EXPECT_EQ(reader_->in_flight(), 1u);
        std::vector<RawCompletion> completions;
        EXPECT_TRUE(reader_->collect(completions, true));
        EXPECT_EQ(completions.size(), 1u);
        EXPECT_EQ(completions.at(0).tag, 7u);
        return completions.at(0).result;
    }
    bool matches(uint64_t offset, uint64_t bytes) const {
        return std::memcmp(memory_->data(), content_.data() + offset, bytes) == 0;
    }

    test::TempDir dir_;
    std::string content_;
    std::optional<DirectFile> file_;
    std::optional<MemoryRegion> memory_;
    std::unique_ptr<RawReader> reader_;
};

TEST_F(FaultReaderTest, FailsOnlyTheNthReadOnce) {
    plan({.nth = 2, .kind = FaultKind::kIoError});
    EXPECT_EQ(read(0, 4096), 4096);
    EXPECT_EQ(read(0, 4096), -EIO);
    EXPECT_EQ(read(0, 4096), 4096);
}

TEST_F(FaultReaderTest, FailsTheSameRangeForEver) {
    plan({.nth = 1, .kind = FaultKind::kInterrupted, .permanent = true});
    EXPECT_EQ(read(4096, 4096), -EINTR);
    EXPECT_EQ(read(0, 4096), 4096);
    EXPECT_EQ(read(8192, 4096), 4096);
    EXPECT_EQ(read(0, 8192), -EINTR);
    EXPECT_EQ(read(4096, 4096), -EINTR);
}

TEST_F(FaultReaderTest, ShortReadIsATruePrefixFollowedByGarbage) {
    plan({.nth = 1, .kind = FaultKind::kShortRead});
    EXPECT_EQ(read(0, 8192), 4096);
    EXPECT_TRUE(matches(0, 4096));
    EXPECT_FALSE(matches(0, 4097));
    EXPECT_EQ(read(0, 8192), 8192);
    EXPECT_TRUE(matches(0, 8192));
}

TEST_F(FaultReaderTest, PermanentShortReadNeverGetsPastTheMiddle) {
    plan({.nth = 1, .kind = FaultKind::kShortRead, .permanent = true});
    EXPECT_EQ(read(4096, 8192), 4096);
    EXPECT_EQ(read(4096, 8192), 4096);
    EXPECT_EQ(read(8192, 4096), 0);
    EXPECT_EQ(read(0, 16384), 8192);
    EXPECT_EQ(read(12288, 4096), 4096);
}

TEST_F(FaultReaderTest, EndOfFileIsZeroBytes) {
    plan({.nth = 1, .kind = FaultKind::kEndOfFile});
    EXPECT_EQ(read(0, 4096), 0);
    EXPECT_EQ(read(0, 4096), 4096);
}

// At least the delay: the one thing about time that cannot fail on a busy machine.
TEST_F(FaultReaderTest, SlowReadsTakeTheirTimeAndAreWhole) {
    plan({.nth = 2, .kind = FaultKind::kSlow, .delay_us = 20'000});
    EXPECT_EQ(read(0, 4096), 4096);
    const int64_t begin_us = now_us();
    EXPECT_EQ(read(4096, 4096), 4096);
    EXPECT_EQ(read(8192, 4096), 4096);
    EXPECT_GE(now_us() - begin_us, 40'000);
    EXPECT_TRUE(matches(8192, 4096));
}

}  // namespace
}  // namespace hypura::storage
