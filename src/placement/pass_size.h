// How many tokens a pass takes at most, where nobody says.
//
// libggml rounds by the number of rows, so on the processor it is libllama's own number, whatever the budget: what is
// streamed there is what an in-memory run with default options gives. Graphics cards round in ways of their own. There
// a pass may be larger: each brings what the cards lack of every layer, so that a long prompt in few passes brings
// less, and products of experts are quicker with more rows. What that costs is room for experts, which libllama's
// buffers take.
#pragma once

#include "placement/bank_plan.h"
#include "placement/device_plan.h"

#include <cstdint>
#include <functional>

namespace hypura::placement {

constexpr uint32_t kPassTokens = 512;
constexpr uint32_t kChunkTokens = 128;  // of a prompt a pass, at least, while other sequences generate

// Of a mixture with cards, 512, 1024 or 2048, but no more than the context. If the cards hold all of it, the most with
// which they still do. Else experts come to them, and it is the number with which a prompt of 2048 tokens and an answer
// of 256 wait least for experts; 512 where a layer's experts stay with the processor. Of `request` all counts but its
// batch and whether experts go along.
uint32_t pass_tokens_with_cards(const ModelDemand& demand, DeviceRequest request, uint64_t ram_bytes,
                                const BankRates& rates);

// Prompt tokens a pass while other sequences generate: few, so that these wait little, and more as long as a pass takes
// at most half as long again as one of the fewest, since it mostly reads or uploads. `pass_seconds`: of a pass of so
// many tokens.
uint32_t chunk_tokens(uint32_t pass_tokens, const std::function<double(uint32_t)>& pass_seconds);

}  // namespace hypura::placement
