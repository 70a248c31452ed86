// Where tensors lie and how many bytes they take: arithmetic that cannot wrap, and the checks of a tensor directory.
#pragma once

#include "base/status.h"
#include "gguf/model_file.h"
#include "gguf/types.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace hypura::gguf {

// Text from a file made safe for a terminal: control characters replaced, overlong text cut.
std::string printable(std::string_view text);

// Bytes of a tensor. Empty when a dimension is 0, the row is no multiple of the block, or the product does not fit.
std::optional<uint64_t> tensor_bytes(const ElementType& type, std::span<const uint64_t> shape);

// As above for a tensor of file `file`, with an error that says which of the three it is.
Result<uint64_t> checked_tensor_bytes(std::string_view file, const TensorInfo& tensor);

// Fails when two tensors have one name.
Status check_unique_names(std::string_view file, std::span<const TensorInfo> tensors);

// Brings the tensors of one file into file order; fails when two of them share bytes.
Status sort_without_overlap(std::string_view file, std::span<TensorInfo> tensors);

}  // namespace hypura::gguf
