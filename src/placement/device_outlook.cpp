#include "placement/device_outlook.h"

#include "placement/bank_plan.h"
#include "placement/card_count.h"
#include "placement/expert_banks.h"
#include "placement/pass_size.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <numeric>
#include <vector>

namespace hypura::placement {
namespace {

std::vector<ComputeDevice> cards_of(const Machine& machine) {
    std::vector<ComputeDevice> cards;
    std::ranges::copy_if(machine.devices, std::back_inserter(cards),
                         [](const ComputeDevice& device) { return device.kind == "gpu" && !device.rates.empty(); });
    std::ranges::stable_sort(cards, std::greater{}, &ComputeDevice::free_bytes);
    return cards;
}

// As many of them as make a token fastest.
std::vector<ComputeDevice> cards_used(const Machine& machine, const ModelDemand& demand, const DeviceRequest& request,
                                      const CardLimits& limits, const BankRates& rates) {
    std::vector<ComputeDevice> cards = cards_of(machine);
    std::vector<uint64_t> free_bytes(cards.size());
    std::ranges::transform(cards, free_bytes.begin(), &ComputeDevice::free_bytes);
    cards.resize(cards_to_use(demand, request, free_bytes, limits, rates));
    return cards;
}

std::string names_of(const std::vector<ComputeDevice>& cards) {
    std::string names;
    for (const ComputeDevice& card : cards) names += (names.empty() ? "" : ", ") + card.name;
    return names;
}

uint64_t free_bytes_of(const std::vector<ComputeDevice>& cards) {
    return std::transform_reduce(cards.begin(), cards.end(), uint64_t{0}, std::plus{},
                                 [](const ComputeDevice& card) { return card.free_bytes; });
}

// What the way from one card to the next adds to every pass.
double ways_seconds(size_t cards) { return kNextCardSeconds * static_cast<double>(cards - 1); }

// The same machine, if the card were its processor: the cost model's arithmetic then is the card's.
Machine computing_on(const Machine& machine, const ComputeDevice& card) {
    Machine other = machine;
    other.devices = {card};
    other.memory_bytes_per_second = std::max(weight_rate(card, "f16", {}, 1), machine.memory_bytes_per_second);
    return other;
}

double share(double part, double whole) { return whole > 0 ? std::min(1.0, part / whole) : 1; }

// RAM slots beneath, as the plan without the card has them.
uint64_t slot_bytes(const Plan& base, const ModelDemand& demand) {
    if (base.mode != PlanMode::kStream) return UINT64_MAX;
    return static_cast<uint64_t>(share(base.pool_slots, base.pool_experts) *
                                 static_cast<double>(demand.expert_bytes()));
}

// What is missed of it goes into the outlook too.
ExpertBanks share_out_banks(DeviceOutlook& outlook, const ModelDemand& demand, uint64_t ram_bytes,
                            const BankRates& rates) {
    const BankRoom room{.device_bytes = outlook.plan.expert_room_bytes, .ram_bytes = ram_bytes};
    ExpertBanks experts = plan_expert_banks(demand, room, rates);
    for (const BankRequest& group : experts.groups) outlook.bank_experts += group.experts;
    outlook.bank_slots = std::reduce(experts.banks.slots.begin(), experts.banks.slots.end());
    outlook.bank_bytes = experts.slot_bytes();
    outlook.staging_bytes = experts.banks.staging.total_bytes();
    outlook.device_miss = experts.token.uploaded;
    outlook.disk_miss = experts.token.read;
    return experts;
}

// Misses of the card are uploaded from RAM slots, and what those miss too is read; a layer with a miss waits for both.
// Layers that stay with the processor take there what they take without cards.
void predict_token(Prediction& prediction, const CostInputs& costs, const BankForecast& experts, double ways_s,
                   const Prediction& without_cards, double share_on_cards) {
    const double left = 1 - share_on_cards;
    prediction.read_bytes_per_token = experts.read * static_cast<double>(costs.demand.token_expert_bytes());
    prediction.read_s = prediction.exposed_read_s = experts.read_s + left * without_cards.exposed_read_s;
    prediction.expert_miss = experts.read;
    prediction.compute_s =
        share_on_cards * compute_seconds(costs, 1, false) + left * without_cards.compute_s + experts.device_s + ways_s;
    prediction.token_s = prediction.compute_s + prediction.exposed_read_s;
}

// A prompt's tokens attend to half of it in the mean.
void predict_prompt(Prediction& prediction, CostInputs costs, const ExpertBanks& experts, uint64_t ram_bytes,
                    const BankRates& rates, double ways_s) {
    costs.workload.depth_tokens /= 2;
    const double arithmetic_s = compute_seconds(costs, pass_tokens(costs), false) + ways_s;
    fill_prefill(prediction, costs, pass_seconds(experts.groups, experts.banks, ram_bytes, rates, arithmetic_s));
}

}  // namespace

std::optional<DeviceOutlook> device_outlook(const ModelDemand& demand, const Machine& machine, const DiskProfile& disk,
                                            const PlanRequest& request, const Plan& base, uint64_t room_bytes,
                                            std::optional<uint32_t> gpu_layers) {
    DeviceRequest wanted{.gpu_layers = gpu_layers,
                         .context_tokens = base.context_tokens,
                         .batch_tokens = base.batch_tokens,
                         .cache_type = base.cache_type};
    const BankRates rates = bank_rates(machine, disk, request.routing);
    const CardLimits limits{room_bytes > 0 ? room_bytes : UINT64_MAX, slot_bytes(base, demand)};
    const std::vector<ComputeDevice> cards = cards_used(machine, demand, wanted, limits, rates);
    if (cards.empty()) return std::nullopt;
    DeviceOutlook outlook{.device = names_of(cards), .room_bytes = room_bytes > 0 ? room_bytes : free_bytes_of(cards)};
    wanted.room_bytes = outlook.room_bytes;
    if (request.batch_tokens == 0 && !demand.experts.empty())
        wanted.batch_tokens = pass_tokens_with_cards(demand, wanted, limits.ram_bytes, rates);
    const bool holds_model = holds_whole_model(demand, wanted);
    wanted.with_experts = holds_model;
    outlook.plan = plan_devices(demand, wanted);
    outlook.mode = holds_model ? PlanMode::kResident : PlanMode::kStream;
    ExpertBanks experts;  // none: they are weights like others
    if (!holds_model) experts = share_out_banks(outlook, demand, limits.ram_bytes, rates);
    if (outlook.plan.gpu_layers == 0) return std::nullopt;
    outlook.pass_tokens = wanted.batch_tokens;
    const Machine computing = computing_on(machine, cards.front());
    const CostInputs costs{demand, computing, disk,
                           Workload{request.prompt_tokens, request.prompt_tokens, outlook.pass_tokens, request.routing},
                           cache_bytes_per_value(base.cache_type)};
    const double ways_s = ways_seconds(cards.size());
    const double share_on_cards = share(outlook.plan.gpu_layers, static_cast<double>(demand.shape.layers) + 1);
    predict_token(outlook.prediction, costs, experts.token, ways_s, base.prediction, share_on_cards);
    if (share_on_cards == 1 && !std::ranges::contains(experts.banks.slots, 0U))
        predict_prompt(outlook.prediction, costs, experts, limits.ram_bytes, rates, ways_s);
    return outlook;
}

}  // namespace hypura::placement
