#include "placement/device_choice.h"

#include <format>

namespace hypura::placement {
namespace {

constexpr double kWorthLeavingOut = 1.1;

double exchange_seconds(const Prediction& prediction, bool with_prompt) {
    return (with_prompt ? prediction.first_token_s : 0) + kAnswerTokens * prediction.token_s;
}

std::string reason_of(const DeviceChoice& choice, const std::string& cards, uint32_t prompt_tokens) {
    const std::string exchange =
        prompt_tokens > 0 ? std::format("a prompt of {} tokens and an answer of {}", prompt_tokens, kAnswerTokens)
                          : std::format("an answer of {} tokens", kAnswerTokens);
    return std::format("{}{:.3g} s with {} and {:.3g} s without are predicted for {}",
                       choice.use_cards ? "" : cards + " left out: ", choice.with_cards_s, cards, choice.without_s,
                       exchange);
}

}  // namespace

DeviceChoice choose_cards(const DeviceOutlook& with_cards, const Plan& without, uint32_t prompt_tokens) {
    const bool with_prompt = with_cards.prediction.first_token_s > 0;
    DeviceChoice choice{.with_cards_s = exchange_seconds(with_cards.prediction, with_prompt),
                        .without_s = exchange_seconds(without.prediction, with_prompt)};
    choice.use_cards = !(choice.without_s * kWorthLeavingOut < choice.with_cards_s);
    choice.reason = reason_of(choice, with_cards.device, with_prompt ? prompt_tokens : 0);
    return choice;
}

}  // namespace hypura::placement
