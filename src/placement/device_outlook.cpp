#include "placement/device_outlook.h"

#include <algorithm>

namespace hypura::placement {
namespace {

// A cut of the graph on a device: ids come back, slot numbers go there, the rest is submitted. On an H200 about 60 us.
constexpr double kDeviceCutUs = 60;
constexpr uint64_t kMostBankBytes = UINT64_MAX;

const ComputeDevice* card_of(const Machine& machine) {
    const auto found = std::ranges::find_if(
        machine.devices, [](const ComputeDevice& device) { return device.kind == "gpu" && !device.rates.empty(); });
    return found == machine.devices.end() ? nullptr : &*found;
}

// The same machine, if the card were its processor: the cost model's arithmetic then is the card's.
Machine computing_on(const Machine& machine, const ComputeDevice& card) {
    Machine other = machine;
    other.devices = {card};
    other.memory_bytes_per_second = std::max(weight_rate(card, "f16", {}, 1), machine.memory_bytes_per_second);
    return other;
}

void share_out_banks(DeviceOutlook& outlook, const ModelDemand& demand) {
    std::vector<BankRequest> requests;
    for (const ExpertLayer& layer : demand.experts) {
        requests.push_back({.expert_bytes = layer.expert_bytes,
                            .matrix_bytes = layer.expert_bytes / std::max(layer.slices, 1U),
                            .experts = layer.experts,
                            .least_slots = static_cast<uint32_t>(demand.shape.experts_used)});
        outlook.bank_experts += layer.experts;
    }
    const std::vector<uint32_t> slots = plan_banks(requests, outlook.plan.expert_room_bytes, kMostBankBytes);
    for (size_t i = 0; i < slots.size(); ++i) {
        outlook.bank_slots += slots[i];
        outlook.bank_bytes += slots[i] * requests[i].expert_bytes;
    }
}

double share(double part, double whole) { return whole > 0 ? std::min(1.0, part / whole) : 1; }

// Misses of the card are uploaded from RAM slots, and what those miss too is read; a layer with a miss waits for both.
void predict_streaming(DeviceOutlook& outlook, const CostInputs& costs, const ComputeDevice& card, const Plan& base,
                       const Routing& routing) {
    const ModelDemand& demand = costs.demand;
    const MissCurve curve = MissCurve::expected(demand.shape.experts, demand.shape.experts_used, routing);
    const double on_card = share(outlook.bank_slots, outlook.bank_experts);
    const double in_memory = base.mode == PlanMode::kStream ? share(base.pool_slots, base.pool_experts) : 1;
    outlook.device_miss = on_card >= 1 ? 0 : curve.miss(on_card);
    outlook.disk_miss = on_card + in_memory >= 1 ? 0 : curve.miss(on_card + in_memory);
    const auto token_bytes = static_cast<double>(demand.token_expert_bytes());
    Prediction& prediction = outlook.prediction;
    const double uploads_s =
        card.upload_bytes_per_second > 0 ? outlook.device_miss * token_bytes / card.upload_bytes_per_second : 0;
    const double cuts_s = on_card >= 1 ? 0 : static_cast<double>(demand.experts.size()) * kDeviceCutUs / 1e6;
    double disk_rate = 0;
    for (const storage::DiskPoint& point : costs.disk.points) disk_rate = std::max(disk_rate, point.bytes_per_second);
    prediction.read_bytes_per_token = outlook.disk_miss * token_bytes;
    prediction.read_s = disk_rate > 0 ? prediction.read_bytes_per_token / disk_rate : 0;
    prediction.exposed_read_s = prediction.read_s;
    prediction.expert_miss = outlook.disk_miss;
    prediction.compute_s = compute_seconds(costs, 1, false) + uploads_s + cuts_s;
    prediction.token_s = prediction.compute_s + prediction.exposed_read_s;
}

}  // namespace

std::optional<DeviceOutlook> device_outlook(const ModelDemand& demand, const Machine& machine, const DiskProfile& disk,
                                            const PlanRequest& request, const Plan& base, uint64_t room_bytes,
                                            std::optional<uint32_t> gpu_layers) {
    const ComputeDevice* const card = card_of(machine);
    if (card == nullptr) return std::nullopt;
    DeviceOutlook outlook{.device = card->name, .room_bytes = room_bytes > 0 ? room_bytes : card->free_bytes};
    DeviceRequest wanted{.room_bytes = outlook.room_bytes,
                         .gpu_layers = gpu_layers,
                         .with_experts = true,
                         .context_tokens = base.context_tokens,
                         .batch_tokens = base.batch_tokens,
                         .cache_type = base.cache_type};
    outlook.plan = plan_devices(demand, wanted);
    const bool holds_model = outlook.plan.holds_all && outlook.plan.used_bytes() <= outlook.room_bytes;
    if (!holds_model) {
        outlook.mode = PlanMode::kStream;
        wanted.with_experts = false;
        outlook.plan = plan_devices(demand, wanted);
        share_out_banks(outlook, demand);
    }
    if (outlook.plan.gpu_layers == 0) return std::nullopt;
    const Machine computing = computing_on(machine, *card);
    const CostInputs costs{demand, computing, disk,
                           Workload{request.prompt_tokens, request.prompt_tokens, base.batch_tokens, request.routing},
                           cache_bytes_per_value(base.cache_type)};
    if (holds_model)
        outlook.prediction.compute_s = outlook.prediction.token_s = compute_seconds(costs, 1, false);
    else
        predict_streaming(outlook, costs, *card, base, request.routing);
    return outlook;
}

}  // namespace hypura::placement
