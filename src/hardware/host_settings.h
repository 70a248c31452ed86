// Settings of the system that streaming depends on, as they are now. Judging them is the business of `hypura doctor`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace hypura::hardware {

struct HostSettings {
    std::optional<uint64_t> memlock_bytes;  // RLIMIT_MEMLOCK; empty: no limit
    std::string huge_pages;                 // "always", "madvise", "never"; empty where the kernel does not tell
    uint64_t swap_bytes = 0;
    uint64_t swap_used_bytes = 0;
    std::string kernel;       // "6.18.5"
    bool gpu_driver = false;  // a graphics device or NVIDIA's driver is there
};

// `root` is prefixed to /proc, /sys and /dev paths, as in memory.h.
HostSettings host_settings(const std::string& root = "");

}  // namespace hypura::hardware
