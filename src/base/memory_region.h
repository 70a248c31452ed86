// Anonymous memory that we place weights in: reserved at once, committed on first touch, asked for in huge pages.
#pragma once

#include "base/status.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace hypura {

// Owns one mapping; move-only; unmapped on destruction.
class MemoryRegion {
public:
    MemoryRegion() = default;
    MemoryRegion(MemoryRegion&& other) noexcept;
    MemoryRegion& operator=(MemoryRegion&& other) noexcept;
    ~MemoryRegion();

    // Reserves `bytes` of zero-filled address space whose start is congruent to 0 modulo 2 MiB. Nothing is committed:
    // untouched pages cost no memory, and reading them costs none either (the kernel's zero page).
    static Result<MemoryRegion> reserve(uint64_t bytes);

    // Takes memory that somebody else mapped, a driver's pinned memory for instance; `give_back` ends it.
    static MemoryRegion adopt(std::byte* data, uint64_t bytes, std::function<void()> give_back);

    // Asks for huge pages in [offset, offset + bytes). Advice only: a kernel without them ignores it.
    // Measured in feasibility experiments: direct reads into resident huge pages cost 0.035 CPU seconds a GiB, into
    // resident 4 KiB pages 0.082.
    void advise_huge_pages(uint64_t offset, uint64_t bytes);

    // Touches every page of [offset, offset + bytes), so that later use cannot fault.
    void commit(uint64_t offset, uint64_t bytes);

    std::byte* data() const { return data_; }
    uint64_t size_bytes() const { return size_bytes_; }

    // Gives up ownership: somebody else unmaps it. Not for adopted memory.
    std::byte* release();

private:
    std::byte* data_ = nullptr;
    uint64_t size_bytes_ = 0;
    std::function<void()> give_back_;  // empty: unmapped
};

}  // namespace hypura
