// How many of a machine's graphics cards a model is run on.
//
// Another card holds more of the model, and costs every token the way there. Where experts are streamed both are known
// as seconds a token: what is uploaded and read for experts that the cards lack (bank_plan.h), and kNextCardSeconds.
// What the cards lack of a dense model, or of one whose experts go with their layers, is computed by the processor,
// which costs more than any way.
#pragma once

#include "placement/bank_plan.h"
#include "placement/device_plan.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace hypura::placement {

// What a token takes longer for each card after the first: with two H200s and ggml's Vulkan backend 4 to 6 ms, and 5 ms
// with stock llama.cpp (docs/devices.md).
constexpr double kNextCardSeconds = 4e-3;

struct CardLimits {
    uint64_t device_bytes = UINT64_MAX;  // of all cards together, if less than they have
    uint64_t ram_bytes = UINT64_MAX;     // of RAM slots beneath
};

// Of cards in the order in which they are preferred, with so many usable bytes each, the fewest that hold the model or
// the limit, else all: more of them would hold nothing more. 0: there is no card.
size_t cards_that_hold(const ModelDemand& demand, const DeviceRequest& request, std::span<const uint64_t> usable_bytes,
                       const CardLimits& limits);

// Of these, the first so many that take the least seconds a token. Of `request` all counts but
// its room. 0: there is no card.
size_t cards_to_use(const ModelDemand& demand, const DeviceRequest& request, std::span<const uint64_t> usable_bytes,
                    const CardLimits& limits, const BankRates& rates);

}  // namespace hypura::placement
