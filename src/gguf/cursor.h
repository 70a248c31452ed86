// Bounded sequential reading of a header: every read is checked against the end of the file first, and every length
// against a limit before memory is asked for.
#pragma once

#include "base/status.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hypura::gguf {

// The format is little-endian and we copy its numbers as they are.
static_assert(std::endian::native == std::endian::little);

// Something with bytes at offsets: a file, or memory in tests and in the fuzzer.
struct ByteSource {
    std::string name;  // for errors
    uint64_t size_bytes = 0;
    // Reads up to the span's size; fewer bytes, or none, where the source ends.
    std::function<Result<size_t>(uint64_t offset, std::span<std::byte> out)> read_at;
};

// `fd` must outlive the source.
ByteSource file_source(std::string path, int fd, uint64_t size_bytes);
// `bytes` must outlive the source.
ByteSource memory_source(std::string name, std::span<const std::byte> bytes);

class Cursor {
public:
    explicit Cursor(const ByteSource& source);

    const std::string& name() const { return source_.name; }
    uint64_t position() const { return position_; }
    uint64_t remaining_bytes() const { return end_ - position_; }

    template <class T>
    Result<T> read() {
        T value{};
        HYPURA_TRY(read_into(std::as_writable_bytes(std::span(&value, 1))));
        return value;
    }

    // A 64-bit length, then that many bytes. `what` is named in errors: "a metadata key".
    Result<std::string> read_string(uint64_t max_bytes, std::string_view what);

    // Fails unless `count` entries of at least `min_bytes` each are within `max_count` and within the file.
    Status check_count(uint64_t count, uint64_t max_count, uint64_t min_bytes, std::string_view what) const;

private:
    Status read_into(std::span<std::byte> out);
    Status check_available(uint64_t bytes) const;
    Status refill();

    const ByteSource& source_;
    uint64_t end_;           // nothing is read beyond: end of file, or the largest header that we accept
    uint64_t position_ = 0;  // of the next byte, in the file
    std::vector<std::byte> window_;
    uint64_t window_begin_ = 0;  // file offset of window_[0]
    uint64_t window_bytes_ = 0;  // valid bytes in window_
};

}  // namespace hypura::gguf
