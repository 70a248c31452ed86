#include "base/bytes.h"

#include <gtest/gtest.h>

namespace hypura {
namespace {

TEST(Bytes, AlignsUpAndDown) {
    EXPECT_EQ(align_down(4097, 4096), 4096u);
    EXPECT_EQ(align_up(4097, 4096), 8192u);
    EXPECT_EQ(align_up(4096, 4096), 4096u);
}

TEST(Bytes, CheckedArithmeticRefusesToWrap) {
    EXPECT_FALSE(checked_add(UINT64_MAX, 1));
    EXPECT_FALSE(checked_mul(UINT64_MAX / 2, 3));
    EXPECT_EQ(checked_mul(3, 4), 12u);
}

TEST(Bytes, ParsesTheSizesOfTheCommandLine) {
    EXPECT_EQ(parse_size("3GiB", 0, "--ram"), 3 * kGiB);
    EXPECT_EQ(parse_size("512mib", 0, "--ram"), 512 * kMiB);
    EXPECT_EQ(parse_size("1.5G", 0, "--ram"), kGiB + kGiB / 2);
    EXPECT_EQ(parse_size("2 GB", 0, "--ram"), 2'000'000'000u);
    EXPECT_EQ(parse_size("40%", 1000, "--ram"), 400u);
    EXPECT_EQ(parse_size(" 40 % ", 1000, "--ram"), 400u);
    EXPECT_EQ(parse_size("4096", 0, "--ram"), 4096u);
}

TEST(Bytes, RefusesWhatIsNoSizeAndNamesTheOption) {
    for (const char* text :
         {"", "GiB", "-1G", "140%", "140 %", "3 apples", "1 5G", "nan", "inf", "1e400", "99999999999T"}) {
        const auto parsed = parse_size(text, 0, "--ram");
        ASSERT_FALSE(parsed) << text;
        EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidArgument);
        EXPECT_NE(parsed.error().message.find("--ram"), std::string::npos);
    }
}

TEST(Bytes, FormatsThreeDigits) {
    EXPECT_EQ(format_bytes(812), "812 B");
    EXPECT_EQ(format_bytes(1536), "1.50 KiB");
    EXPECT_EQ(format_bytes(10 * kGiB), "10.0 GiB");
    EXPECT_EQ(format_bytes(1023 * kMiB), "1.00 GiB");
}

TEST(Bytes, RoundsUpToWhatCanBeTypedBack) {
    EXPECT_EQ(format_bytes_up(1), "1KiB");
    EXPECT_EQ(format_bytes_up(100 * kKiB), "100KiB");
    EXPECT_EQ(format_bytes_up(16 * kMiB + 1), "17MiB");
    EXPECT_EQ(format_bytes_up(3 * kGiB), "3072MiB");
    for (const uint64_t bytes : {uint64_t{1}, 5 * kMiB - 1, 17 * kMiB + 1, 7 * kGiB + 12345}) {
        const uint64_t read_back = parse_size(format_bytes_up(bytes), 0, "--ram").value();
        EXPECT_GE(read_back, bytes);
        EXPECT_LT(read_back, bytes + kMiB);
    }
}

}  // namespace
}  // namespace hypura
