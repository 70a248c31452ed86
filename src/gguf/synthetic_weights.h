// Random tensor contents, written straight as quantized blocks.
#pragma once

#include "gguf/writer.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hypura::gguf {

inline constexpr uint64_t kTopics = 64;

// What a tensor's elements are drawn from: mean + deviation * noise + shared part + topic part. The last two go along
// fixed random directions of the model's width and need a type that has_structure() accepts.
struct WeightRecipe {
    double mean = 0;
    double deviation = 0;
    std::vector<float> shared_by_row;  // part of the shared direction: none, one for all rows, or one a row
    float topic = 0;                   // part of the direction of topic (row modulo kTopics)

    bool structured() const { return !shared_by_row.empty() || topic != 0; }
};

// Whether random blocks of this type can be written at all, and with a structure.
bool can_randomize(const ElementType& type);
bool can_structure(const ElementType& type);

// Fills tensors in cells of fixed size, each from a generator of its own: any cell can be made alone, in any order.
class WeightSource {
public:
    WeightSource(uint64_t seed, uint64_t width, uint32_t threads);

    void fill(uint64_t tensor_index, const TensorSpec& tensor, const WeightRecipe& recipe, uint64_t offset_bytes,
              std::span<std::byte> chunk) const;

private:
    struct Cell;
    void fill_cells(const Cell& first, uint64_t offset_bytes, std::span<std::byte> chunk, uint64_t stride) const;
    void fill_cell(const Cell& cell, std::span<std::byte> bytes) const;
    void draw_elements(const Cell& cell, std::span<float> elements) const;
    void add_structure(const WeightRecipe& recipe, uint64_t row, uint64_t column, std::span<float> elements) const;

    uint64_t seed_;
    uint64_t width_;
    uint32_t threads_;
    std::vector<float> shared_direction_;  // +1 and -1
    std::vector<float> topic_directions_;  // kTopics rows of the same
};

}  // namespace hypura::gguf
