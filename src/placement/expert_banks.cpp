#include "placement/expert_banks.h"

#include <algorithm>
#include <limits>

namespace hypura::placement {
namespace {

std::vector<BankRequest> bank_requests(const ModelDemand& demand) {
    std::vector<BankRequest> requests;
    requests.reserve(demand.experts.size());
    for (const ExpertLayer& layer : demand.experts)
        requests.push_back({.expert_bytes = layer.expert_bytes,
                            .matrix_bytes = layer.expert_bytes / std::max(layer.slices, 1U),
                            .experts = layer.experts,
                            .least_slots = static_cast<uint32_t>(demand.shape.experts_used)});
    return requests;
}

}  // namespace

double ExpertBanks::token_seconds() const {
    if (std::ranges::contains(banks.slots, 0U)) return std::numeric_limits<double>::infinity();
    return token.device_s + token.read_s;
}

uint64_t ExpertBanks::slot_bytes() const {
    uint64_t bytes = 0;
    for (size_t g = 0; g < groups.size(); ++g) bytes += banks.slots[g] * groups[g].expert_bytes;
    return bytes;
}

ExpertBanks plan_expert_banks(const ModelDemand& demand, const BankRoom& room, const BankRates& rates) {
    ExpertBanks experts{.groups = bank_requests(demand)};
    experts.banks = plan_staged_banks(experts.groups, room, rates);
    experts.token = forecast_banks(experts.groups, experts.banks.slots, room, rates);
    return experts;
}

}  // namespace hypura::placement
