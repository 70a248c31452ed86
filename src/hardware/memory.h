// How much memory this process may really use: the machine's, and what its control groups leave of it.
#pragma once

#include "base/status.h"

#include <cstdint>
#include <string>

namespace hypura::hardware {

struct MemoryLimits {
    uint64_t physical_bytes = 0;      // of the machine (MemTotal)
    uint64_t available_bytes = 0;     // that new allocations can get now without swapping (MemAvailable)
    uint64_t cgroup_limit_bytes = 0;  // smallest limit on the way up the cgroup tree; 0: none
    uint64_t cgroup_used_bytes = 0;   // charged to the group of that limit, reclaimable page cache left out
    std::string limited_by;           // "machine", or the cgroup file that sets the limit
    // What is left for this process: the smaller of both views.
    uint64_t usable_bytes() const;
    // What a program that is not told better should take: that, less a margin. For the rest of a machine a tenth, at
    // least 512 MiB, at most half. A control group is ours alone, as a rule, and what the kernel needs for us is all
    // that comes on top, 10 MiB at 4 GiB: there a thirty-second, at least 64 MiB, at most a quarter.
    uint64_t budget_bytes() const;
};

// `root` is prefixed to /proc and /sys paths: tests point it at a folder of recorded files.
// Understands cgroup v1, v2 and hybrid hosts. Missing files mean no limit.
Result<MemoryLimits> memory_limits(const std::string& root = "");

// Of this process, from /proc/self: what it holds, and page faults since it began.
struct ProcessMemory {
    uint64_t resident_bytes = 0;
    uint64_t peak_resident_bytes = 0;
    uint64_t anonymous_bytes = 0;
    uint64_t data_bytes = 0;  // address space for data: also counts buffers that are allocated and not touched yet
    uint64_t minor_faults = 0;
    uint64_t major_faults = 0;
};
// kUnsupportedHost where /proc/self/statm cannot be read: zeros would be taken for an empty process.
Result<ProcessMemory> process_memory(const std::string& root = "");

// Physical cores this process may run on (affinity and cgroup quota respected); at least 1.
uint32_t usable_cores(const std::string& root = "");

}  // namespace hypura::hardware
