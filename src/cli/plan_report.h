// A plan for people, for programs, and as a picture.
#pragma once

#include "placement/device_choice.h"
#include "placement/device_outlook.h"
#include "placement/planner.h"

#include <nlohmann/json_fwd.hpp>

#include <optional>
#include <string>
#include <vector>

namespace hypura::cli {

struct PlanReport {
    placement::Plan plan;
    std::vector<placement::WhatIf> what_if;
    uint64_t ram_bytes = 0;
    bool machine_measured = false;
    bool disk_measured = false;
    uint32_t prompt_tokens = 0;
    std::optional<placement::DeviceOutlook> device;  // with the graphics card, if there is one
    placement::DeviceChoice device_choice;           // whether auto uses it; without a reason: it was asked for
};

std::string plan_text(const PlanReport& report);
nlohmann::ordered_json plan_json(const PlanReport& report);

// A row a layer, as long as its bytes: what stays in memory, the share of the experts that slots hold, what is read
// from the disk.
std::string plan_svg(const PlanReport& report, const std::string& title);

}  // namespace hypura::cli
