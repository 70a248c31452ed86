#include "base/background_commit.h"

#include "base/memory_region.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <span>
#include <thread>
#include <vector>

namespace hypura {
namespace {

constexpr uint64_t kPieceBytes = uint64_t{6} << 20;

bool kernel_can_commit() {
#ifdef MADV_POPULATE_WRITE
    auto region = MemoryRegion::reserve(kPieceBytes).value();
    return ::madvise(region.data(), kPieceBytes, MADV_POPULATE_WRITE) == 0;
#else
    return false;
#endif
}

size_t committed_pages(const MemoryRegion& region) {
    const auto page_bytes = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    std::vector<unsigned char> present(region.size_bytes() / page_bytes);
    EXPECT_EQ(::mincore(region.data(), region.size_bytes(), present.data()), 0);
    return static_cast<size_t>(std::ranges::count_if(present, [](unsigned char page) { return (page & 1) != 0; }));
}

size_t pages_of(const MemoryRegion& region) {
    return region.size_bytes() / static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

std::span<std::byte> all_of(const MemoryRegion& region) { return {region.data(), region.size_bytes()}; }

TEST(BackgroundCommit, CommitsEveryPieceAndChangesNothing) {
    if (!kernel_can_commit()) GTEST_SKIP() << "the kernel has no MADV_POPULATE_WRITE";
    const auto first = MemoryRegion::reserve(kPieceBytes).value();
    const auto second = MemoryRegion::reserve(kPieceBytes).value();
    first.data()[100] = second.data()[kPieceBytes - 1] = std::byte{7};
    const BackgroundCommit commit({all_of(first), all_of(second)});
    for (int i = 0; i < 3000 && committed_pages(second) < pages_of(second); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_EQ(committed_pages(first), pages_of(first));
    EXPECT_EQ(committed_pages(second), pages_of(second));
    EXPECT_EQ(first.data()[100], std::byte{7});
    EXPECT_EQ(second.data()[kPieceBytes - 1], std::byte{7});
}

TEST(BackgroundCommit, StopsWhenItsOwnerDoes) {
    const auto region = MemoryRegion::reserve(uint64_t{8} << 30).value();
    {
        const BackgroundCommit commit({all_of(region)});
    }
    EXPECT_LT(committed_pages(region), pages_of(region));
}

}  // namespace
}  // namespace hypura
