// What the storage tests share: files of known bytes, memory with guards around it, and both kinds of readers.
#pragma once

#include "base/bytes.h"
#include "base/memory_region.h"
#include "storage/fault_reader.h"
#include "storage/reader.h"
#include "support/temp_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

namespace hypura::storage {

inline std::string random_content(uint64_t bytes, uint32_t seed = 1) {
    std::mt19937 random(seed);
    std::string content(bytes, '\0');
    for (char& c : content) c = static_cast<char>(random());
    return content;
}

inline bool have_uring() { return make_raw_reader({.kind = ReaderKind::kUring}).has_value(); }

inline std::unique_ptr<RawReader> make_reader(ReaderKind kind, uint32_t queue_depth = 8) {
    return make_raw_reader({.kind = kind, .queue_depth = queue_depth, .threads = 3}).value();
}

// A block reader over one file.
inline std::unique_ptr<BlockReader> make_block_reader(std::unique_ptr<RawReader> raw, const std::string& path,
                                                      uint32_t piece_bytes) {
    std::vector<DirectFile> files;
    files.push_back(DirectFile::open(path).value());
    return std::make_unique<BlockReader>(std::move(raw), std::move(files), piece_bytes);
}

// Memory for one block at any misalignment, with the slack that the reader may use and guards that it may not touch.
class GuardedBuffer {
public:
    GuardedBuffer(uint64_t bytes, uint64_t misalignment)
        : bytes_(bytes), begin_(kGuardBytes + kSlack + misalignment), memory_(allocate()) {
        std::fill_n(memory_.data(), memory_.size_bytes(), kGuard);
    }

    std::byte* destination() const { return memory_.data() + begin_; }
    std::string content() const { return {reinterpret_cast<const char*>(destination()), bytes_}; }

    bool guards_intact() const {
        const auto is_guard = [](std::byte b) { return b == kGuard; };
        const std::byte* end = memory_.data() + memory_.size_bytes();
        return std::all_of(memory_.data(), destination() - kSlack, is_guard) &&
               std::all_of(static_cast<const std::byte*>(destination()) + bytes_ + kSlack, end, is_guard);
    }

private:
    static constexpr std::byte kGuard{0x5C};
    static constexpr uint64_t kGuardBytes = 16 * kKiB;
    static constexpr uint64_t kSlack = BlockReader::kSlackBytes;

    MemoryRegion allocate() const { return MemoryRegion::reserve(begin_ + bytes_ + kSlack + kGuardBytes).value(); }

    uint64_t bytes_;
    uint64_t begin_;
    MemoryRegion memory_;
};

// Runs every TEST_P with both readers; io_uring is skipped where the host forbids it.
class BothReaders : public testing::TestWithParam<ReaderKind> {
protected:
    void SetUp() override {
        if (GetParam() == ReaderKind::kUring && !have_uring()) GTEST_SKIP() << "io_uring is not available here";
    }
    test::TempDir dir_;
};

inline std::string reader_name(const testing::TestParamInfo<ReaderKind>& info) {
    return info.param == ReaderKind::kUring ? "Uring" : "Pread";
}

}  // namespace hypura::storage
