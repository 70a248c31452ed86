#include "gguf/tensor_layout.h"

#include "base/bytes.h"

#include <algorithm>
#include <limits>
#include <unordered_set>

namespace hypura::gguf {
namespace {

constexpr size_t kPrintableBytes = 96;
// ggml counts elements and bytes in signed 64-bit integers.
constexpr uint64_t kMaxGgmlCount = std::numeric_limits<int64_t>::max();

std::optional<uint64_t> count_elements(std::span<const uint64_t> shape) {
    uint64_t elements = 1;
    for (const uint64_t extent : shape) {
        const auto product = checked_mul(elements, extent);
        if (!product || *product > kMaxGgmlCount) return std::nullopt;
        elements = *product;
    }
    return elements;
}

bool has_zero(std::span<const uint64_t> shape) { return std::ranges::find(shape, 0u) != shape.end(); }

bool splits_a_block(const ElementType& type, std::span<const uint64_t> shape) {
    const uint64_t row = shape.empty() ? 1 : shape[0];
    return row % type.block_elements != 0;
}

}  // namespace

std::string printable(std::string_view text) {
    std::string safe(text.substr(0, kPrintableBytes));
    for (char& c : safe)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    if (text.size() > kPrintableBytes) safe += "...";
    return safe;
}

std::optional<uint64_t> tensor_bytes(const ElementType& type, std::span<const uint64_t> shape) {
    if (has_zero(shape) || splits_a_block(type, shape)) return std::nullopt;
    const auto elements = count_elements(shape);
    if (!elements) return std::nullopt;
    const auto bytes = checked_mul(*elements / type.block_elements, type.block_bytes);
    if (!bytes || *bytes > kMaxGgmlCount) return std::nullopt;
    return bytes;
}

Result<uint64_t> checked_tensor_bytes(std::string_view file, const TensorInfo& tensor) {
    if (const auto bytes = tensor_bytes(tensor.type, tensor.shape)) return *bytes;
    const std::string name = printable(tensor.name);
    if (has_zero(tensor.shape))
        return fail(ErrorCode::kCorruptModel,
                    "{}: tensor {} has a dimension of 0; the file is damaged, download it "
                    "again",
                    file, name);
    if (splits_a_block(tensor.type, tensor.shape))
        return fail(ErrorCode::kCorruptModel,
                    "{}: tensor {} has rows of {} elements, which is no multiple of the {} that a block of {} holds; "
                    "the file is damaged, download it again",
                    file, name, tensor.shape[0], tensor.type.block_elements, tensor.type.name);
    return flawed(ModelFlaw::kAbsurdCount,
                  "{}: the dimensions of tensor {} are impossibly large; the file is damaged, download it again", file,
                  name);
}

Status check_unique_names(std::string_view file, std::span<const TensorInfo> tensors) {
    std::unordered_set<std::string_view> seen;
    seen.reserve(tensors.size());
    for (const TensorInfo& tensor : tensors)
        if (!seen.insert(tensor.name).second)
            return fail(ErrorCode::kCorruptModel,
                        "{}: two tensors are named {}; the file is damaged, download or convert it again", file,
                        printable(tensor.name));
    return {};
}

Status sort_without_overlap(std::string_view file, std::span<TensorInfo> tensors) {
    std::ranges::stable_sort(tensors, {}, &TensorInfo::file_offset);
    const auto overlap = [](const TensorInfo& a, const TensorInfo& b) {
        return a.size_bytes > b.file_offset - a.file_offset;
    };
    const auto found = std::ranges::adjacent_find(tensors, overlap);
    if (found == tensors.end()) return {};
    return flawed(ModelFlaw::kOverlap,
                  "{}: tensors {} and {} overlap; the file is damaged, download or convert it again", file,
                  printable(found->name), printable((found + 1)->name));
}

}  // namespace hypura::gguf
