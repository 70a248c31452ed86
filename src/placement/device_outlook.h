// What a plan would become with graphics cards and other machines' memory: where its bytes would go, and how fast a
// token would be.
#pragma once

#include "placement/cost_model.h"
#include "placement/device_plan.h"
#include "placement/planner.h"

#include <cstdint>
#include <optional>
#include <string>

namespace hypura::placement {

struct DeviceOutlook {
    std::string device;  // "Vulkan0", or "Vulkan0, Vulkan1"
    uint64_t room_bytes = 0;
    PlanMode mode = PlanMode::kResident;  // resident: all of the model; stream: experts come and go; else as the base
    DevicePlan plan;
    uint32_t pass_tokens = 0;    // most tokens a pass
    uint64_t bank_bytes = 0;     // device slots for experts
    uint64_t staging_bytes = 0;  // for those of prompts that have none
    uint32_t bank_slots = 0;
    uint32_t bank_experts = 0;  // that these slots serve
    double device_miss = 0;     // share of expert demands that are uploaded
    double disk_miss = 0;       // of which read from the disk
    // Of decoding, and of prompts where devices compute all layers and every layer's experts come to them; else 0.
    // Nothing where experts would be shared out among cards and other machines.
    Prediction prediction;

    bool is_predicted() const { return prediction.token_s > 0; }
};

// `base`: the plan without devices, whose memory the cards' misses fall back on. As many cards are used as card_count.h
// says, and all other machines that `machine` knows; layers are shared out by room. Nothing where the machine has no
// such device with rates, or nothing of the model fits `room_bytes` (0: what was free when they were measured).
std::optional<DeviceOutlook> device_outlook(const ModelDemand& demand, const Machine& machine, const DiskProfile& disk,
                                            const PlanRequest& request, const Plan& base, uint64_t room_bytes,
                                            std::optional<uint32_t> gpu_layers);

}  // namespace hypura::placement
