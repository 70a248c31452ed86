// Writes GGUF version 3 files: for `make-model` and for tests. The directory comes first, tensor bytes are then
// streamed in order, so that a file larger than memory can be written.
#pragma once

#include "base/status.h"
#include "gguf/model_file.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace hypura::gguf {

struct TensorSpec {
    std::string name;
    ElementType type{};
    std::vector<uint64_t> shape;  // 1 to 4 dimensions, ggml order
    uint64_t size_bytes() const;  // 0 when no file can hold such a tensor; write_model refuses it
};

// Fills `chunk`, which begins `offset_bytes` into tensor `index`; called in order, with chunks of at most 16 MiB that
// are a multiple of the element type's block wherever the tensor does not end.
using FillTensor = std::function<void(size_t index, uint64_t offset_bytes, std::span<std::byte> chunk)>;

// Writes the whole file, replacing what was there; until it is complete it is called PATH.partial. Data sections are
// aligned to 32 bytes (general.alignment default). Metadata gets the widths that libllama asks for: 32 bits for numbers
// that fit (16 for split.no and split.count), and float for every double.
// `progress` may be empty; it gets bytes written and bytes in all.
Status write_model(const std::string& path, const Metadata& metadata, std::span<const TensorSpec> tensors,
                   const FillTensor& fill, const std::function<void(uint64_t, uint64_t)>& progress = {});

}  // namespace hypura::gguf
