// The processor: what it is, and how fast its memory can be read.
#pragma once

#include "base/status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace hypura::hardware {

struct Processor {
    std::string name;                   // "AMD EPYC"; empty where the kernel does not tell
    uint32_t usable_cores = 1;          // physical ones that this process may use (memory.h)
    std::vector<std::string> features;  // of the instruction set, those that matter to matrix products
};

// `root` is prefixed to /proc and /sys paths, as in memory.h.
Processor processor(const std::string& root = "");

// Bytes a second that `threads` threads read together from memory far larger than the caches (64 MiB each, about 0.2
// s).
Result<double> measure_memory_bandwidth(uint32_t threads);

}  // namespace hypura::hardware
