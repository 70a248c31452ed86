#include "storage_test_support.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <filesystem>

namespace hypura::storage {
namespace {

ErrorCode open_error(const std::string& path) {
    auto file = DirectFile::open(path);
    EXPECT_FALSE(file);
    if (file) return ErrorCode::kInternal;
    EXPECT_THAT(file.error().message, testing::HasSubstr(path));
    return file.error().code;
}

void expect_consistent(const DirectFile& file) {
    EXPECT_TRUE(std::has_single_bit(file.offset_alignment()));
    EXPECT_TRUE(std::has_single_bit(file.memory_alignment()));
    EXPECT_EQ((::fcntl(file.fd(), F_GETFL) & O_NONBLOCK), 0);
    EXPECT_NE((::fcntl(file.fd(), F_GETFD) & FD_CLOEXEC), 0);
    if (!file.direct()) {
        EXPECT_EQ(file.offset_alignment(), 1u);
        EXPECT_EQ(file.memory_alignment(), 1u);
    }
}

TEST(DirectFile, KnowsItsPathAndSize) {
    test::TempDir dir;
    for (const uint64_t bytes : {0u, 1u, 511u, 512u, 4096u, 10000u}) {
        const std::string path = dir.write("model", random_content(bytes));
        auto file = DirectFile::open(path);
        ASSERT_TRUE(file) << file.error().message;
        EXPECT_EQ(file->path(), path);
        EXPECT_EQ(file->size_bytes(), bytes);
        expect_consistent(*file);
    }
}

TEST(DirectFile, OpensFilesOfProcBuffered) {
    auto file = DirectFile::open("/proc/self/status");
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_FALSE(file->direct());
    expect_consistent(*file);
}

TEST(DirectFile, RejectsWhatIsNotAReadableFile) {
    test::TempDir dir;
    EXPECT_EQ(open_error(dir.file("missing")), ErrorCode::kNotFound);
    EXPECT_EQ(open_error(dir.path()), ErrorCode::kNotAFile);
    EXPECT_EQ(open_error("/dev/null"), ErrorCode::kNotAFile);
    ASSERT_EQ(::mkfifo(dir.file("fifo").c_str(), 0600), 0);
    EXPECT_EQ(open_error(dir.file("fifo")), ErrorCode::kNotAFile);
}

TEST(DirectFile, ReportsMissingPermission) {
    if (::geteuid() == 0) GTEST_SKIP() << "root may read everything";
    test::TempDir dir;
    const std::string path = dir.write("secret", "x");
    std::filesystem::permissions(path, std::filesystem::perms::none);
    EXPECT_EQ(open_error(path), ErrorCode::kPermissionDenied);
}

}  // namespace
}  // namespace hypura::storage
