#include "placement/card_count.h"

#include "placement/expert_banks.h"

#include <algorithm>
#include <limits>

namespace hypura::placement {
namespace {

// The whole model, or as many of its layers as were asked for.
uint64_t wanted_bytes(const ModelDemand& demand, DeviceRequest request) {
    request.room_bytes = UINT64_MAX;
    request.with_experts = true;
    return plan_devices(demand, request).used_bytes();
}

// A token's, for experts that cards with that room lack.
double seconds_for_experts(const ModelDemand& demand, DeviceRequest request, const BankRoom& room,
                           const BankRates& rates) {
    request.room_bytes = room.device_bytes;
    request.with_experts = false;
    const BankRoom left{plan_devices(demand, request).expert_room_bytes, room.most_bank_bytes, room.ram_bytes};
    return plan_expert_banks(demand, left, rates).token_seconds();
}

}  // namespace

size_t cards_that_hold(const ModelDemand& demand, const DeviceRequest& request, std::span<const uint64_t> usable_bytes,
                       const CardLimits& limits) {
    const uint64_t enough_bytes = std::min(wanted_bytes(demand, request), limits.device_bytes);
    uint64_t room_bytes = 0;
    for (size_t cards = 1; cards <= usable_bytes.size(); ++cards) {
        room_bytes += usable_bytes[cards - 1];
        if (room_bytes >= enough_bytes) return cards;
    }
    return usable_bytes.size();
}

size_t cards_to_use(const ModelDemand& demand, const DeviceRequest& request, std::span<const uint64_t> usable_bytes,
                    const CardLimits& limits, const BankRates& rates) {
    const size_t most = cards_that_hold(demand, request, usable_bytes, limits);
    if (demand.experts.empty() || request.with_experts || request.gpu_layers) return most;
    const uint64_t whole_bytes = wanted_bytes(demand, request);
    size_t best = most;
    double least_s = std::numeric_limits<double>::infinity();
    BankRoom room{.device_bytes = 0, .ram_bytes = limits.ram_bytes};
    for (size_t cards = 1; cards <= most; ++cards) {
        room.device_bytes = std::min(room.device_bytes + usable_bytes[cards - 1], limits.device_bytes);
        const double experts_s =
            room.device_bytes >= whole_bytes ? 0 : seconds_for_experts(demand, request, room, rates);
        const double token_s = experts_s + kNextCardSeconds * static_cast<double>(cards - 1);
        if (token_s >= least_s) continue;
        least_s = token_s;
        best = cards;
    }
    return best;
}

}  // namespace hypura::placement
