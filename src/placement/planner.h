// Decides how a model is run on a machine: mode, context, type of the KV cache, and what each memory holds; and
// predicts what that will give. A pure function: sizes and rates in, a plan out.
//
// Rules (docs/placement.md has the reasons):
//   1. A context that was asked for is kept. The default one is halved where nothing works with it, or where that makes
//      decoding a quarter faster.
//   2. The KV cache is f16 unless other types are allowed. Of those, a less exact one is taken where nothing works with
//   the
//      more exact ones, or where it makes decoding a quarter faster.
//   3. Of the modes that fit the budget the one with the least predicted time a token is taken; within 3 % the simpler
//   one
//      (resident, then mmap, then stream), since a prediction is no better than that. Mapped weights take memory as
//      they are touched; under a budget that somebody named, mmap is chosen by itself only if all of them fit.
//   4. How streaming lays memory out is plan_streaming's business (stream_plan.h); the tier programme checks it, and
//   its answer
//      is the best that any distribution of the same memory could give.
#pragma once

#include "base/status.h"
#include "placement/cost_model.h"
#include "placement/machine.h"
#include "placement/model_demand.h"
#include "placement/stream_plan.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hypura::placement {

enum class PlanMode { kResident, kMmap, kStream };
std::string_view to_string(PlanMode mode);

// From the most exact one on. q8_0 and q4_0 change what a model says, if mostly by little.
enum class CacheType { kF16, kQ8_0, kQ4_0 };
std::string_view to_string(CacheType type);
std::optional<CacheType> parse_cache_type(std::string_view text);
double cache_bytes_per_value(CacheType type);  // 2, 34/32, 18/32

struct PlanRequest {
    uint64_t ram_bytes = 0;        // everything the process may hold
    uint64_t weights_bytes = 0;    // resident weights and slots alone; 0: what ram_bytes leaves
    std::optional<PlanMode> mode;  // empty: chosen
    uint64_t page_cache_bytes =
        0;                        // that mapped weights may take beside the budget; 0: they count as the process's own
    uint32_t context_tokens = 0;  // 0: the model's training context, at most 4096
    uint32_t batch_tokens = 0;    // most tokens a pass, 0: kPassTokens (pass_size.h); halved where a layer's experts
                                  // would not fit
    std::vector<CacheType> cache_types = {CacheType::kF16};  // allowed ones
    bool with_bound = false;                                 // also solve the tier programme (tens of milliseconds)
    uint32_t prompt_tokens = 512;                            // that the time to the first token is predicted for
    Routing routing;
};

// What one mode would need and do.
struct ModeOutlook {
    PlanMode mode = PlanMode::kResident;
    bool fits = false;
    uint64_t needed_bytes = 0;  // the least --ram that it works with
    Prediction prediction;      // where it fits
};

// A layer's bytes by where they are. Layer -1: what belongs to none (embeddings, output).
struct LayerPlace {
    int layer = -1;
    uint64_t resident_bytes = 0;
    uint64_t streamed_dense_bytes = 0;  // and rows of tables
    uint64_t expert_bytes = 0;          // all of the layer's
    double pool_share = 0;              // of the experts, in memory on average
};

struct Plan {
    PlanMode mode = PlanMode::kResident;
    std::string reason;  // one sentence with the numbers
    CacheType cache_type = CacheType::kF16;
    uint32_t context_tokens = 0;
    uint32_t batch_tokens = 0;
    uint32_t chunk_tokens = 0;    // of a prompt a pass, while others generate
    uint64_t cache_bytes = 0;     // the KV cache
    uint64_t compute_bytes = 0;   // libllama's buffers
    uint64_t other_bytes = 0;     // the process itself
    uint64_t resident_bytes = 0;  // weights that stay in memory
    uint64_t pool_bytes = 0;      // slots for experts
    uint32_t pool_slots = 0;
    uint32_t pool_experts = 0;  // that these slots serve
    uint64_t ring_bytes = 0;    // slots for streamed dense weights
    uint64_t disk_bytes = 0;    // weights that live on the disk only
    Prediction prediction;
    double bound_token_s = 0;             // of the tier programme; 0: not streamed, or not asked for
    std::array<ModeOutlook, 3> outlooks;  // resident, mmap, stream
    std::vector<LayerPlace> layers;

    uint64_t memory_bytes() const {
        return cache_bytes + compute_bytes + other_bytes + resident_bytes + pool_bytes + ring_bytes;
    }
};

// kBudgetTooSmall, with the least --ram, when nothing works within the budget.
Result<Plan> make_plan(const ModelDemand& demand, const Machine& machine, const DiskProfile& disk,
                       const PlanRequest& request);

// What a plan would become if one thing were different.
struct WhatIf {
    std::string change;  // "4 GiB more memory"
    Plan plan;
};
// More memory, a disk twice as fast, a quarter of the context, larger passes of a streamed prompt where these
// make it a tenth faster; those that cannot work are left out.
std::vector<WhatIf> what_if(const ModelDemand& demand, const Machine& machine, const DiskProfile& disk,
                            const PlanRequest& request, const Plan& plan);

// Memory beside weights. The KV cache for an architecture that keeps less than all of its context is an upper bound.
uint64_t cache_size_bytes(const ModelDemand& demand, uint32_t context_tokens, CacheType type);
uint64_t compute_buffer_bytes(const gguf::ModelShape& shape, uint32_t batch_tokens);

}  // namespace hypura::placement
