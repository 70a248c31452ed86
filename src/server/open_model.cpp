#include "server/open_model.h"

#include "hardware/memory.h"

#include <algorithm>

namespace hypura::server {
namespace {

// Left to the rest of the machine where the budget was not named: as for one model (engine.cpp).
constexpr uint64_t kMarginShare = 10;

// 0 stays 0, "what is there", for a single model.
Result<uint64_t> shared_budget(const OpenOptions& options, uint32_t nth) {
    if (options.max_loaded <= 1) return options.engine.ram_bytes;
    uint64_t whole_bytes = options.engine.ram_bytes;
    if (whole_bytes == 0) {
        HYPURA_ASSIGN(const hardware::MemoryLimits limits, hardware::memory_limits());
        HYPURA_ASSIGN(const hardware::ProcessMemory process, hardware::process_memory());
        const uint64_t reachable = limits.usable_bytes() + process.anonymous_bytes;
        whole_bytes = reachable - reachable / kMarginShare;
    }
    return whole_bytes / options.max_loaded * (nth + 1);
}

// A model for drafts serves those of its vocabulary; others do without.
Result<std::unique_ptr<engine::Engine>> open_with_drafts(engine::EngineOptions options) {
    auto opened = engine::Engine::open(options);
    const bool by_model = options.drafts == engine::DraftKind::kModel;
    if (opened || !by_model || opened.error().code != ErrorCode::kUnsupportedModel) return opened;
    options.drafts = engine::DraftKind::kAuto;
    return engine::Engine::open(options);
}

}  // namespace

Result<OpenedModel> open_for_serving(const OpenOptions& options, const ModelEntry& model, uint32_t nth) {
    engine::EngineOptions engine_options = options.engine;
    engine_options.model_path = model.path;
    const uint64_t trained = model.shape.context_train;
    engine_options.context_tokens = trained == 0
                                        ? options.context_tokens
                                        : static_cast<uint32_t>(std::min<uint64_t>(trained, options.context_tokens));
    engine_options.sequences = options.sequences;
    engine_options.kept_prefixes = options.sequences;  // a conversation's next turn finds its last one
    HYPURA_ASSIGN(engine_options.ram_bytes, shared_budget(options, nth));
    engine_options.weights_bytes /= std::max(options.max_loaded, 1U);

    OpenedModel opened;
    opened.context_tokens = engine_options.context_tokens;
    HYPURA_ASSIGN(opened.engine, open_with_drafts(std::move(engine_options)));
    HYPURA_ASSIGN(opened.batch, opened.engine->new_batch({}));
    return opened;
}

}  // namespace hypura::server
