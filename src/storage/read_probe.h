// How fast given ranges of given files can be read, at a given depth, through the BlockReader that streams weights:
// the disk ceiling of `hypura bench`. disk_probe.h measures a disk by itself, at random places and aligned sizes; here
// the requests are those of a run, with their odd lengths and offsets.
#pragma once

#include "base/status.h"
#include "storage/reader.h"

#include <cstdint>
#include <functional>
#include <span>

namespace hypura::storage {

struct ProbeRange {
    uint32_t file = 0;  // index into the reader's files
    uint64_t offset = 0;
    uint64_t bytes = 0;
};

struct ProbeLoad {
    std::span<const ProbeRange> ranges;  // read in this order; from the first again when they run out
    uint32_t depth = 1;                  // ranges outstanding at a time
    int64_t least_us = 0;                // submits no more after this long
    uint64_t most_reads = UINT64_MAX;    // or after so many
    // If there is one: asked on the calling thread before each range but the first, may block until the range is
    // wanted, and ends the load with false.
    std::function<bool(uint64_t bytes)> is_wanted = {};
};

struct ProbeResult {
    uint64_t reads = 0;  // ranges
    uint64_t bytes = 0;  // that the kernel returned: ranges and what alignment adds
    int64_t wall_us = 0;
    int64_t cpu_us = 0;     // user and system time of the process meanwhile
    int64_t median_us = 0;  // from submitting a range to having it
    int64_t p99_us = 0;

    double bytes_per_second() const;
    double cpu_seconds_per_gib() const;
};

// Nothing else may be outstanding on `reader`. Destinations are huge pages that are committed before the clock starts.
// An error is the first failed range's.
Result<ProbeResult> probe_reads(BlockReader& reader, const ProbeLoad& load);

}  // namespace hypura::storage
