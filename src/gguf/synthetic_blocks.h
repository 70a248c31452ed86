// Quantized blocks: random ones of a wanted deviation, and given numbers encoded. Layouts: ggml's public block formats.
#pragma once

#include "gguf/random.h"
#include "gguf/types.h"

#include <cstddef>
#include <span>

namespace hypura::gguf {

// Fills whole blocks with random quants and scales whose values have mean 0 and the given deviation. Null for types
// that cannot.
using RandomizeBlocks = void (*)(std::span<std::byte> blocks, double deviation, Random& random);
RandomizeBlocks randomizer_for(const ElementType& type);

// Rounds `elements` into the blocks that they fill. Null for types that cannot.
using EncodeBlocks = void (*)(std::span<const float> elements, std::span<std::byte> blocks);
EncodeBlocks encoder_for(const ElementType& type);

}  // namespace hypura::gguf
