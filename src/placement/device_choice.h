// Whether a model is run with graphics cards that nobody asked for, or without.
//
// By predicted time, as modes are chosen: of a prompt and its answer, since cards may be slower at tokens and much
// faster at prompts. Where only tokens are predicted with cards, of the answer alone. Cards are left out where doing
// without them is predicted to be a tenth faster at least: predictions with cards are often as much off
// (docs/devices.md), and a card leaves the processor to others.
#pragma once

#include "placement/device_outlook.h"
#include "placement/planner.h"

#include <cstdint>
#include <string>

namespace hypura::placement {

constexpr uint32_t kAnswerTokens = 256;  // of an exchange; its prompt is that of the predictions

struct DeviceChoice {
    bool use_cards = true;
    double with_cards_s = 0;  // of the exchange
    double without_s = 0;
    std::string reason;  // one sentence with the numbers
};

// `without` is the plan for the same request; `prompt_tokens` is what both were predicted for.
DeviceChoice choose_cards(const DeviceOutlook& with_cards, const Plan& without, uint32_t prompt_tokens);

}  // namespace hypura::placement
