// Tells models apart where a saved KV cache must meet the weights that it was computed with. Internal to this folder.
#pragma once

#include "base/status.h"
#include "gguf/model_file.h"

#include <cstdint>

namespace hypura::engine {

// Of the directory of tensors and samples of the bytes of each part: other weights of the same shape are another model.
// Not a proof against intent. Errors: kReadFailed.
Result<uint64_t> fingerprint(const gguf::ModelFile& model);

}  // namespace hypura::engine
