// What of a model goes to graphics devices, decided before anything is loaded: pure arithmetic over the file's
// directory.
//
// What every token reads comes first: layers from the last one down (libllama's order), with their keys and values.
// Routed experts get what is left (bank_plan.h); how much that really is, is measured once libllama has taken its part.
#pragma once

#include "placement/model_demand.h"
#include "placement/planner.h"

#include <cstdint>
#include <optional>

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

// The model without `gpu_layers` of its layers and all that they have, experts included.
ModelDemand left_with_host(ModelDemand demand, uint32_t gpu_layers);

// Whether the devices have room for the whole model with its experts, keys, values and buffers.
bool holds_whole_model(const ModelDemand& demand, DeviceRequest request);

}  // namespace hypura::placement
