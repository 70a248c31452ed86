#include "base/memory_region.h"

#include "base/bytes.h"
#include "base/check.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace hypura {
namespace {

constexpr uint64_t kHugePageBytes = 2 * kMiB;

// Trims an over-long mapping so that what remains begins at a huge-page boundary.
std::byte* trim_to_alignment(std::byte* mapping, uint64_t mapped_bytes, uint64_t wanted_bytes) {
    const auto address = reinterpret_cast<uint64_t>(mapping);
    const uint64_t head_bytes = align_up(address, kHugePageBytes) - address;
    const uint64_t tail_bytes = mapped_bytes - head_bytes - wanted_bytes;
    if (head_bytes > 0) ::munmap(mapping, head_bytes);
    if (tail_bytes > 0) ::munmap(mapping + head_bytes + wanted_bytes, tail_bytes);
    return mapping + head_bytes;
}

}  // namespace

MemoryRegion::MemoryRegion(MemoryRegion&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)),
      give_back_(std::exchange(other.give_back_, nullptr)) {}

MemoryRegion& MemoryRegion::operator=(MemoryRegion&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    std::swap(give_back_, other.give_back_);
    return *this;
}

MemoryRegion::~MemoryRegion() {
    if (give_back_)
        give_back_();
    else if (data_ != nullptr)
        ::munmap(data_, size_bytes_);
}

MemoryRegion MemoryRegion::adopt(std::byte* data, uint64_t bytes, std::function<void()> give_back) {
    MemoryRegion region;
    region.data_ = data;
    region.size_bytes_ = bytes;
    region.give_back_ = std::move(give_back);
    return region;
}

Result<MemoryRegion> MemoryRegion::reserve(uint64_t bytes) {
    const auto page_bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    const uint64_t wanted_bytes = align_up(bytes == 0 ? 1 : bytes, page_bytes);
    const uint64_t mapped_bytes = wanted_bytes + kHugePageBytes;
    void* mapping =
        ::mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED)
        return fail(ErrorCode::kOutOfMemory, "cannot reserve {} of address space", format_bytes(bytes));
    MemoryRegion region;
    region.data_ = trim_to_alignment(static_cast<std::byte*>(mapping), mapped_bytes, wanted_bytes);
    region.size_bytes_ = wanted_bytes;
    return region;
}

void MemoryRegion::advise_huge_pages(uint64_t offset, uint64_t bytes) {
#ifdef MADV_HUGEPAGE
    const uint64_t begin = align_up(offset, kHugePageBytes);
    const uint64_t end = align_down(offset + bytes, kHugePageBytes);
    if (begin < end) ::madvise(data_ + begin, end - begin, MADV_HUGEPAGE);
#else
    (void)offset;
    (void)bytes;
#endif
}

void MemoryRegion::commit(uint64_t offset, uint64_t bytes) {
    const auto page_bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    for (uint64_t at = align_down(offset, page_bytes); at < offset + bytes; at += page_bytes) {
        auto* page = reinterpret_cast<volatile char*>(data_ + at);
        *page = *page;
    }
}

std::byte* MemoryRegion::release() {
    HYPURA_CHECK(!give_back_);
    size_bytes_ = 0;
    return std::exchange(data_, nullptr);
}

}  // namespace hypura
