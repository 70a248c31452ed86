#include "base/status.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace hypura {
namespace {

Result<int> twice(Result<int> input) {
    HYPURA_ASSIGN(int value, std::move(input));
    return 2 * value;
}

TEST(Status, AssignPassesValuesAndErrorsOn) {
    EXPECT_EQ(twice(21), 42);
    const auto failed = twice(fail(ErrorCode::kNotFound, "{}: gone", "x.gguf"));
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().message, "x.gguf: gone");
}

TEST(Status, ErrnoKeepsThePathAndTheReason) {
    const Error error = error_from_errno(ENOENT, "open", "x.gguf");
    EXPECT_EQ(error.code, ErrorCode::kNotFound);
    EXPECT_EQ(error.message, "x.gguf: cannot open: No such file or directory");
}

TEST(Status, FilesThatMayNotGrowAreToldFromFullDisks) {
    EXPECT_EQ(error_from_errno(EFBIG, "write", "x").code, ErrorCode::kDiskFull);
    EXPECT_NE(error_from_errno(EFBIG, "write", "x").message, error_from_errno(ENOSPC, "write", "x").message);
}

}  // namespace
}  // namespace hypura
