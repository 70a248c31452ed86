// How many tokens a pass takes at most, where nobody says.
//
// libggml rounds by the number of rows, so on the processor it is libllama's own number, whatever the budget: what is
// streamed there is what an in-memory run with default options gives. Graphics cards round in ways of their own. There
// a pass may be larger: each brings what the cards lack of every layer, so that a long prompt in few passes brings
// less. What that costs is room for experts, which libllama's buffers take.
#pragma once

#include "placement/bank_plan.h"
#include "placement/device_plan.h"

#include <cstdint>

namespace hypura::placement {

constexpr uint32_t kPassTokens = 512;

// Where experts come to cards: of 512, 1024 and 2048 the number with which a prompt of 2048 tokens and an answer of 256
// wait least for experts; 512 where a layer's experts stay with the processor. Never more than the context. Of
// `request` all counts but its batch.
uint32_t pass_tokens_beside_cards(const ModelDemand& demand, DeviceRequest request, uint64_t ram_bytes,
                                  const BankRates& rates);

}  // namespace hypura::placement
