// What of a model goes to graphics devices, decided before anything is loaded: pure arithmetic over the file's
// directory.
//
// What every token reads comes first: layers from the last one down (libllama's order), with their keys and values.
// Routed experts get what is left; how much that really is, is measured once libllama has taken its part.
#pragma once

#include "placement/model_demand.h"
#include "placement/planner.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace hypura::placement {

struct DeviceRequest {
    uint64_t room_bytes = 0;             // of all devices together
    std::optional<uint32_t> gpu_layers;  // asked for; as libllama counts, the output is one more than the layers
    bool with_experts = false;           // experts go with their layers, or stay behind (to be streamed)
    uint32_t context_tokens = 0;
    uint32_t batch_tokens = 0;
    CacheType cache_type = CacheType::kF16;
};

struct DevicePlan {
    uint32_t gpu_layers = 0;         // libllama's n_gpu_layers
    uint64_t weights_bytes = 0;      // of these layers, with their experts where those go along
    uint64_t cache_bytes = 0;        // keys and values of these layers
    uint64_t compute_bytes = 0;      // libllama's buffers: an estimate
    uint64_t expert_room_bytes = 0;  // left for experts
    bool holds_all = false;          // every layer and the output
    uint64_t used_bytes() const { return weights_bytes + cache_bytes + compute_bytes; }
};

DevicePlan plan_devices(const ModelDemand& demand, const DeviceRequest& request);

// Slots that each of the groups gets of `room_bytes` on one device. All experts of every group where they fit;
// otherwise the room is shared out evenly, so that each group keeps its most used experts. A group that cannot get
// `least_slots` gets none: its experts stay with the host. `most_bank_bytes` bounds one tensor's slots.
struct BankRequest {
    uint64_t expert_bytes = 0;  // one expert, all its matrices
    uint64_t matrix_bytes = 0;  // the largest of them
    uint32_t experts = 0;
    uint32_t least_slots = 0;
};
std::vector<uint32_t> plan_banks(const std::vector<BankRequest>& groups, uint64_t room_bytes, uint64_t most_bank_bytes,
                                 bool whole_only = false);

}  // namespace hypura::placement
