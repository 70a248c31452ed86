#include "placement/device_plan.h"

#include <algorithm>
#include <vector>

namespace hypura::placement {
namespace {

// In libllama's order: 0 is the output, 1 the last layer, and so on down to the first.
size_t place_from_the_end(const ModelDemand& demand, int layer) {
    const auto layers = static_cast<size_t>(demand.shape.layers);
    return layer < 0 || static_cast<size_t>(layer) >= layers ? size_t{0} : layers - static_cast<size_t>(layer);
}

// By place.
std::vector<uint64_t> bytes_from_the_end(const ModelDemand& demand, bool with_experts) {
    std::vector<uint64_t> bytes(static_cast<size_t>(demand.shape.layers) + 1, 0);
    for (const DenseMatrix& matrix : demand.dense) bytes[place_from_the_end(demand, matrix.layer)] += matrix.bytes;
    bytes[0] += demand.tied_output_bytes;
    if (with_experts)
        for (const ExpertLayer& layer : demand.experts)
            bytes[place_from_the_end(demand, layer.layer)] += layer.expert_bytes * layer.experts;
    return bytes;
}

// Norms, biases and other small tensors, that go with their layers; embeddings stay with the host.
uint64_t small_bytes(const ModelDemand& demand) {
    return demand.shape.layers * demand.shape.embedding * 4 * sizeof(float);
}

}  // namespace

DevicePlan plan_devices(const ModelDemand& demand, const DeviceRequest& request) {
    DevicePlan plan;
    const std::vector<uint64_t> bytes = bytes_from_the_end(demand, request.with_experts);
    const uint64_t layers = std::max<uint64_t>(demand.shape.layers, 1);
    const uint64_t cache_a_layer = cache_size_bytes(demand, request.context_tokens, request.cache_type) / layers;
    plan.compute_bytes = compute_buffer_bytes(demand.shape, request.batch_tokens);
    plan.weights_bytes = small_bytes(demand);
    for (size_t place = 0; place < bytes.size(); ++place) {
        const uint64_t more_bytes = bytes[place] + (place > 0 ? cache_a_layer : 0);
        const bool wanted =
            request.gpu_layers ? place < *request.gpu_layers : plan.used_bytes() + more_bytes <= request.room_bytes;
        if (!wanted) break;
        plan.weights_bytes += bytes[place];
        plan.cache_bytes += place > 0 ? cache_a_layer : 0;
        ++plan.gpu_layers;
    }
    plan.holds_all = plan.gpu_layers == bytes.size();
    plan.expert_room_bytes = request.room_bytes - std::min(request.room_bytes, plan.used_bytes());
    if (plan.gpu_layers == 0) plan = {};
    return plan;
}

ModelDemand left_with_host(ModelDemand demand, uint32_t gpu_layers) {
    if (gpu_layers == 0) return demand;
    const auto has_gone = [&demand, gpu_layers](const auto& part) {
        return place_from_the_end(demand, part.layer) < gpu_layers;
    };
    std::erase_if(demand.dense, has_gone);
    std::erase_if(demand.experts, has_gone);
    demand.tied_output_bytes = 0;
    demand.tensor_bytes = demand.fixed_bytes + demand.dense_bytes() + demand.expert_bytes();
    const uint64_t layers = std::max<uint64_t>(demand.shape.layers, 1);
    const uint64_t left = demand.shape.layers - std::min<uint64_t>(demand.shape.layers, gpu_layers - 1);
    demand.cache_values_per_token = demand.cache_values_per_token * left / layers;
    demand.shape.layers = left;
    return demand;
}

bool holds_whole_model(const ModelDemand& demand, DeviceRequest request) {
    request.with_experts = true;
    const DevicePlan plan = plan_devices(demand, request);
    return plan.holds_all && plan.used_bytes() <= request.room_bytes;
}

}  // namespace hypura::placement
