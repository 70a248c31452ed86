// The parts of usable_cores() (memory.h) that do not depend on the running process.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace hypura::hardware {

// Physical cores among the logical processors `cpus`; their number when the machine does not tell siblings.
uint32_t physical_cores(const std::string& root, std::span<const uint32_t> cpus);

// Whole cores that the tightest cgroup quota allows; UINT32_MAX without one; at least 1.
uint32_t quota_cores(const std::string& root);

}  // namespace hypura::hardware
