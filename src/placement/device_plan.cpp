#include "placement/device_plan.h"

#include <algorithm>

namespace hypura::placement {
namespace {

// Bytes by place in libllama's order: [0] is the output, [1] the last layer, and so on down to the first.
std::vector<uint64_t> bytes_from_the_end(const ModelDemand& demand, bool with_experts) {
    const auto layers = static_cast<size_t>(demand.shape.layers);
    std::vector<uint64_t> bytes(layers + 1, 0);
    const auto place_of = [&](int layer) {
        return layer < 0 || static_cast<size_t>(layer) >= layers ? size_t{0} : layers - static_cast<size_t>(layer);
    };
    for (const DenseMatrix& matrix : demand.dense) bytes[place_of(matrix.layer)] += matrix.bytes;
    bytes[0] += demand.tied_output_bytes;
    if (with_experts)
        for (const ExpertLayer& layer : demand.experts)
            bytes[place_of(layer.layer)] += layer.expert_bytes * layer.experts;
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

namespace {

uint32_t most_slots(const BankRequest& group, uint64_t most_bank_bytes) {
    const uint64_t reachable = most_bank_bytes / std::max<uint64_t>(group.matrix_bytes, 1);
    return static_cast<uint32_t>(std::min<uint64_t>(group.experts, reachable));
}

double even_share(const std::vector<BankRequest>& groups, uint64_t room_bytes) {
    uint64_t all_bytes = 0;
    for (const BankRequest& group : groups) all_bytes += group.expert_bytes * group.experts;
    if (all_bytes <= room_bytes) return 1;
    return static_cast<double>(room_bytes) / static_cast<double>(all_bytes);
}

}  // namespace

std::vector<uint32_t> plan_banks(const std::vector<BankRequest>& groups, uint64_t room_bytes, uint64_t most_bank_bytes,
                                 bool whole_only) {
    const double share = whole_only ? 1 : even_share(groups, room_bytes);
    uint64_t left_bytes = room_bytes;
    std::vector<uint32_t> slots;
    for (const BankRequest& group : groups) {
        const uint32_t most = most_slots(group, most_bank_bytes);
        const auto even = static_cast<uint32_t>(share * group.experts);
        const uint32_t wanted = std::min(most, std::max(even, group.least_slots));
        const bool enough = wanted >= (whole_only ? group.experts : group.least_slots);
        slots.push_back(enough && wanted * group.expert_bytes <= left_bytes ? wanted : 0);
        left_bytes -= slots.back() * group.expert_bytes;
    }
    if (whole_only) return slots;
    for (size_t g = 0; g < groups.size(); ++g) {  // rounding leaves room for a few more
        const bool may_grow = slots[g] > 0 && slots[g] < most_slots(groups[g], most_bank_bytes);
        if (!may_grow || groups[g].expert_bytes > left_bytes) continue;
        ++slots[g];
        left_bytes -= groups[g].expert_bytes;
    }
    return slots;
}

}  // namespace hypura::placement
