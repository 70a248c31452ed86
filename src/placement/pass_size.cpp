#include "placement/pass_size.h"

#include "placement/expert_banks.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hypura::placement {
namespace {

// A long question and its answer.
constexpr uint32_t kPromptTokens = 2048;
constexpr uint32_t kAnswerTokens = 256;

constexpr double kLongestWait = 1.5;  // over that of the fewest

// Beyond what is the same for passes of any size.
double seconds_of_exchange(const ModelDemand& demand, DeviceRequest request, uint64_t ram_bytes,
                           const BankRates& rates) {
    if (holds_whole_model(demand, request)) return 0;
    request.with_experts = false;
    const uint64_t device_bytes = plan_devices(demand, request).expert_room_bytes;
    const ExpertBanks experts =
        plan_expert_banks(demand, {.device_bytes = device_bytes, .ram_bytes = ram_bytes}, rates);
    const double passes = static_cast<double>(kPromptTokens) / request.batch_tokens;
    return passes * pass_seconds(experts.groups, experts.banks, ram_bytes, rates, 0) +
           kAnswerTokens * experts.token_seconds();
}

}  // namespace

uint32_t pass_tokens_with_cards(const ModelDemand& demand, DeviceRequest request, uint64_t ram_bytes,
                                const BankRates& rates) {
    uint32_t best = kPassTokens;
    double least_s = std::numeric_limits<double>::infinity();
    for (const uint32_t pass_tokens : {kPassTokens, 2 * kPassTokens, 4 * kPassTokens}) {
        if (pass_tokens > kPassTokens && pass_tokens > request.context_tokens) break;
        request.batch_tokens = pass_tokens;
        const double seconds = seconds_of_exchange(demand, request, ram_bytes, rates);
        if (seconds > least_s || std::isinf(seconds)) continue;
        least_s = seconds;
        best = pass_tokens;
    }
    return best;
}

uint32_t chunk_tokens(uint32_t pass_tokens, const std::function<double(uint32_t)>& pass_seconds) {
    const double longest_s = kLongestWait * pass_seconds(kChunkTokens);
    uint32_t tokens = kChunkTokens;
    while (2 * tokens <= pass_tokens && pass_seconds(2 * tokens) <= longest_s) tokens *= 2;
    return std::min(tokens, pass_tokens);
}

}  // namespace hypura::placement
