// How a pass is divided among sequences that still have tokens to read. Pure arithmetic. Internal to this folder.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace hypura::engine {

// At most `limit` tokens among sequences with `remaining` tokens each: everybody gets the same, whoever needs less
// leaves the rest to the others, and the odd tokens go to those that need least.
std::vector<uint32_t> share_out(std::span<const uint32_t> remaining, uint32_t limit);

}  // namespace hypura::engine
