// Sizes in bytes: constants, alignment, checked arithmetic, and the SIZE syntax of the command line.
#pragma once

#include "base/status.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hypura {

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;

// `alignment` must be a power of two.
constexpr uint64_t align_down(uint64_t value, uint64_t alignment) { return value & ~(alignment - 1); }
constexpr uint64_t align_up(uint64_t value, uint64_t alignment) { return align_down(value + alignment - 1, alignment); }
constexpr bool is_aligned(uint64_t value, uint64_t alignment) { return (value & (alignment - 1)) == 0; }

// Empty when the result does not fit: file contents must never wrap our arithmetic.
constexpr std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
    uint64_t sum = 0;
    if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
    return sum;
}
constexpr std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
    uint64_t product = 0;
    if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
    return product;
}

// Parses "3GiB", "512MiB", "1.5G", "40%", "123456" (bytes). K, M, G, T and KiB… are powers of 1024, KB, MB, GB, TB of
// 1000; letter case does not matter. A percentage is taken of `whole_bytes`. `option` is named in the error.
Result<uint64_t> parse_size(std::string_view text, uint64_t whole_bytes, std::string_view option);

// "1.50 GiB", "38.4 MiB", "812 B": three significant digits.
std::string format_bytes(uint64_t bytes);

// "4421KiB", "147MiB": at least `bytes`, and parse_size reads it back. For the smallest budget that works, which a
// rounded-down number would not name.
std::string format_bytes_up(uint64_t bytes);

}  // namespace hypura
