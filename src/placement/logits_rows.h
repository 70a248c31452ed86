// How many tokens of a pass may ask for their logits.
#pragma once

#include <algorithm>
#include <cstdint>

namespace hypura::placement {

// As many as 32 MiB hold, at most all of the pass, at least one. libllama reserves memory for this many; all 512 of a
// prompt would be 300 MB with a vocabulary of 150,000.
inline uint32_t logits_rows(uint64_t vocabulary, uint32_t batch_tokens) {
    constexpr uint64_t kMostBytes = uint64_t{32} << 20;
    const uint64_t rows = kMostBytes / (std::max<uint64_t>(vocabulary, 1) * sizeof(float));
    return static_cast<uint32_t>(std::clamp<uint64_t>(rows, 1, std::max(batch_tokens, 1U)));
}

}  // namespace hypura::placement
