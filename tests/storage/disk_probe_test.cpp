#include "storage/disk_probe.h"

#include "base/unique_fd.h"
#include "storage/storage_test_support.h"

#include <fcntl.h>
#include <unistd.h>

namespace hypura::storage {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A few milliseconds a cell: these tests look at counters and proofs, never at the speed.
DiskProbeOptions quick() {
    return {.cells = {{4096, 1}, {65536, 4}}, .cell_us = 2000, .rounds = 2, .file_bytes = 2u << 20};
}

TEST(DiskProbe, MeasuresEveryCellOnAFile) {
    const test::TempDir dir;
    const std::string path = dir.write("file", random_content(1u << 20));
    const auto probe = probe_disk(path, quick());
    ASSERT_TRUE(probe) << probe.error().message;
    EXPECT_FALSE(probe->made_file);
    EXPECT_EQ(probe->file_bytes, 1u << 20);
    ASSERT_EQ(probe->points.size(), 2u);
    for (const DiskPoint& point : probe->points) {
        EXPECT_GE(point.reads, point.cell.queue_depth);
        EXPECT_GT(point.bytes_per_second, 0);
        EXPECT_NEAR(point.bytes_per_second, point.reads_per_second * point.cell.request_bytes,
                    0.01 * point.bytes_per_second);
        EXPECT_LE(point.median_us, point.p99_us);
    }
}

TEST(DiskProbe, ProvesDirectReadsWhereTheFilesystemHasThem) {
    const test::TempDir dir;
    const std::string path = dir.write("file", random_content(8u << 20));
    const auto probe = probe_disk(path, quick());
    ASSERT_TRUE(probe) << probe.error().message;
    if (!probe->direct) GTEST_SKIP() << "no direct reads in the temporary folder";
    EXPECT_EQ(probe->compared_bytes, 16u * 65536);
    // Memory file systems accept O_DIRECT since Linux 6.6 and hold everything in the page cache: then nothing is
    // proven.
    if (probe->cached_before_bytes == probe->file_bytes) {
        EXPECT_FALSE(probe->bypasses_page_cache());
    }
}

TEST(DiskProbe, MakesAFileInAFolderAndLeavesNothingBehind) {
    const test::TempDir dir;
    const auto probe = probe_disk(dir.path(), quick());
    ASSERT_TRUE(probe) << probe.error().message;
    EXPECT_TRUE(probe->made_file);
    EXPECT_EQ(probe->file_bytes, 2u << 20);
    EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(DiskProbe, LeavesOutCellsLargerThanTheFile) {
    const test::TempDir dir;
    DiskProbeOptions options = quick();
    options.cells.push_back({4u << 20, 1});
    const auto probe = probe_disk(dir.write("file", random_content(1u << 20)), options);
    ASSERT_TRUE(probe) << probe.error().message;
    EXPECT_EQ(probe->points.size(), 2u);
}

TEST(DiskProbe, RefusesWhatItCannotMeasure) {
    const test::TempDir dir;
    EXPECT_THAT(probe_disk(dir.write("small", "x"), quick()).error().message, HasSubstr("too little"));
    EXPECT_EQ(probe_disk(dir.file("absent"), quick()).error().code, ErrorCode::kNotFound);
    DiskProbeOptions no_depth = quick();
    no_depth.cells = {{4096, 0}};
    EXPECT_EQ(probe_disk(dir.path(), no_depth).error().code, ErrorCode::kInvalidArgument);
    DiskProbeOptions too_large = quick();
    too_large.file_bytes = uint64_t{1} << 60;
    EXPECT_THAT(probe_disk(dir.path(), too_large).error().message, HasSubstr("too little for a test file"));
}

TEST(DiskProbe, AGlanceMeasuresAFewCellsOfAFileAndLeavesItCached) {
    const test::TempDir dir;
    const std::string path = dir.write("file", random_content(4u << 20));
    const auto points = glance_at_disk(path);
    if (!points && points.error().code == ErrorCode::kUnsupportedHost) GTEST_SKIP() << points.error().message;
    ASSERT_TRUE(points) << points.error().message;
    EXPECT_EQ(points->size(), 3u);
    for (const DiskPoint& point : *points) EXPECT_GT(point.bytes_per_second, 0);
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (const auto cached = cached_bytes(fd.get(), 4u << 20)) {
        EXPECT_EQ(*cached, 4u << 20);
    }
    EXPECT_THAT(glance_at_disk(dir.write("small", "x")).error().message, HasSubstr("too little"));
}

TEST(DiskProbe, CountsCachedBytes) {
    const test::TempDir dir;
    const std::string path = dir.write("file", random_content(1u << 20));  // just written, so all of it is cached
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    const auto cached = cached_bytes(fd.get(), 1u << 20);
    if (!cached) GTEST_SKIP() << "the kernel does not tell what is cached";
    EXPECT_EQ(*cached, 1u << 20);
}

TEST(DiskProbe, NothingIsProvenWhileTheFileIsCached) {
    DiskProbe probe{.file_bytes = 100 * kMiB, .direct = true, .cached_before_bytes = 0, .cached_after_bytes = 0};
    EXPECT_TRUE(probe.bypasses_page_cache());
    probe.cached_after_bytes = 2 * kMiB;
    EXPECT_FALSE(probe.bypasses_page_cache());
    probe.cached_after_bytes.reset();
    EXPECT_FALSE(probe.bypasses_page_cache());
}

TEST(DiskProbe, InterpolatesBetweenMeasuredCells) {
    std::vector<DiskPoint> points;
    for (const auto& [bytes, depth, rate] : std::vector<std::tuple<uint32_t, uint32_t, double>>{
             {4096, 1, 100}, {4096, 4, 300}, {65536, 1, 1000}, {65536, 4, 2000}})
        points.push_back({{bytes, depth}, rate, 0, 0, 0, 0});
    EXPECT_DOUBLE_EQ(bandwidth_at(points, 4096, 1), 100);
    EXPECT_DOUBLE_EQ(bandwidth_at(points, 4096, 2), 200);  // half way by the logarithm
    EXPECT_DOUBLE_EQ(bandwidth_at(points, 16384, 1), 550);
    EXPECT_DOUBLE_EQ(bandwidth_at(points, 1 << 30, 100), 2000);  // beyond the table: its edge
    EXPECT_DOUBLE_EQ(bandwidth_at({}, 4096, 1), 0);
}

}  // namespace
}  // namespace hypura::storage
