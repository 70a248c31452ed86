// Reads the weights that stay in memory straight into the view, at disk speed and into huge pages.
#pragma once

#include "engine/model_view.h"
#include "gguf/model_file.h"
#include "storage/reader.h"

#include <functional>
#include <span>

namespace hypura::engine {

// Loads `tensors` (any order). `progress` (may be empty) gets bytes done and bytes in all.
Status load_resident(const ModelView& view, std::span<const gguf::TensorInfo* const> tensors,
                     storage::BlockReader& reader, const std::function<void(uint64_t, uint64_t)>& progress);

}  // namespace hypura::engine
