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

std::vector<ComputeDevice> measured_devices(const Machine& machine, std::string_view kind) {
    std::vector<ComputeDevice> devices;
    std::ranges::copy_if(machine.devices, std::back_inserter(devices),
                         [kind](const ComputeDevice& device) { return device.kind == kind && !device.rates.empty(); });
    return devices;
}

// As many of the cards as make a token fastest, the largest first.
std::vector<ComputeDevice> cards_used(const Machine& machine, const ModelDemand& demand, const DeviceRequest& request,
                                      const CardLimits& limits, const BankRates& rates) {
    std::vector<ComputeDevice> cards = measured_devices(machine, "gpu");
    std::ranges::stable_sort(cards, std::greater{}, &ComputeDevice::free_bytes);
    std::vector<uint64_t> free_bytes(cards.size());
    std::ranges::transform(cards, free_bytes.begin(), &ComputeDevice::free_bytes);
    cards.resize(cards_to_use(demand, request, free_bytes, limits, rates));
    return cards;
}

std::string names_of(const std::vector<ComputeDevice>& devices) {
    std::string names;
    for (const ComputeDevice& device : devices) names += (names.empty() ? "" : ", ") + device.name;
    return names;
}

uint64_t free_bytes_of(const std::vector<ComputeDevice>& devices) {
    return std::transform_reduce(devices.begin(), devices.end(), uint64_t{0}, std::plus{},
                                 [](const ComputeDevice& device) { return device.free_bytes; });
}

// The same machine, if the device were its processor: the cost model's arithmetic then is the device's.
Machine computing_on(const Machine& machine, const ComputeDevice& device) {
    Machine other = machine;
    other.devices = {device};
    other.memory_bytes_per_second = std::max(weight_rate(device, "f16", {}, 1), machine.memory_bytes_per_second);
    return other;
}

double share(double part, double whole) { return whole > 0 ? std::min(1.0, part / whole) : 1; }

// RAM slots beneath, as the plan without the card has them.
uint64_t slot_bytes(const Plan& base, const ModelDemand& demand) {
    if (base.mode != PlanMode::kStream) return UINT64_MAX;
    return static_cast<uint64_t>(share(base.pool_slots, base.pool_experts) *
                                 static_cast<double>(demand.expert_bytes()));
}

class Outlook {
public:
    Outlook(const ModelDemand& demand, const Machine& machine, const DiskProfile& disk, const PlanRequest& request,
            const Plan& base)
        : demand_(demand),
          machine_(machine),
          disk_(disk),
          request_(request),
          base_(base),
          rates_(bank_rates(machine, disk, request.routing)),
          ram_bytes_(slot_bytes(base, demand)),
          streamed_{.shape = demand.shape} {}

    std::optional<DeviceOutlook> make(uint64_t room_bytes, std::optional<uint32_t> gpu_layers) {
        DeviceRequest wanted{.gpu_layers = gpu_layers,
                             .context_tokens = base_.context_tokens,
                             .batch_tokens = base_.batch_tokens,
                             .cache_type = base_.cache_type};
        take_devices(wanted, room_bytes);
        if (devices_.empty()) return std::nullopt;
        wanted.room_bytes = room_bytes > 0 ? room_bytes : free_bytes_of(devices_);
        place_weights(wanted);
        if (outlook_.plan.gpu_layers == 0) return std::nullopt;
        const bool is_shared_out = !experts_.groups.empty() && has_others();
        if (!is_shared_out) predict();
        return std::move(outlook_);
    }

private:
    // Other machines, whose way is the longest, do not get the output where there is a card.
    void take_devices(const DeviceRequest& wanted, uint64_t room_bytes) {
        const CardLimits limits{room_bytes > 0 ? room_bytes : UINT64_MAX, ram_bytes_};
        devices_ = measured_devices(machine_, "remote");
        std::ranges::move(cards_used(machine_, demand_, wanted, limits, rates_), std::back_inserter(devices_));
    }

    bool has_others() const { return devices_.front().kind == "remote"; }
    bool has_cards() const { return devices_.back().kind == "gpu"; }

    // Experts stream to cards; to other machines they go with their layers.
    void place_weights(DeviceRequest wanted) {
        outlook_.device = names_of(devices_);
        outlook_.room_bytes = wanted.room_bytes;
        const bool is_mixture = !demand_.experts.empty();
        if (request_.batch_tokens == 0 && is_mixture && has_cards())
            wanted.batch_tokens = pass_tokens_with_cards(demand_, wanted, ram_bytes_, rates_);
        outlook_.pass_tokens = wanted.batch_tokens;
        const bool holds_model = holds_whole_model(demand_, wanted);
        outlook_.mode = holds_model ? PlanMode::kResident : is_mixture ? PlanMode::kStream : base_.mode;
        const bool streams = !holds_model && is_mixture && has_cards();
        wanted.with_experts = !streams;
        outlook_.plan = plan_devices(demand_, wanted);
        if (streams) share_out_banks();
    }

    // What is missed of it goes into the outlook too.
    void share_out_banks() {
        const BankRoom room{.device_bytes = outlook_.plan.expert_room_bytes, .ram_bytes = ram_bytes_};
        const size_t with_host = left_with_host(demand_, outlook_.plan.gpu_layers).experts.size();
        streamed_.experts.assign(demand_.experts.begin() + static_cast<std::ptrdiff_t>(with_host),
                                 demand_.experts.end());
        experts_ = plan_expert_banks(streamed_, room, rates_);
        for (const BankRequest& group : experts_.groups) outlook_.bank_experts += group.experts;
        outlook_.bank_slots = std::reduce(experts_.banks.slots.begin(), experts_.banks.slots.end());
        outlook_.bank_bytes = experts_.slot_bytes();
        outlook_.staging_bytes = experts_.banks.staging.total_bytes();
        outlook_.device_miss = experts_.token.uploaded;
        outlook_.disk_miss = experts_.token.read;
    }

    void predict() {
        predict_token(rest());
        const bool is_all_on_devices = outlook_.plan.holds_all && !std::ranges::contains(experts_.banks.slots, 0U);
        if (is_all_on_devices) predict_prompt();
    }

    // Misses of the card are uploaded from RAM slots, and what those miss too is read; a layer with a miss waits for
    // both.
    void predict_token(const Prediction& rest) {
        const double share_on_devices = share(outlook_.plan.gpu_layers, static_cast<double>(demand_.shape.layers) + 1);
        Prediction& token = outlook_.prediction;
        token.read_bytes_per_token =
            experts_.token.read * static_cast<double>(streamed_.token_expert_bytes()) + rest.read_bytes_per_token;
        token.read_s = token.exposed_read_s = experts_.token.read_s + rest.exposed_read_s;
        token.expert_miss = experts_.token.read;
        token.compute_s = share_on_devices * arithmetic_seconds(1, request_.prompt_tokens) + ways_seconds(1) +
                          experts_.token.device_s + rest.compute_s;
        token.token_s = token.compute_s + token.exposed_read_s;
    }

    // What stays with the processor, as if it were a model of its own. Where that cannot work, the model on its own.
    Prediction rest() const {
        if (outlook_.plan.holds_all) return {};
        PlanRequest request = request_;
        request.mode = outlook_.mode;
        request.context_tokens = base_.context_tokens;
        request.cache_types = {base_.cache_type};
        request.with_bound = false;
        const auto plan = make_plan(left_with_host(demand_, outlook_.plan.gpu_layers), machine_, disk_, request);
        return plan ? plan->prediction : base_.prediction;
    }

    // A prompt's tokens attend to half of it in the mean.
    void predict_prompt() {
        const uint32_t tokens = std::min(request_.prompt_tokens, outlook_.pass_tokens);
        const double arithmetic_s = arithmetic_seconds(tokens, request_.prompt_tokens / 2) + ways_seconds(tokens);
        fill_prefill(outlook_.prediction, inputs(machine_, outlook_.pass_tokens, request_.prompt_tokens),
                     pass_seconds(experts_.groups, experts_.banks, ram_bytes_, rates_, arithmetic_s));
    }

    CostInputs inputs(const Machine& machine, uint32_t batch_tokens, uint32_t depth_tokens) const {
        return {demand_, machine, disk_, Workload{request_.prompt_tokens, depth_tokens, batch_tokens, request_.routing},
                cache_bytes_per_value(base_.cache_type)};
    }

    // Of a pass through the whole model: libllama shares layers out by the devices' free memory.
    double arithmetic_seconds(uint32_t tokens, uint32_t depth_tokens) const {
        const auto free_bytes = static_cast<double>(free_bytes_of(devices_));
        double seconds = 0;
        for (const ComputeDevice& device : devices_) {
            const Machine computing = computing_on(machine_, device);
            seconds += share(static_cast<double>(device.free_bytes), free_bytes) *
                       compute_seconds(inputs(computing, tokens, depth_tokens), tokens, false);
        }
        return seconds;
    }

    double ways_seconds(uint32_t tokens) const {
        double seconds = 0;
        for (const ComputeDevice& device : devices_) seconds += way_seconds(device, tokens);
        return seconds;
    }

    // To a device and back. What comes back from the last one is one token's logits.
    double way_seconds(const ComputeDevice& device, uint32_t tokens) const {
        if (device.kind != "remote") return &device == &devices_.front() ? 0 : kNextCardSeconds;
        const double row_bytes = static_cast<double>(demand_.shape.embedding) * sizeof(float);
        const double logit_bytes = static_cast<double>(demand_.shape.vocabulary) * sizeof(float);
        const double back_bytes = &device == &devices_.back() ? logit_bytes : tokens * row_bytes;
        return device.trip_us / 1e6 + (tokens * row_bytes + back_bytes) / device.upload_bytes_per_second;
    }

    const ModelDemand& demand_;
    const Machine& machine_;
    const DiskProfile& disk_;
    const PlanRequest& request_;
    const Plan& base_;
    BankRates rates_;
    uint64_t ram_bytes_;                  // of RAM slots beneath
    ModelDemand streamed_;                // experts of the layers on devices, where they come and go
    std::vector<ComputeDevice> devices_;  // in libllama's order
    ExpertBanks experts_;                 // none: they are weights like others
    DeviceOutlook outlook_;
};

}  // namespace

std::optional<DeviceOutlook> device_outlook(const ModelDemand& demand, const Machine& machine, const DiskProfile& disk,
                                            const PlanRequest& request, const Plan& base, uint64_t room_bytes,
                                            std::optional<uint32_t> gpu_layers) {
    return Outlook(demand, machine, disk, request, base).make(room_bytes, gpu_layers);
}

}  // namespace hypura::placement
