#include "base/memory_region.h"

#include "base/bytes.h"

#include <gtest/gtest.h>

#include <utility>

namespace hypura {
namespace {

TEST(MemoryRegion, IsZeroFilledAndHugePageAligned) {
    auto region = MemoryRegion::reserve(5 * kMiB);
    ASSERT_TRUE(region);
    EXPECT_EQ(reinterpret_cast<uint64_t>(region->data()) % (2 * kMiB), 0u);
    EXPECT_EQ(region->data()[5 * kMiB - 1], std::byte{0});
}

TEST(MemoryRegion, ReservesFarMoreThanTheMachineHas) { EXPECT_TRUE(MemoryRegion::reserve(4096 * kGiB)); }

TEST(MemoryRegion, MovesOwnership) {
    auto region = MemoryRegion::reserve(4096);
    ASSERT_TRUE(region);
    std::byte* data = region->data();
    MemoryRegion moved = std::move(*region);
    EXPECT_EQ(moved.data(), data);
    EXPECT_EQ(region->data(), nullptr);
}

}  // namespace
}  // namespace hypura
