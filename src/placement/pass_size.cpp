#include "placement/pass_size.h"

#include "placement/expert_banks.h"

#include <algorithm>
#include <limits>

namespace hypura::placement {
namespace {

// A long question and its answer.
constexpr uint32_t kPromptTokens = 2048;
constexpr uint32_t kAnswerTokens = 256;

// A pass of many tokens names nearly every expert: all that the cards lack is uploaded, and what RAM lacks, too, is
// read meanwhile.
double seconds_a_pass(const ExpertBanks& banks, uint64_t ram_bytes, const BankRates& rates) {
    const uint64_t absent_bytes = banks.absent_bytes();
    const uint64_t unread_bytes = absent_bytes - std::min(absent_bytes, ram_bytes);
    return std::max(static_cast<double>(absent_bytes) / rates.upload_bytes_per_second,
                    static_cast<double>(unread_bytes) / rates.read_bytes_per_second);
}

double seconds_of_exchange(const ModelDemand& demand, const DevicePlan& plan, uint32_t pass_tokens, uint64_t ram_bytes,
                           const BankRates& rates) {
    const ExpertBanks banks =
        plan_expert_banks(demand, {.device_bytes = plan.expert_room_bytes, .ram_bytes = ram_bytes}, rates);
    if (std::ranges::contains(banks.slots, 0U)) return std::numeric_limits<double>::infinity();
    const double passes = static_cast<double>(kPromptTokens) / pass_tokens;
    return passes * seconds_a_pass(banks, ram_bytes, rates) +
           kAnswerTokens * (banks.token.device_s + banks.token.read_s);
}

}  // namespace

uint32_t pass_tokens_beside_cards(const ModelDemand& demand, DeviceRequest request, uint64_t ram_bytes,
                                  const BankRates& rates) {
    request.with_experts = false;
    uint32_t best = kPassTokens;
    double least_s = std::numeric_limits<double>::infinity();
    for (const uint32_t pass_tokens : {kPassTokens, 2 * kPassTokens, 4 * kPassTokens}) {
        if (pass_tokens > kPassTokens && pass_tokens > request.context_tokens) break;
        request.batch_tokens = pass_tokens;
        const double seconds =
            seconds_of_exchange(demand, plan_devices(demand, request), pass_tokens, ram_bytes, rates);
        if (seconds >= least_s) continue;
        least_s = seconds;
        best = pass_tokens;
    }
    return best;
}

}  // namespace hypura::placement
