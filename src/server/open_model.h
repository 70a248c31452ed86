// Opens a model for serving: an engine and a batch under the share of the memory budget that is its own.
#pragma once

#include "engine/engine.h"
#include "server/model_manager.h"

namespace hypura::server {

struct OpenOptions {
    engine::EngineOptions engine;    // for every model; path, context and sequences are filled in
    uint32_t context_tokens = 8192;  // at most; a model trained for less gets less
    uint32_t sequences = 8;
    uint32_t max_loaded = 1;
};

// The `nth` model at once may take the process up to (nth + 1) shares of the budget: engine.ram_bytes counts everything
// that the process holds, so shares that other models do not use are not lost.
Result<OpenedModel> open_for_serving(const OpenOptions& options, const ModelEntry& model, uint32_t nth);

}  // namespace hypura::server
