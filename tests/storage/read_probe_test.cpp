#include "storage/read_probe.h"

#include "storage_test_support.h"

namespace hypura::storage {
namespace {

using ReadProbe = BothReaders;

constexpr uint64_t kFileBytes = 1 * kMiB + 123;

std::vector<ProbeRange> some_ranges() {
    std::vector<ProbeRange> ranges;
    for (uint64_t i = 0; i < 20; ++i) ranges.push_back({0, i * 50'001, 1 + i * 3'000});
    return ranges;
}

TEST_P(ReadProbe, ReadsAsManyRangesAsAskedForAndCountsWhatTheKernelReturned) {
    const auto reader =
        make_block_reader(make_reader(GetParam()), dir_.write("file", random_content(kFileBytes)), 65536);
    const auto ranges = some_ranges();
    uint64_t range_bytes = 0;
    for (const ProbeRange& range : ranges) range_bytes += range.bytes;
    const auto probed = probe_reads(*reader, {ranges, 5, 60'000'000, 2 * ranges.size()});
    ASSERT_TRUE(probed) << probed.error().message;
    EXPECT_EQ(probed->reads, 2 * ranges.size());
    EXPECT_EQ(probed->bytes, reader->counters().bytes);
    EXPECT_GE(probed->bytes, 2 * range_bytes);
    EXPECT_GE(probed->p99_us, probed->median_us);
    EXPECT_EQ(reader->outstanding(), 0u);
}

TEST_P(ReadProbe, StopsInTime) {
    const auto reader =
        make_block_reader(make_reader(GetParam()), dir_.write("file", random_content(kFileBytes)), 65536);
    const auto ranges = some_ranges();
    const auto probed = probe_reads(*reader, {ranges, 4, 20'000});
    ASSERT_TRUE(probed) << probed.error().message;
    EXPECT_GE(probed->wall_us, 20'000);
    EXPECT_GT(probed->reads, 0u);
}

TEST_P(ReadProbe, ReadsNoMoreThanIsWanted) {
    const auto reader =
        make_block_reader(make_reader(GetParam()), dir_.write("file", random_content(kFileBytes)), 65536);
    const auto ranges = some_ranges();
    int left = 5;
    std::vector<uint64_t> asked;
    const auto is_wanted = [&](uint64_t bytes) {
        asked.push_back(bytes);
        return left-- > 0;
    };
    const auto probed =
        probe_reads(*reader, {.ranges = ranges, .depth = 4, .least_us = 60'000'000, .is_wanted = is_wanted});
    ASSERT_TRUE(probed) << probed.error().message;
    EXPECT_EQ(probed->reads, 6u);  // the first one without a question
    ASSERT_EQ(asked.size(), 6u);   // and none after the refusal
    EXPECT_EQ(asked.front(), ranges[1].bytes);
}

TEST_P(ReadProbe, AFailedReadIsAnError) {
    auto raw = make_fault_reader(make_reader(GetParam()), {.nth = 3, .kind = FaultKind::kIoError, .permanent = true});
    const auto reader = make_block_reader(std::move(raw), dir_.write("file", random_content(kFileBytes)), 65536);
    const auto ranges = some_ranges();
    const auto probed = probe_reads(*reader, {ranges, 4, 60'000'000, 100});
    ASSERT_FALSE(probed);
    EXPECT_EQ(probed.error().code, ErrorCode::kReadFailed);
    EXPECT_EQ(reader->outstanding(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Readers, ReadProbe, testing::Values(ReaderKind::kUring, ReaderKind::kPread), reader_name);

}  // namespace
}  // namespace hypura::storage
