#include "base/output_file.h"

#include "support/temp_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace hypura {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(OutputFile, ReplacesWhatWasThere) {
    const test::TempDir dir;
    const std::string path = dir.write("out", "a longer text");
    OutputFile file = OutputFile::create(path).value();
    EXPECT_TRUE(file.write(bytes_of("new")));
    EXPECT_TRUE(file.write(bytes_of(" text")));
    EXPECT_TRUE(file.close());
    EXPECT_EQ(test::read_file(path), "new text");
}

TEST(OutputFile, AFullDiskHasItsOwnCode) {
    if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full";
    OutputFile file = OutputFile::create("/dev/full").value();
    const Status written = file.write(bytes_of("x"));
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code, ErrorCode::kDiskFull);
    EXPECT_THAT(written.error().message, testing::AllOf(testing::HasSubstr("/dev/full"), testing::HasSubstr("space")));
}

TEST(OutputFile, NamesAPathThatCannotBeCreated) {
    const auto file = OutputFile::create("/no/such/folder/out");
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().code, ErrorCode::kNotFound);
    EXPECT_THAT(file.error().message, testing::HasSubstr("/no/such/folder/out"));
}

}  // namespace
}  // namespace hypura
