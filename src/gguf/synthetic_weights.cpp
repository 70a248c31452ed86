#include "gguf/synthetic_weights.h"

#include "base/check.h"
#include "gguf/synthetic_blocks.h"

#include <algorithm>
#include <cstring>
#include <thread>

namespace hypura::gguf {
namespace {

constexpr uint64_t kCellBytes = uint64_t{128} * 1024;  // about; a cell holds whole blocks
constexpr uint64_t kDirectionStream = ~uint64_t{0};

uint64_t cell_bytes(const ElementType& type) { return kCellBytes / type.block_bytes * type.block_bytes; }

std::vector<float> random_signs(uint64_t seed, uint64_t substream, uint64_t count) {
    Random random(seed, kDirectionStream, substream);
    std::vector<float> signs(count);
    for (float& sign : signs) sign = (random.next() >> 63) != 0 ? 1.0F : -1.0F;
    return signs;
}

}  // namespace

struct WeightSource::Cell {
    uint64_t tensor_index;
    const TensorSpec& tensor;
    const WeightRecipe& recipe;
    uint64_t index;
};

bool can_randomize(const ElementType& type) { return randomizer_for(type) != nullptr || encoder_for(type) != nullptr; }
bool can_structure(const ElementType& type) { return encoder_for(type) != nullptr; }

WeightSource::WeightSource(uint64_t seed, uint64_t width, uint32_t threads)
    : seed_(seed),
      width_(width),
      threads_(std::max(threads, 1U)),
      shared_direction_(random_signs(seed, 0, width)),
      topic_directions_(random_signs(seed, 1, width * kTopics)) {}

void WeightSource::fill(uint64_t tensor_index, const TensorSpec& tensor, const WeightRecipe& recipe,
                        uint64_t offset_bytes, std::span<std::byte> chunk) const {
    const uint64_t first = offset_bytes / cell_bytes(tensor.type);
    std::vector<std::jthread> helpers;  // joined at the end of the scope
    for (uint32_t thread = 1; thread < threads_; ++thread)
        helpers.emplace_back(
            [&, thread] { fill_cells({tensor_index, tensor, recipe, first + thread}, offset_bytes, chunk, threads_); });
    fill_cells({tensor_index, tensor, recipe, first}, offset_bytes, chunk, threads_);
}

// Every `stride`-th cell that overlaps the chunk. Cells that stick out are made whole and copied in part.
void WeightSource::fill_cells(const Cell& first, uint64_t offset_bytes, std::span<std::byte> chunk,
                              uint64_t stride) const {
    const uint64_t whole_bytes = cell_bytes(first.tensor.type);
    const uint64_t tensor_end = first.tensor.size_bytes();
    const uint64_t chunk_end = offset_bytes + chunk.size();
    std::vector<std::byte> scratch;
    for (uint64_t index = first.index; index * whole_bytes < chunk_end; index += stride) {
        const uint64_t begin = index * whole_bytes;
        const uint64_t end = std::min(begin + whole_bytes, tensor_end);
        const Cell cell{first.tensor_index, first.tensor, first.recipe, index};
        if (begin >= offset_bytes && end <= chunk_end) {
            fill_cell(cell, chunk.subspan(begin - offset_bytes, end - begin));
            continue;
        }
        scratch.resize(end - begin);
        fill_cell(cell, scratch);
        const uint64_t from = std::max(begin, offset_bytes);
        const uint64_t to = std::min(end, chunk_end);
        std::memcpy(&chunk[from - offset_bytes], &scratch[from - begin], to - from);
    }
}

void WeightSource::fill_cell(const Cell& cell, std::span<std::byte> bytes) const {
    const ElementType& type = cell.tensor.type;
    const RandomizeBlocks randomize = randomizer_for(type);
    if (randomize != nullptr && !cell.recipe.structured()) {
        Random random(seed_, cell.tensor_index, cell.index);
        return randomize(bytes, cell.recipe.deviation, random);
    }
    const EncodeBlocks encode = encoder_for(type);
    HYPURA_CHECK(encode != nullptr);
    std::vector<float> elements(bytes.size() / type.block_bytes * type.block_elements);
    draw_elements(cell, elements);
    encode(elements, bytes);
}

void WeightSource::draw_elements(const Cell& cell, std::span<float> elements) const {
    Random random(seed_, cell.tensor_index, cell.index);
    const auto mean = static_cast<float>(cell.recipe.mean);
    const auto deviation = static_cast<float>(cell.recipe.deviation);
    for (float& element : elements) element = mean + deviation * random.next_noise();
    if (!cell.recipe.structured()) return;
    const uint64_t first =
        cell.index * (cell_bytes(cell.tensor.type) / cell.tensor.type.block_bytes) * cell.tensor.type.block_elements;
    for (uint64_t done = 0; done < elements.size();) {
        const uint64_t row = (first + done) / width_;
        const uint64_t column = (first + done) % width_;
        const uint64_t count = std::min(width_ - column, elements.size() - done);
        add_structure(cell.recipe, row, column, elements.subspan(done, count));
        done += count;
    }
}

// `elements` are part of one row.
void WeightSource::add_structure(const WeightRecipe& recipe, uint64_t row, uint64_t column,
                                 std::span<float> elements) const {
    const std::vector<float>& by_row = recipe.shared_by_row;
    const float shared = by_row.empty() ? 0 : by_row.size() == 1 ? by_row[0] : by_row[row];
    const float* shared_direction = &shared_direction_[column];
    const float* topic_direction = &topic_directions_[row % kTopics * width_ + column];
    for (size_t i = 0; i < elements.size(); ++i)
        elements[i] += shared * shared_direction[i] + recipe.topic * topic_direction[i];
}

}  // namespace hypura::gguf
