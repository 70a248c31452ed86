// The most that we accept from a header, each far above what any published model needs. They bound the memory and time
// that a hostile or damaged file can cost, whatever size that file claims to have.
#pragma once

#include "base/bytes.h"

#include <cstdint>

namespace hypura::gguf {

inline constexpr uint64_t kMaxHeaderBytes = 256 * kMiB;  // the largest tokenizers take some 20 MiB
inline constexpr uint64_t kMaxMetadataKeys = 1 << 16;
inline constexpr uint64_t kMaxKeyBytes = (1 << 16) - 1;  // the format's own limit
inline constexpr uint64_t kMaxStringBytes = 64 * kMiB;
inline constexpr uint64_t kMaxArrayElements = 1 << 24;  // all arrays of a file together, since widening costs memory
inline constexpr uint64_t kMaxTensors = 1 << 20;
inline constexpr uint64_t kMaxTensorNameBytes = 63;  // GGML_MAX_NAME without its NUL: libllama refuses longer ones
inline constexpr uint32_t kMaxDimensions = 4;
inline constexpr uint64_t kMaxAlignment = kGiB;
inline constexpr uint64_t kMaxParts = 4096;

// The fewest header bytes that one entry takes: a count that cannot fit the file is refused before anything is read.
inline constexpr uint64_t kMinKeyValueBytes = 8 + 4 + 1;
inline constexpr uint64_t kMinTensorEntryBytes = 8 + 4 + 4 + 8;

inline constexpr uint64_t kDefaultAlignment = 32;

}  // namespace hypura::gguf
