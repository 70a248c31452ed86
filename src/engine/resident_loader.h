// Reads the weights that stay in memory straight into the view, at disk speed and into huge pages, and those of devices
// through a small buffer.
#pragma once

#include "engine/model_view.h"
#include "engine/stream_layout.h"
#include "gguf/model_file.h"
#include "storage/reader.h"

#include <functional>
#include <span>

namespace hypura::engine {

// Loads `tensors` (any order). `progress` (may be empty) gets bytes done and bytes in all.
Status load_resident(const ModelView& view, std::span<const gguf::TensorInfo* const> tensors,
                     storage::BlockReader& reader, const std::function<void(uint64_t, uint64_t)>& progress);

// The same for weights in devices' memory: the host holds kBounceBytes of them at a time.
inline constexpr uint64_t kBounceBytes = uint64_t{8} * (4 << 20);
Status load_on_devices(std::span<const DeviceWeight> weights, storage::BlockReader& reader,
                       const std::function<void(uint64_t, uint64_t)>& progress);

}  // namespace hypura::engine
